import { race } from "./worlds.js";

// `test/deep/race` runs many more.
race(300);
