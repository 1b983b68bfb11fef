import { beforeEach } from "vitest";
import { seededRandom } from "../src/testing/clock/seeded-random.js";

// The chance of the process follows from the name of the test. What a test leaves to chance, such as the jitter of a
// backoff, is then the same in every run, and not another one once in a hundred.
beforeEach(({ task }) => {
  let seed = 0;
  for (const letter of task.name) seed = Math.imul(seed, 31) + letter.charCodeAt(0);
  Math.random = seededRandom(seed);
});
