import { SampleWindow, type WindowSummary } from "../../core/stats/sample-window.js";
import { Gradient } from "./gradient2.js";

import type { Evidence, RampingLimit } from "./limit.js";

import { SlowStart } from "./slow-start.js";

export interface ElasticOptions {
  /** The floor. @defaultValue 8 */
  readonly min?: number;
  /** The hard cap, and where it starts. @defaultValue 1_000 */
  readonly max?: number;
  /** How often it may change. 10 ms to 24 days. @defaultValue 500 */
  readonly windowMs?: number;
  /**
   * Calls of which nine in ten are faster than this are not held up. A number of milliseconds, or `false` for none.
   * @defaultValue each call is measured by itself: it is held up when it takes longer than half of its own deadline and
   *   half as long again as calls of its method usually do; without a deadline, a second and ten times as long
   */
  readonly ceilingMs?: number | false;
}

/** What the limit asks of the process around it, once a window. */
export interface ElasticSignals {
  /** This process has no more to give: its event loop, its CPU, its memory. */
  saturated(): boolean;
  /** The latency ceiling, in milliseconds; `undefined` for none. */
  ceilingMs(): number | undefined;
  /**
   * The share of the calls since it was asked last that took longer than they should, each by its own method and deadline.
   * Without it, all are measured by the ceiling.
   */
  heldUp?(): number;
  /** Most calls run out of a time that usually does. Without it, it is enough for a trial that calls are held up. */
  late?(nowMs: number): boolean;
  /** Calls that run now or wait for a slot. Without it, a surge is seen only when the calls of it have ended. */
  demand?(): number;
}

/** How much a trial takes away in each of its first two windows. */
const trialStep = 0.85;
/** Windows that a trial takes, the two with steps among them. */
const trialWindows = 3;
/** A trial up gives so much more. */
const growStep = 1.4;
/** How often the limit tries to grow while it is held down. */
const growEveryMs = 10_000;
/** How long it holds calls down that were only guessed to wait for each other. */
const guessMs = 1_000;
/** While it holds calls down, they should take no less than this share of the ceiling, and no more than all of it. */
const held = 0.6;
/** A trial has taken something away when no more than this share of what ran before still runs, or given something when the reverse holds. */
const taken = 0.95;
/** Calls are held up when more than this share of them is. */
const heldUpShare = 0.1;
/** Above this elasticity, less concurrency costs goodput in proportion: the time is not spent waiting for us. */
const elastic = 0.5;
/** Calls pile up when there are more of them, by so many standard deviations of chance, in so many windows in a row. */
const chance = 2;
const pilingWindows = 2;
const shortestMuteMs = 15_000;
const longestMuteMs = 120_000;

/** What a trial compares with. */
interface Before {
  readonly limit: number;
  readonly goodPerSecond: number;
  readonly inFlight: number;
}

type Phase =
  /** Nothing is wrong, as far as latency tells. */
  | { readonly kind: "open" }
  /** Less is let in (or more, from `shrink`), to see what goodput does. */
  | { readonly kind: "trial"; readonly up: boolean; readonly before: Before; windows: number }
  /** Less concurrency did not cost goodput: calls wait for each other, and the limit holds the wait down. */
  | { readonly kind: "shrink"; growAtMs: number };

/**
 * The limit that asks before it sheds. While this process is saturated and calls are held up, it follows Gradient2.
 * Otherwise, when calls are held up and there are ever more of them, or most are late, it takes a little concurrency
 * away and looks at goodput: if that falls in proportion, calls are slow and not waiting for each other (a slow
 * dependency), and the limit opens again for a while; if it stays, they wait in a queue that this server feeds (a pool,
 * a lock), and the limit holds it down.
 *
 * It starts at the hard cap: a limit that has to learn its way up refuses good calls after each start.
 */
export class ElasticLimit implements RampingLimit {
  readonly #min: number;
  readonly #max: number;
  readonly #signals: ElasticSignals;
  readonly #window: SampleWindow;
  readonly #gradient = new Gradient();
  readonly #slowStart: SlowStart;
  #limit: number;
  #phase: Phase = { kind: "open" };
  /** Calls that were there when the last window closed, and in how many windows in a row there were more than before. */
  #demand = 0;
  #piled = 0;
  #saturated = false;
  #mutedUntilMs = Number.NEGATIVE_INFINITY;
  #muteMs = shortestMuteMs;

