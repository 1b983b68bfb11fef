import type { Random } from "../../core/clock.js";

/**
 * Chance that repeats: the same seed gives the same numbers on every machine. Only the low 32 bits of the seed count.
 *
 * The generator is mulberry32 by Tommy Ettinger (public domain), with 32 bits of state and a period of 2^32. It is good
 * enough for a simulation, and not for secrets.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export function seededRandom(seed: number): Random {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
