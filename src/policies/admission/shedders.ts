import { InvalidOptionError, ratio, readOptions } from "../../core/options.js";
import { cohorts, type Priority, priorities, priorityRank } from "../../core/priority.js";
import type { PressureMeter } from "../pressure/meter.js";
import { isProcessSignal } from "../pressure/options.js";

/** What a shedder is told of a call. */
export interface ShedCall {
  readonly priority: Priority;
  /** Who is behind it, from 0 to 127: inside a priority the lower cohorts are shed first, the same ones everywhere. */
  readonly cohort: number;
}

/** How full a server is. */
export interface ServerLoad {
  /** (running + queued) / (limit + maxQueued), from 0 to 1, or a little above while critical calls use their headroom. */
  readonly load: number;
  readonly nowMs: number;
  /** The lowest priority that waits for a slot; `undefined` when nobody does. */
  readonly worstWaiting: Priority | undefined;
  /** The priority of the call has had less than the share of the turns that it is owed: its next call has one to come. */
  readonly owed: boolean;
}

/** Refuses calls before the queue, while there still is room for better ones. `critical` calls never reach it. */
export interface Shedder {
  /** Why the call is refused, for a person; `undefined` when it is not. Runs for each call. */
  judge(call: ShedCall, server: ServerLoad): string | undefined;
}

/**
 * Loads, above 0 and up to 1, from which a priority is refused. Load is (running + queued) divided by
 * (limit + maxQueued). They rise with the priority: low ≤ normal ≤ high. 1 is no threshold: such calls
 * are refused only when nothing is left, neither a permit nor a place nor a worse call to evict.
 */
export interface AdmissionThresholds {
  /** @defaultValue 0.70 */
  readonly low?: number;
  /** @defaultValue 0.85 */
  readonly normal?: number;
  /** @defaultValue 0.95 */
  readonly high?: number;
}

export type ResolvedThresholds = Readonly<Required<AdmissionThresholds>>;

/**
 * Refuses each priority from a load of its own; but nobody for the sake of those below: while a lower priority waits, it is
 * the one that has to go when the queue is full. And nobody who is owed a turn.
 */
export class LoadThresholds implements Shedder {
  readonly #thresholds: ResolvedThresholds;
  /** What is said of each, put together once: writing a fraction out costs more than to compare with it. */
  readonly #reached: Readonly<Record<keyof ResolvedThresholds, string>>;

  constructor(thresholds: ResolvedThresholds) {
    this.#thresholds = thresholds;
    const { low, normal, high } = thresholds;
    this.#reached = {
      low: `load has reached ${low} for low`,
      normal: `load has reached ${normal} for normal`,
      high: `load has reached ${high} for high`,
    };
  }

  judge({ priority }: ShedCall, { load, worstWaiting, owed }: ServerLoad): string | undefined {
    if (priority === "critical" || owed) return undefined;
    const threshold = this.#thresholds[priority];
    // At 1 the load can only say that the queue is full, and a full queue has a rule of its own. A share of whole
    // numbers may be a hair below the threshold that it is meant to be.
    if (threshold >= 1 || load < threshold - 1e-9) return undefined;
    if (worstWaiting !== undefined && priorityRank[worstWaiting] > priorityRank[priority]) {
      return undefined;
    }
    return this.#reached[priority];
  }
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveThresholds(given: AdmissionThresholds, path: string): ResolvedThresholds {
  const thresholds = readOptions(path, given, ["low", "normal", "high"]);
  const low = ratio(`${path}.low`, thresholds.low === undefined ? 0.7 : thresholds.low);
  const normal = ratio(
    `${path}.normal`,
    thresholds.normal === undefined ? 0.85 : thresholds.normal,
  );
  const high = ratio(`${path}.high`, thresholds.high === undefined ? 0.95 : thresholds.high);
  if (low > normal) {
    throw new InvalidOptionError(`${path}.low`, `at most ${path}.normal, ${normal}`, low);
  }
  if (normal > high) {
    throw new InvalidOptionError(`${path}.normal`, `at most ${path}.high, ${high}`, normal);
  }
  return Object.freeze({ low, normal, high });
}

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
