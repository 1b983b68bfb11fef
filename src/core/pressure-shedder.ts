import { cohorts } from "./cohort.js";
import type { PressureMeter } from "./pressure-meter.js";
import { isProcessSignal } from "./pressure-options.js";
import { priorities, priorityRank } from "./priority.js";
import type { ServerLoad, ShedCall, Shedder } from "./shedder.js";

export interface PressureShedderOptions {
  /**
   * Names of the signals that shed. A busy event loop alone does not: at its best a server is as busy as that.
   * @defaultValue memory, loopDelayMs and the signals of one's own
   */
  readonly shedOn?: readonly string[];
  /** The pressure that shedding aims at, above 0 and below 1. @defaultValue 0.5 */
  readonly target?: number;
  /** The most that is shed of what is not critical, above 0 and up to 1. @defaultValue 0.95 */
  readonly maxShare?: number;
}

/** How often the share is reconsidered. */
const stepMs = 100;
/** What a second of full excess pressure adds to the share. */
const gainPerSecond = 1;
/** How fast the share falls while there is no pressure at all: all of it in four seconds. */
const reliefPerSecond = 0.25;
/** Time in which the mix of arrivals forgets half of what it knew. */
const mixHalfLifeMs = 1_000;

/**
 * Sheds by pressure: while it is above the target, a growing share of the calls is refused, the lowest priority first
 * and inside it the lowest cohorts, so that it is the same users everywhere who wait. The share is turned into a
 * level by the mix in which calls arrive of late, as in Uber's Cinnamon; it moves by the excess over time (the
 * integral part of their controller), because a share read from the pressure itself would swing with it.
 *
 * What the process reads of itself counts while calls are late: a process may be hard pressed and serve all calls in time,
 * and refusing some would serve nobody then. A signal of the user's own is the user's word, and counts by itself.
 */
export class PressureShedder implements Shedder {
  readonly #meter: Pick<PressureMeter, "of">;
  readonly #target: number;
  readonly #maxShare: number;
  readonly #ofProcess: readonly string[];
  readonly #own: readonly string[];
  readonly #late: (nowMs: number) => boolean;
  /** Arrivals by rank, fading. */
  readonly #mix: number[] = priorities.map(() => 0);
  #share = 0;
  #steppedMs = Number.NEGATIVE_INFINITY;
  /** Ranks above are shed; of this rank, the cohorts below the second. */
  #rank: number = priorities.length;
  #cohort = 0;

  /** @param late Calls that could have been served in time are not, or a queue says that they will not be. */
  constructor(
    options: Required<PressureShedderOptions>,
    meter: Pick<PressureMeter, "of">,
    late: (nowMs: number) => boolean,
  ) {
    this.#meter = meter;
    this.#late = late;
    this.#target = options.target;
    this.#maxShare = options.maxShare;
    this.#ofProcess = options.shedOn.filter(isProcessSignal);
    this.#own = options.shedOn.filter((name) => !isProcessSignal(name));
  }

  /** The share of the calls that are not critical that is shed now, from 0 to 1. */
  shareAt(nowMs: number): number {
    if (nowMs - this.#steppedMs >= stepMs) this.#step(nowMs);
    return this.#share;
  }

  judge({ priority, cohort }: ShedCall, { nowMs }: ServerLoad): string | undefined {
    const share = this.shareAt(nowMs);
    const rank = priorityRank[priority];
    this.#mix[rank] = (this.#mix[rank] ?? 0) + 1;
    if (rank < this.#rank || (rank === this.#rank && cohort >= this.#cohort)) return undefined;
    return `pressure sheds ${(100 * share).toFixed(0)} % of what is not critical`;
  }

  #step(nowMs: number): void {
    const sinceMs = nowMs - this.#steppedMs;
    this.#steppedMs = nowMs;
    const fades = 0.5 ** (sinceMs / mixHalfLifeMs);
    // A silence is time without pressure, and the reading at its end is of this moment only.
    const silenceMs = sinceMs > 10 * stepMs ? sinceMs : 0;
    const spanMs = silenceMs > 0 ? stepMs : sinceMs;
    const pressure = Math.max(
      this.#meter.of(this.#own),
      this.#late(nowMs) ? this.#meter.of(this.#ofProcess) : 0,
    );
    const excess = (pressure - this.#target) / (1 - this.#target);
    const change = pressure === 0 ? -reliefPerSecond : Math.max(excess, -1) * gainPerSecond;
    const before = Math.max(0, this.#share - (reliefPerSecond * silenceMs) / 1000);
    const share = before + (change * spanMs) / 1000;
    this.#share = Math.min(this.#maxShare, Math.max(0, share));
    this.#place();
    for (let rank = 0; rank < this.#mix.length; rank += 1) {
      this.#mix[rank] = (this.#mix[rank] ?? 0) * fades;
    }
  }

  /** Finds the level under which the share of the arrivals lies. */
  #place(): void {
    let arrivals = 0;
    for (let rank = 1; rank < this.#mix.length; rank += 1) arrivals += this.#mix[rank] ?? 0;
    let left = this.#share * arrivals;
    this.#rank = priorities.length;
    this.#cohort = 0;
    for (let rank = this.#mix.length - 1; rank > 0 && left > 0; rank -= 1) {
      const here = this.#mix[rank] ?? 0;
      this.#rank = rank;
      this.#cohort = here === 0 ? cohorts : Math.ceil(cohorts * Math.min(1, left / here));
      left -= here;
    }
  }
}
