import { race } from "./worlds.js";

race(1, 2);
