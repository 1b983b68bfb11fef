import type { Clock } from "../../core/clock.js";
import { wholeNumber } from "../../core/options.js";
import { type Ending, OncePermit, type Outcome, type Permit } from "../../core/permit.js";
import type { Prospects, RetryAfterEstimate } from "../../core/queue/retry-after.js";
import { fixedLimit, type RampingLimit } from "../limits/limit.js";
import type { EventLoopBudget } from "./event-loop-budget.js";
import type { Lateness, TimedCall } from "./lateness.js";
import type { AdmissionPoolOptions } from "./options.js";

/** What slots stand on. */
export interface SlotsParts {
  readonly clock: Pick<Clock, "now">;
  readonly limit: RampingLimit;
  /** The time of the event loop that calls share; `undefined` where they do not. */
  readonly turn: EventLoopBudget | undefined;
  /** Learns how long a slot is held. */
  readonly retryAfterEstimate: RetryAfterEstimate;
  /** Knows since when slots are held. */
  readonly prospects: Prospects;
  /** Learns whether calls are late. */
  readonly lateness: Lateness;
  /** A slot has been given back. */
  readonly onFree: () => void;
}

/** The slots that calls run in: how many there are now, how many are taken, and what is learnt when one is given back. */
export class Slots {
  readonly #options: Pick<AdmissionPoolOptions, "maxConcurrent" | "criticalHeadroom">;
  readonly #parts: SlotsParts;
  readonly #turn: EventLoopBudget | undefined;
  #limit: RampingLimit;
  #taken = 0;
  #abandoned = 0;
  /** What `takenMsAt` has come to, and until when. */
  #takenMs = 0;
  #takenUntilMs: number;

  constructor(
    options: Pick<AdmissionPoolOptions, "maxConcurrent" | "criticalHeadroom">,
    parts: SlotsParts,
  ) {
    this.#options = options;
    this.#parts = parts;
    this.#limit = parts.limit;
    this.#turn = parts.turn;
    this.#takenUntilMs = parts.clock.now();
  }

  get taken(): number {
    return this.#taken;
  }

  /** Of those, the ones whose callers have left while their handlers work on. */
  get abandoned(): number {
    return this.#abandoned;
  }

  get count(): number {
    return Math.min(this.#limit.current, this.#options.maxConcurrent);
  }

  /** There is one for a call; for critical ones there are some more. */
  isFree(critical: boolean, nowMs: number): boolean {
    const { count } = this;
    if (!this.#fits(count, critical)) return false;
    if (!this.#fitsRamp(critical)) {
      this.#limit.rampHolds?.(nowMs);
      if (!this.#fitsRamp(critical)) return false;
    }
    return this.#turn === undefined || this.#turn.hasRoom;
  }

  /** So many calls come through in some time, at best. A queue that is longer keeps some waiting in vain. */
  atBestIn(ms: number): number {
    return this.#turn?.atBestIn(ms) ?? Number.POSITIVE_INFINITY;
  }

  /** The time for which slots have been taken, summed over all slots, in milliseconds. Only grows. */
  takenMsAt(nowMs: number): number {
    this.#takenMs += this.#taken * (nowMs - this.#takenUntilMs);
    this.#takenUntilMs = nowMs;
    return this.#takenMs;
  }

  take(nowMs: number): void {
    this.takenMsAt(nowMs);
    this.#taken += 1;
    this.#turn?.began();
  }

  /** The permit of a call that has taken a slot. */
  permit(call: TimedCall, nowMs: number): Permit {
    this.#parts.prospects.began(nowMs);
    return new Slot(call, nowMs, this.#taken, this.#settle);
  }

  giveBack(nowMs: number = this.#parts.clock.now()): void {
    this.takenMsAt(nowMs);
    this.#taken -= 1;
    this.#parts.onFree();
  }

  /** A handler has held the event loop for so long. */
  ran(tookMs: number): void {
    this.#turn?.ran(tookMs);
  }

  /** Throws `InvalidOptionError` below 1. */
  resize(limit: number): void {
    this.#limit = fixedLimit(wholeNumber("limit", limit, 1));
  }

  readonly #settle: SettleSlot = (call, sinceMs, inFlight, outcome, ending) => {
    const { clock, retryAfterEstimate, prospects, lateness } = this.#parts;
    const nowMs = clock.now();
    const tookMs = nowMs - sinceMs;
    // A request that is refused at a glance says nothing of how long calls take, and neither does one that was given up.
    const instant = ending?.erred === true && retryAfterEstimate.isInstant(tookMs);
    if (outcome !== "ignored" && !instant && lateness.record(call, sinceMs, nowMs, outcome)) {
      this.#limit.record(nowMs, tookMs, inFlight, outcome);
    }
    if (ending?.worksOn === undefined) {
      if (!instant) retryAfterEstimate.record(tookMs, call.method);
      prospects.ended(sinceMs);
      this.giveBack(nowMs);
      return;
    }
    // It takes as much as before.
    this.#abandoned += 1;
    const { worksOn } = ending;
    retryAfterEstimate.freeWhenOver({ worksOn, kind: call.method }, sinceMs, clock, (lateMs) => {
      if (lateMs !== undefined) lateness.answered(call, lateMs, clock.now());
      this.#abandoned -= 1;
      prospects.ended(sinceMs);
      this.giveBack();
    });
  };

  #fitsRamp(critical: boolean): boolean {
    const { ramp } = this.#limit;
    return ramp === undefined || this.#fits(ramp, critical);
  }

  /** One more runs in so many, or in their headroom. */
  #fits(count: number, critical: boolean): boolean {
    if (!critical) return this.#taken < count;
    // 70 × 0.1 is a hair above 7 in binary, and a hair is not an eighth call.
    const headroom = Math.ceil(count * this.#options.criticalHeadroom - 1e-9);
    return this.#taken < Math.min(count + headroom, this.#options.maxConcurrent);
  }
}

/** Takes a slot back: whose it was, since when it ran, how many did when it was admitted, and how it ended. */
export type SettleSlot = (
  call: TimedCall,
  sinceMs: number,
  inFlight: number,
  outcome: Outcome,
  ending: Ending | undefined,
) => void;

/** The slot of one call that runs. */
class Slot extends OncePermit {
  readonly #call: TimedCall;
  readonly #sinceMs: number;
  readonly #inFlight: number;
  readonly #settle: SettleSlot;

  constructor(call: TimedCall, sinceMs: number, inFlight: number, settle: SettleSlot) {
    super();
    this.#call = call;
    this.#sinceMs = sinceMs;
    this.#inFlight = inFlight;
    this.#settle = settle;
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    this.#settle(this.#call, this.#sinceMs, this.#inFlight, outcome, ending);
  }
}
