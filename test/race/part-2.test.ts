import { race } from "./worlds.js";

race(2, 2);
