import type { Random } from "./clock.js";

/** The first pause and the longest one, in milliseconds. */
const firstMs = 10;
const longestMs = 250;

/**
 * The shortest pause before a store or a server is asked again that keeps answering "try again at once": its answers must
 * not make this process loop. It grows from 10 ms to 250 ms, and each pause is shorter by up to a half at random.
 *
 * @param times How many such answers came in a row. 0: no pause.
 */
export function pauseMs(times: number, random: Random): number {
  if (times === 0) return 0;
  return Math.min(longestMs, firstMs * 2 ** (times - 1)) * (1 - random() / 2);
}