  constructor(options: Required<Omit<ElasticOptions, "ceilingMs">>, signals: ElasticSignals) {
    this.#min = options.min;
    this.#max = options.max;
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

  /** What it is doing, for a person. */
  get phase(): Phase["kind"] | "saturated" {
    return this.#saturated ? "saturated" : this.#phase.kind;
  }

  record(nowMs: number, tookMs: number, inFlight: number, outcome: Evidence): void {
    this.#watch(nowMs, tookMs);
    const seen = this.#window.record(nowMs, tookMs, inFlight, outcome === "success");
    if (!this.#slowStart.rested && this.#window.samples > 0) this.#learnCalm(nowMs, this.#window);
    if (seen === undefined) return;
    this.#seeDemand();
    const heldUp = this.#signals.heldUp?.();
    const over = heldUp === undefined ? this.#isOver(seen) : heldUp > heldUpShare;
    // A process that has no more to give takes nothing from anybody while its calls are in time.
    const follows = this.#signals.saturated() && (over || heldUp === undefined);
    const next = follows ? this.#follow(seen, over) : this.#ask(nowMs, seen, over);
    this.#limit = Math.min(this.#max, Math.max(this.#min, next));
    this.#learnCalm(nowMs, seen);
  }

  #learnCalm(nowMs: number, seen: WindowSummary): void {
    if (this.#phase.kind !== "open" || this.#saturated || nowMs < this.#mutedUntilMs) {
      this.#slowStart.forget();
      return;
    }
    const { maxInFlight: inFlight, meanMs: tookMs, goodPerSecond: perSecond } = seen;
    this.#slowStart.rest({ inFlight, tookMs, perSecond });
  }

  /**
   * A surge that meets a limit fills a queue in less time than a window. As many calls are let in as are served within
   * the ceiling at the pace at which they end.
   */
  #watch(nowMs: number, tookMs: number): void {
    const demand = this.#signals.demand?.();
    if (demand === undefined || this.#phase.kind !== "open" || nowMs < this.#mutedUntilMs) return;
    const perSecond = this.#slowStart.record(nowMs, tookMs, demand);
    if (perSecond === undefined) return;
    const fits = this.#fits(perSecond);
    if (fits === undefined || demand < fits / held) return;
    this.#limit = Math.min(this.#limit, Math.max(this.#min, fits));
    // A guess, made before any call is late. Whether it is right is tried soon.
    this.#phase = { kind: "shrink", growAtMs: nowMs + guessMs };
  }

  /** So many calls are served within the ceiling, and a little sooner, at a pace (Little's law). */
  #fits(perSecond: number): number | undefined {
    const ceilingMs = this.#signals.ceilingMs();
    return ceilingMs === undefined ? undefined : (held * ceilingMs * perSecond) / 1000;
  }

  /** The process is saturated: what is too much shows in how long calls take. */
  #follow(seen: WindowSummary, over: boolean): number {
    const roomy = Math.max(this.#min, 1.25 * seen.maxInFlight);
    // The limit may stand far above what runs, where no step would be felt. It starts from there.
    const from = this.#saturated ? this.#limit : Math.min(this.#limit, roomy);
    this.#saturated = true;
    this.#phase = { kind: "open" };
    const fits = this.#fits(seen.goodPerSecond) ?? Number.POSITIVE_INFINITY;
    const next = Math.min(this.#gradient.next(from, seen), fits);
    return over ? Math.min(next, from * 0.9) : next;
  }

  #ask(nowMs: number, seen: WindowSummary, over: boolean): number {
    this.#saturated = false;
    this.#gradient.learn(seen.meanMs);
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
    // A trial takes something away: not from calls that are slow, as many as ever, and in time all the same.
    if (!over || !this.#isPiling(nowMs)) {
      this.#muteMs = shortestMuteMs;
      return this.#limit * 1.25;
    }
    this.#try(false, seen);
    return trialStep * seen.meanInFlight;
  }

  /** Calls come faster than they end, or most of them are late already. */
  #isPiling(nowMs: number): boolean {
    return this.#piled >= pilingWindows || this.#signals.late?.(nowMs) !== false;
  }

  #seeDemand(): void {
    const before = this.#demand;
    this.#demand = this.#signals.demand?.() ?? 0;
    this.#piled = this.#demand > before + chance * Math.sqrt(before) ? this.#piled + 1 : 0;
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
    const tried = up ? change * taken > 1 : change < taken;
    if (!tried || elasticity(before, seen) > elastic) {
      // What is taken away here is missed: the wait is not ours to shorten. And where nothing was taken away, because
      // fewer run than the limit allows, goodput that stays proves nothing.
      this.#phase = { kind: "open" };
      this.#mutedUntilMs = nowMs + this.#muteMs;
      this.#muteMs = Math.min(longestMuteMs, 2 * this.#muteMs);
      return Math.max(this.#limit, before.limit);
    }
    this.#phase = { kind: "shrink", growAtMs: nowMs + growEveryMs };
    return up ? before.limit : Math.min(this.#limit, this.#fits(seen.goodPerSecond) ?? Infinity);
  }

  #shrink(
    phase: Extract<Phase, { kind: "shrink" }>,
    nowMs: number,
    seen: WindowSummary,
    over: boolean,
  ): number {
    if (seen.maxInFlight < this.#limit / 2) {
      this.#phase = { kind: "open" };
      return this.#limit * 1.25;
    }
    if (nowMs >= phase.growAtMs) {
      this.#try(true, seen);
      return this.#limit * growStep;
    }
    const ceilingMs = this.#signals.ceilingMs();
    if (over) return this.#limit * 0.9;
    if (ceilingMs === undefined || seen.p90Ms < held * ceilingMs) {
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
 * calls do less of it. 0: the calls only wait for each other.
 */
function elasticity(before: Before, seen: WindowSummary): number {
  const goodput = seen.goodPerSecond / before.goodPerSecond;
  const inFlight = seen.meanInFlight / before.inFlight;
  if (!(goodput > 0) || !Number.isFinite(goodput) || !(inFlight > 0) || inFlight === 1) return 0;
  return Math.log(goodput) / Math.log(inFlight);
}
