import type { Random } from "./clock.js";
import { cohorts } from "./priority.js";

/** Which calls a server refuses at present, as it announces it in its answers. */
export interface AdmissionLevel {
  /**
   * Calls whose place is at this level or above are refused. Places go from 0, refused last, to just below 4, refused first.
   * See {@link placeOf}.
   */
  readonly level: number;
  /** How long the level holds, in milliseconds. */
  readonly ttlMs: number;
}

/**
 * The place of a call in the order of shedding: its rank, and as the fraction its cohort. Inside a rank, lower cohorts have
 * higher places and are refused first. A call without a cohort is refused with the last of its rank.
 */
export function placeOf(rank: number, cohort = cohorts - 1): number {
  return rank + (cohorts - 1 - cohort) / cohorts;
}

/** Whether a level refuses a call at this place. It never refuses `critical`. */
export function isRefusedAt(place: number, level: number): boolean {
  return place >= 1 && place >= level;
}

/** A level counts once this many answers in a row had one. */
const agreeing = 5;

/**
 * The admission level of one target, as a client learns it from answers. A target may have many servers, of which only one
 * sheds. So a level counts only when the last five answers all had one, and then the highest of the five counts. It ends
 * with an answer without a level, which came from a server that sheds nothing, and when its time is up.
 *
 * To see when the level is lifted, some of the calls that it refuses are sent all the same, as probes: a small share of
 * them, and one in each quarter of the time for which the level holds.
 */
export class AnnouncedLevel {
  readonly #random: Random;
  /** Of the calls that the level refuses, so many are sent all the same, as a share. */
  passShare: number;
  readonly #levels = new Float64Array(agreeing);
  #answers = 0;
  #untilMs = Number.NEGATIVE_INFINITY;
  #probeEveryMs = 0;
  #probedAtMs = 0;

  constructor(passShare: number, random: Random) {
    this.passShare = passShare;
    this.#random = random;
  }

  /** Notes an answer without a level. */
  noteNone(): void {
    this.#answers = 0;
  }

  /** Notes an answer with a level. */
  note({ level, ttlMs }: AdmissionLevel, nowMs: number): void {
    if (nowMs >= this.#untilMs) this.#answers = 0;
    this.#levels[this.#answers % agreeing] = level;
    this.#answers += 1;
    if (this.#answers === agreeing) this.#probedAtMs = nowMs;
    this.#untilMs = nowMs + ttlMs;
    this.#probeEveryMs = ttlMs / 4;
  }

  /** True while too few answers had a level. Needs no clock, so that it costs nothing while no server sheds. */
  get silent(): boolean {
    return this.#answers < agreeing;
  }

  /** The level in force; `undefined` for none. */
  level(nowMs: number): number | undefined {
    if (this.silent || nowMs >= this.#untilMs) return undefined;
    return Math.max(...this.#levels);
  }

  /** How many milliseconds a call should wait before another try; `undefined` when it may be sent, perhaps as a probe. */
  holdsBackMs(place: number, nowMs: number): number | undefined {
    const level = this.level(nowMs);
    if (level === undefined || !isRefusedAt(place, level)) return undefined;
    const due = nowMs - this.#probedAtMs >= this.#probeEveryMs;
    if (due || this.#random() < this.passShare) {
      this.#probedAtMs = nowMs;
      return undefined;
    }
    return this.#untilMs - nowMs;
  }
}
