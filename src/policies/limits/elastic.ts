import { SampleWindow, type WindowSummary } from "../../core/stats/sample-window.js";
import type { Evidence, RampingLimit } from "./limit.js";
import { SlowStart } from "./slow-start.js";

export interface ElasticOptions {
  /** The lowest limit, a whole number from 1 to `max`. @defaultValue 8, or `max` when that is lower */
  readonly min?: number;
  /** The highest limit, and the limit at the start: a whole number from 1 to 1,000,000. @defaultValue 1_000 */
  readonly max?: number;
  /** How often the limit may change, in milliseconds from 10 to 24 days. @defaultValue 500 */
  readonly windowMs?: number;
  /**
   * The latency that counts as too slow, for all calls: calls are held up when fewer than nine in ten are faster. In
   * milliseconds from 1 to 24 days; `false` for none.
   * @defaultValue each call is judged by itself. It is held up when it takes longer than half of its deadline and longer
   *   than 1.5 times the usual time of its method; without a deadline, longer than a second and 10 times the usual time
   */
  readonly ceilingMs?: number | false;
}

/** What the limit asks the server, once in each window unless said otherwise. */
export interface ElasticSignals {
  /** The latency that counts as too slow, in milliseconds; `undefined` for none. */
  ceilingMs(): number | undefined;
  /**
   * The share of the calls since the last question that took too long, each judged by its own method and deadline. Where
   * this function is absent, all calls are compared with the ceiling.
   */
  heldUp?(): number;
  /**
   * Half of the calls ran out of time, with deadlines that are usually long enough. Where this function is absent, a trial
   * needs only calls that are held up.
   */
  late?(nowMs: number): boolean;
  /** The share of the calls since the last question that took longer than usual for their method. */
  slowed?(): number;
  /** Calls that run or wait for a slot. Called for each call that ends. */
  demand(): number;
}

/** The factor by which a trial lowers the limit, in each of its first two windows. */
const trialStep = 0.85;
/** How many windows a trial takes. */
const trialWindows = 3;
/** The factor by which a trial raises the limit. */
const growStep = 1.4;
/** How often the limit tries to grow while it is held down. */
const growEveryMs = 10_000;
/** How long the limit is held down after slow start alone has found a queue. */
const guessMs = 1_000;
/** While the limit is held down, the 90th percentile of latency should lie between this share of the ceiling and the ceiling. */
const targetShare = 0.9;
/**
 * As many calls are allowed as are served within this share of the ceiling, where the limit is not tried yet but reckoned. Less
 * than the target, because what is reckoned from a mean is exceeded by half of the calls.
 */
const allowedShare = 0.5;
/** A trial has had an effect when the calls in flight changed by this factor or more. */
const effect = 0.95;
/** Calls count as held up when more than this share of them is. */
const heldUpShare = 0.1;
/** Above this elasticity, fewer calls mean less goodput in proportion: the calls do not wait for each other. */
const elasticFrom = 0.5;
/** Calls pile up when their number grows by this many standard deviations in each of at least so many windows in a row. */
const pilingDeviations = 2;
const pilingWindows = 2;
/** After a trial without success, none follows for so long; twice as long each time. */
const shortestMuteMs = 15_000;
const longestMuteMs = 120_000;

/** The numbers before a trial, to compare with. */
interface Before {
  readonly limit: number;
  readonly goodPerSecond: number;
  readonly inFlight: number;
}

type Phase =
  /** Latency is fine. */
  | { readonly kind: "open" }
  /** A trial: the limit is lowered, or raised from `shrink`, to see what goodput does. */
  | { readonly kind: "trial"; readonly up: boolean; readonly before: Before; windows: number }
  /**
   * A lower limit did not cost goodput, or slow start has found a queue: calls wait for each other, and the limit keeps that
   * wait short. After `holdMs` it is tried whether more would help.
   */
  | { readonly kind: "shrink"; readonly holdMs: number };

/**
 * A limit that tells overload from a slow dependency.
 *
 * - When calls are held up and pile up, or half of them run out of time, it makes a trial: it lowers the limit a
 *   little and looks at goodput. If goodput falls in proportion, the calls are slow and do not wait for each other (a slow
 *   dependency), and the limit opens again for a while. If goodput stays, they wait in a queue behind this server (for a
 *   connection pool or a lock), and the limit keeps that queue short.
 * - When few calls were running and their number surges, a {@link SlowStart} holds them back before latency rises.
 *
 * It starts at `max`: a limit that has to learn its way up would refuse good calls after each start.
 */
