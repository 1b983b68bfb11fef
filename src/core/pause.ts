import type { Random } from "./clock.js";

/** What a wait of no time becomes when it is asked for again, in milliseconds, and what that grows to. */
const firstMs = 10;
const longestMs = 250;

/**
 * How long somebody is left alone at least who answers "try again at once", again and again: what a store or a server
 * says of the time to wait must not make a loop hot. It grows from 10 ms to 250 ms, less up to a half by chance.
 *
 * @param times How often that was the answer, in a row; 0 asks for no pause.
 */
export function pauseMs(times: number, random: Random): number {
  if (times === 0) return 0;
  return Math.min(longestMs, firstMs * 2 ** (times - 1)) * (1 - random() / 2);
}
