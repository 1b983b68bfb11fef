import { setTimeout as sleep } from "node:timers/promises";

/**
 * Asks until the answer is what was waited for, and returns it. An error counts as no.
 *
 * @throws After 15 s, with the last answer or error.
 */
export async function until<T>(
  question: () => T | Promise<T>,
  isIt: (answer: T) => boolean = Boolean,
): Promise<T> {
  const lastMs = performance.now() + 15_000;
  for (;;) {
    let last: unknown;
    try {
      const answer = await question();
      if (isIt(answer)) return answer;
      last = answer;
    } catch (error) {
      last = error;
    }
    if (performance.now() > lastMs) throw new Error("nothing came of it in 15 s", { cause: last });
    await sleep(20);
  }
}
