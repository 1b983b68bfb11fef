import { race } from "../../race/worlds.js";

race(7_500, 2, 2);