export class ElasticLimit implements RampingLimit {
  readonly #min: number;
  readonly #max: number;
  readonly #windowMs: number;
  readonly #signals: ElasticSignals;
  readonly #window: SampleWindow;
  readonly #slowStart: SlowStart;
  #limit: number;
  #phase: Phase = { kind: "open" };
  /** Since when the limit is held down. */
  #heldSinceMs = Number.POSITIVE_INFINITY;
  /** When the first call ended that began since then. What ended before says nothing of the limit. */
  #feltMs: number | undefined;
  /** How many calls ran or waited when the last window closed, and in how many windows in a row that number grew. */
  #demand = 0;
  #piled = 0;
  #mutedUntilMs = Number.NEGATIVE_INFINITY;
  #muteMs = shortestMuteMs;

  constructor(options: Required<Omit<ElasticOptions, "ceilingMs">>, signals: ElasticSignals) {
    this.#min = options.min;
    this.#max = options.max;
    this.#windowMs = options.windowMs;
    this.#signals = signals;
    this.#limit = options.max;
    this.#slowStart = new SlowStart(options.min);
    this.#window = new SampleWindow(options.windowMs, 20);
  }

  get current(): number {
    return Math.floor(this.#limit);
  }

  get ramp(): number {
    return this.#slowStart.ramp;
  }

  rampHolds(nowMs: number): void {
    this.#slowStart.holds(nowMs);
  }

  /** What it is doing, for people. */
  get phase(): Phase["kind"] {
    return this.#phase.kind;
  }

  record(nowMs: number, tookMs: number, inFlight: number, outcome: Evidence): void {
    const served = outcome === "success";
    this.#watch(nowMs, tookMs, served);
    if (nowMs - tookMs >= this.#heldSinceMs) this.#feltMs ??= nowMs;
    const seen = this.#window.record(nowMs, tookMs, inFlight, served);
    if (!this.#slowStart.rested && this.#window.samples > 0) this.#learnCalm(nowMs, this.#window);
    if (seen === undefined) return;
    this.#seeDemand();
    const heldUp = this.#signals.heldUp?.();
    const slowed = this.#signals.slowed?.();
    const over = heldUp === undefined ? this.#isOver(seen) : heldUp > heldUpShare;
    this.#limit = Math.min(this.#max, Math.max(this.#min, this.#next(nowMs, seen, over)));
    this.#learnCalm(nowMs, seen, slowed);
  }

  #learnCalm(nowMs: number, seen: WindowSummary, slowedShare = 0): void {
    if (this.#phase.kind !== "open" || nowMs < this.#mutedUntilMs) {
      this.#slowStart.forget();
      return;
    }
    const { maxInFlight: inFlight, meanMs: tookMs, goodPerSecond: perSecond } = seen;
    this.#slowStart.rest({ inFlight, tookMs, perSecond }, slowedShare);
  }

  /**
   * A surge can fill a queue in less time than a window. When slow start finds that, the limit becomes the number of calls
   * that are served within the ceiling at the rate at which they end.
   */
  #watch(nowMs: number, tookMs: number, served: boolean): void {
    if (this.#phase.kind !== "open" || nowMs < this.#mutedUntilMs) return;
    const demand = this.#signals.demand();
    const perSecond = this.#slowStart.record(nowMs, tookMs, demand, served);
    if (perSecond === undefined) return;
    const fits = this.#fits(perSecond);
    if (fits === undefined || demand < fits / allowedShare) return;
    this.#limit = Math.min(this.#limit, Math.max(this.#min, fits));
    // It is a guess, made before any call is late, so a trial soon tests it.
    this.#hold(guessMs, nowMs);
  }

  #hold(holdMs: number, nowMs: number): void {
    this.#phase = { kind: "shrink", holdMs };
    this.#heldSinceMs = nowMs;
    this.#feltMs = undefined;
  }

  /** How many calls in flight are served well within the ceiling, at a rate (Little's law). */
  #fits(perSecond: number): number | undefined {
    const ceilingMs = this.#signals.ceilingMs();
    return ceilingMs === undefined ? undefined : (allowedShare * ceilingMs * perSecond) / 1000;
  }

