import { InvalidOptionError, ratio, readOptions } from "../../core/options.js";
import {
  cohorts,
  type Priority,
  priorities,
  priorityRank,
  usableShare,
} from "../../core/priority.js";
import type { PressureMeter } from "../pressure/meter.js";
import { isProcessSignal } from "../pressure/options.js";

/** What a shedder sees of a call. */
export interface ShedCall {
  readonly priority: Priority;
  /** The group of users it is of, from 0 to 127. Inside a priority the lower cohorts are shed first, in all services alike. */
  readonly cohort: number;
}

/** What a shedder sees of the server. */
export interface ServerLoad {
  /** (running + queued) / (limit + maxQueued), from 0 to 1, or a little above while critical calls use their headroom. */
  readonly load: number;
  readonly nowMs: number;
  /** The lowest priority that waits for a slot; `undefined` when nobody does. */
  readonly worstWaiting: Priority | undefined;
  /** The next call of the priority is owed a slot (`QueueOptions.minShare`). */
  readonly owed: boolean;
  /** A call of the same priority waits whose caller has used more of late: that one goes first. @defaultValue never */
  readonly heavierWaits?: () => boolean;
}

/** Refuses calls before the queue is full, so that room is left for better ones. It is not asked of `critical` calls. */
export interface Shedder {
  /** Why the call is refused, for people; `undefined` when it is not. Runs for each call. */
  judge(call: ShedCall, server: ServerLoad): string | undefined;
}

/**
 * Loads, above 0 and up to 1, from which a priority is refused. Load is (running + queued) / (limit + maxQueued). They rise
 * with the priority: low ≤ normal ≤ high. At 1 there is no threshold: calls are refused only when no slot is free, the queue
 * is full, and no worse call can be evicted.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
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
 * Refuses each priority from a load of its own. Not while a call waits that is evicted before this one when the queue is
 * full: of a lower priority, or of a caller that has used more. And no call that is owed a slot.
 */
export class LoadThresholds implements Shedder {
  readonly #thresholds: ResolvedThresholds;
  /** The texts of refusals, made once: to format a fraction costs more than to compare with it. */
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

  judge({ priority }: ShedCall, server: ServerLoad): string | undefined {
    const { load, worstWaiting, owed } = server;
    if (priority === "critical" || owed) return undefined;
    const threshold = this.#thresholds[priority];
    // At a load of 1 the queue is full, which has rules of its own. The tolerance is for a load that equals the threshold
    // but for the rounding of floating point.
    if (threshold >= 1 || load < threshold - 1e-9) return undefined;
    if (worstWaiting !== undefined && priorityRank[worstWaiting] > priorityRank[priority]) {
      return undefined;
    }
    if (server.heavierWaits?.() === true) return undefined;
    return this.#reached[priority];
  }
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveThresholds(given: AdmissionThresholds, path: string): ResolvedThresholds {
  const thresholds = readOptions(path, given, ["low", "normal", "high"]);
  const { low: ofLow, normal: ofNormal, high: ofHigh } = thresholds;
  const low = ratio(`${path}.low`, ofLow === undefined ? usableShare.low : ofLow);
  const normal = ratio(`${path}.normal`, ofNormal === undefined ? usableShare.normal : ofNormal);
  const high = ratio(`${path}.high`, ofHigh === undefined ? usableShare.high : ofHigh);
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
   * Names of the signals that shed. How busy the event loop is (`eventLoop`) is not among the defaults: a server at its best
   * throughput is just as busy. @defaultValue `memory`, `loopDelayMs` and the signals of your own
   */
  readonly shedOn?: readonly string[];
  /** The pressure that shedding aims at, above 0 and below 1. @defaultValue 0.5 */
  readonly target?: number;
  /** The largest share of the calls that are not critical that may be shed, above 0 and up to 1. @defaultValue 0.95 */
  readonly maxRefusedShare?: number;
}

/** How often the share is set, in milliseconds. */
const stepMs = 100;
/** What a second at the highest pressure adds to the share. */
const gainPerSecond = 1;
/** By how much the share falls in a second without any pressure: from all to nothing in four seconds. */
const reliefPerSecond = 0.25;
/** Half-life of what is known of the mix of arrivals, in milliseconds. */
const mixHalfLifeMs = 1_000;

/**
 * Sheds by pressure. While the pressure is above the target, a growing share of the calls is refused: the lowest priority
 * first, and inside it the lowest cohorts, so that it is the same users in all services who go without.
 *
 * The share is turned into a priority and a cohort by the mix in which calls arrived of late, as in Uber's Cinnamon. It moves
 * by the excess of the pressure over time (the integral part of their controller): a share that followed the pressure itself
 * would swing with it.
 *
 * Signals that the process reads of itself count only while calls are late. A process may be hard pressed and serve all calls
 * in time; shedding would then help nobody. Signals of the user's own always count.
 */
export class PressureShedder implements Shedder {
  readonly #meter: Pick<PressureMeter, "of">;
  readonly #target: number;
  readonly #maxRefusedShare: number;
  readonly #ofProcess: readonly string[];
  readonly #own: readonly string[];
  readonly #late: (nowMs: number) => boolean;
  /** Recent arrivals by rank; older ones count less. */
  readonly #mix: number[] = priorities.map(() => 0);
  #share = 0;
  #steppedMs = Number.NEGATIVE_INFINITY;
  /** Ranks above `#rank` are shed, and of `#rank` itself the cohorts below `#cohort`. */
  #rank: number = priorities.length;
  #cohort = 0;

  /** @param late Calls are late that could have been served in time, or will be because the queue is a standing one. */
  constructor(
    options: Required<PressureShedderOptions>,
    meter: Pick<PressureMeter, "of">,
    late: (nowMs: number) => boolean,
  ) {
    this.#meter = meter;
    this.#late = late;
    this.#target = options.target;
    this.#maxRefusedShare = options.maxRefusedShare;
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
    // A second or more without a call counts as time without pressure: the reading is only of this moment.
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
    this.#share = Math.min(this.#maxRefusedShare, Math.max(0, share));
    this.#setLevel();
    for (let rank = 0; rank < this.#mix.length; rank += 1) {
      this.#mix[rank] = (this.#mix[rank] ?? 0) * fades;
    }
  }

  /** Finds the rank and the cohort below which the share of the arrivals lies. */
  #setLevel(): void {
    let arrivals = 0;
    for (let rank = 1; rank < this.#mix.length; rank += 1) arrivals += this.#mix[rank] ?? 0;
    let left = this.#share * arrivals;
    this.#rank = priorities.length;
    this.#cohort = 0;
    for (let rank = this.#mix.length - 1; rank > 0 && left > 0; rank -= 1) {
      const here = this.#mix[rank] ?? 0;
      this.#rank = rank;
      // More than there are where all of the rank are shed, and infinitely many where none has come.
      this.#cohort = Math.ceil((cohorts * left) / here);
      left -= here;
    }
  }
}
