import type { Random } from "./clock.js";
import { cohorts } from "./priority.js";

/** What a server says of the calls it would refuse. */
export interface AdmissionLevel {
  /**
   * Calls whose place is at or above it are refused: places go from 0, the last of `critical` to be refused, to just
   * below 4, the first of `low`. See {@link placeOf}.
   */
  readonly level: number;
  /** How long that holds, in milliseconds. */
  readonly ttlMs: number;
}

/**
 * The place of a call: its rank, and behind the point its cohort, of which the lower ones are refused first. A call
 * without a cohort is refused with the last of its rank.
 */
export function placeOf(rank: number, cohort = cohorts - 1): number {
  return rank + (cohorts - 1 - cohort) / cohorts;
}

/** `critical` is refused by nobody's level. */
export function isDoomed(place: number, level: number): boolean {
  return place >= 1 && place >= level;
}

/** So many answers in a row have to say it. */
const agreeing = 5;

/**
 * The admission level of one target, as its answers tell it. Behind a target may stand many servers, of which one
 * sheds: a level counts only when the last five answers all had one, and then the highest of the five does. An
 * answer without a level speaks for a server that sheds nothing, and ends it at once; so does time.
 *
 * Of the calls that are held back, a small share goes on all the same, and one each quarter of the time that the level
 * holds, or nobody would see that it has been lifted.
 */
export class HeardLevel {
  readonly #random: Random;
  readonly #probeRatio: number;
  readonly #levels = new Float64Array(agreeing);
  #heard = 0;
  #untilMs = Number.NEGATIVE_INFINITY;
  #probeEveryMs = 0;
  #probedAtMs = 0;

  constructor(probeRatio: number, random: Random) {
    this.#probeRatio = probeRatio;
    this.#random = random;
  }

  /** An answer came without a level. */
  silence(): void {
    this.#heard = 0;
  }

  /** An answer came with a level. */
  hear({ level, ttlMs }: AdmissionLevel, nowMs: number): void {
    if (nowMs >= this.#untilMs) this.#heard = 0;
    this.#levels[this.#heard % agreeing] = level;
    this.#heard += 1;
    if (this.#heard === agreeing) this.#probedAtMs = nowMs;
    this.#untilMs = nowMs + ttlMs;
    this.#probeEveryMs = ttlMs / 4;
  }

  /** Nobody has a level to say. Cheap: no clock is needed to ask. */
  get silent(): boolean {
    return this.#heard < agreeing;
  }

  /** The level in force, if there is one. */
  level(nowMs: number): number | undefined {
    if (this.silent || nowMs >= this.#untilMs) return undefined;
    return Math.max(...this.#levels);
  }

  /** For how many milliseconds a call is held back; `undefined`: it goes on, as a probe if need be. */
  holdsBackMs(place: number, nowMs: number): number | undefined {
    const level = this.level(nowMs);
    if (level === undefined || !isDoomed(place, level)) return undefined;
    const due = nowMs - this.#probedAtMs >= this.#probeEveryMs;
    if (due || this.#random() < this.#probeRatio) {
      this.#probedAtMs = nowMs;
      return undefined;
    }
    return this.#untilMs - nowMs;
  }
}