  #next(nowMs: number, seen: WindowSummary, over: boolean): number {
    const phase = this.#phase;
    switch (phase.kind) {
      case "open":
        return this.#open(nowMs, seen, over);
      case "trial":
        return this.#trial(phase, nowMs, seen);
      case "shrink":
        return this.#shrink(phase, nowMs, seen, over);
    }
  }

  #open(nowMs: number, seen: WindowSummary, over: boolean): number {
    if (nowMs < this.#mutedUntilMs) return this.#limit * 1.25;
    // A trial lowers the limit, so there is none for calls that are slow but neither pile up nor run out of time.
    if (!over || !this.#isPiling(nowMs, seen)) {
      this.#muteMs = shortestMuteMs;
      return this.#limit * 1.25;
    }
    this.#try(false, seen);
    return trialStep * seen.meanInFlight;
  }

  /** Calls come faster than they end, or half of them run out of time. */
  #isPiling(nowMs: number, { meanMs }: WindowSummary): boolean {
    // When all calls become slower, more of them run until the first of those have ended, although no more come than end.
    const windows = Math.max(pilingWindows, 1 + Math.ceil(meanMs / this.#windowMs));
    return this.#piled >= windows || this.#signals.late?.(nowMs) !== false;
  }

  #seeDemand(): void {
    const before = this.#demand;
    this.#demand = this.#signals.demand();
    // Fewer calls than the lowest limit pile up in no way that a limit could help.
    const least = Math.max(this.#min, before + pilingDeviations * Math.sqrt(before));
    this.#piled = this.#demand > least ? this.#piled + 1 : 0;
  }

  #try(up: boolean, { goodPerSecond, meanInFlight: inFlight }: WindowSummary): void {
    const before = { limit: this.#limit, goodPerSecond, inFlight };
    this.#phase = { kind: "trial", up, before, windows: 0 };
  }

  #trial(phase: Extract<Phase, { kind: "trial" }>, nowMs: number, seen: WindowSummary): number {
    phase.windows += 1;
    if (phase.windows < trialWindows) {
      return phase.up || phase.windows > 1 ? this.#limit : this.#limit * trialStep;
    }
    const { before, up } = phase;
    const change = seen.meanInFlight / before.inFlight;
    const tried = up ? change * effect > 1 : change < effect;
    if (!tried || elasticity(before, seen) > elasticFrom) {
      // Fewer calls in flight cost goodput, so they do not wait for each other. Or the trial had no effect, because fewer
      // calls run than the limit allows, and goodput that stays proves nothing.
      this.#phase = { kind: "open" };
      this.#mutedUntilMs = nowMs + this.#muteMs;
      this.#muteMs = Math.min(longestMuteMs, 2 * this.#muteMs);
      return Math.max(this.#limit, before.limit);
    }
    this.#hold(growEveryMs, nowMs);
    return up ? before.limit : Math.min(this.#limit, this.#fits(seen.goodPerSecond) ?? Infinity);
  }

  #shrink(
    phase: Extract<Phase, { kind: "shrink" }>,
    nowMs: number,
    seen: WindowSummary,
    over: boolean,
  ): number {
    const feltMs = this.#feltMs;
    if (feltMs === undefined) return this.#limit;
    if (seen.maxInFlight < this.#limit / 2) {
      this.#phase = { kind: "open" };
      return this.#limit * 1.25;
    }
    if (nowMs >= feltMs + phase.holdMs) {
      this.#try(true, seen);
      return this.#limit * growStep;
    }
    const ceilingMs = this.#signals.ceilingMs();
    if (over) return this.#limit * 0.9;
    if (ceilingMs === undefined || seen.p90Ms < targetShare * ceilingMs) {
      return this.#limit + Math.sqrt(this.#limit) / 2;
    }
    return this.#limit;
  }

  #isOver(seen: WindowSummary): boolean {
    const ceilingMs = this.#signals.ceilingMs();
    return ceilingMs !== undefined && seen.p90Ms > ceilingMs;
  }
}

/**
 * By how many per cent goodput changed for each per cent of concurrency. 1: each call does its own work, and fewer
 * calls do less of it. 0: more calls only wait for each other.
 */
function elasticity(before: Before, seen: WindowSummary): number {
  // No call was in time, before or now: that is no matter of concurrency.
  if (before.goodPerSecond === 0 || seen.goodPerSecond === 0) return 0;
  const goodput = seen.goodPerSecond / before.goodPerSecond;
  return Math.log(goodput) / Math.log(seen.meanInFlight / before.inFlight);
}
