import type { Clock } from "../../core/clock.js";
import { wholeNumber } from "../../core/options.js";
import { type Ending, OncePermit, type Outcome, type Permit } from "../../core/permit.js";
import type { Prospects, RetryAfterEstimate } from "../../core/queue/retry-after.js";
import { fixedLimit, type RampingLimit } from "../limits/limit.js";
import type { EventLoopBudget } from "./event-loop-budget.js";
import type { Lateness, TimedCall } from "./lateness.js";
import type { AdmissionPoolOptions } from "./options.js";
import type { CallerUsage } from "./usage.js";

/** What slots are given beside their options. */
export interface SlotsParts {
  readonly clock: Pick<Clock, "now">;
  readonly limit: RampingLimit;
  /** Bounds how much of one turn of the event loop calls take; `undefined` for no bound. */
  readonly eventLoop: EventLoopBudget | undefined;
  /** Learns from how long slots are held. */
  readonly retryAfterEstimate: RetryAfterEstimate;
  /** Knows since when slots are held. */
  readonly prospects: Prospects;
  /** Learns whether calls are late. */
  readonly lateness: Lateness;
  /** Called when a slot has been given back. */
  readonly onFree: () => void;
  /** A caller has used a slot for so many milliseconds more than it was charged; fewer than 0 for less. */
  readonly onUsed?: (caller: CallerUsage, ms: number, nowMs: number) => void;
}

/** The slots that calls run in: how many there are, how many are in use, and what the limit learns when one is given back. */
export class Slots {
  #options: Pick<AdmissionPoolOptions, "maxConcurrent" | "criticalHeadroom">;
  readonly #parts: SlotsParts;
  #eventLoop: EventLoopBudget | undefined;
  #limit: RampingLimit;
  #taken = 0;
  #abandoned = 0;
  /** The sum of `takenMsAt` until `#takenUntilMs`. */
  #takenMs = 0;
  #takenUntilMs: number;

  constructor(
    options: Pick<AdmissionPoolOptions, "maxConcurrent" | "criticalHeadroom">,
    parts: SlotsParts,
  ) {
    this.#options = options;
    this.#parts = parts;
    this.#limit = parts.limit;
    this.#eventLoop = parts.eventLoop;
    this.#takenUntilMs = parts.clock.now();
  }

  /**
   * Goes on with other options. Slots that are taken stay taken.
   *
   * @param limit The limit from now on; `undefined` for the present one.
   */
  reconfigure(
    options: Pick<AdmissionPoolOptions, "maxConcurrent" | "criticalHeadroom">,
    limit: RampingLimit | undefined,
    eventLoop: EventLoopBudget | undefined,
  ): void {
    this.#options = options;
    this.#limit = limit ?? this.#limit;
    this.#eventLoop = eventLoop;
  }

  get taken(): number {
    return this.#taken;
  }

  /** Taken slots whose callers have left while their handlers go on. */
  get abandoned(): number {
    return this.#abandoned;
  }

  get count(): number {
    return Math.min(this.#limit.current, this.#options.maxConcurrent);
  }

  /** A call may take a slot now. Critical calls have headroom beyond the limit. */
  isFree(critical: boolean, nowMs: number): boolean {
    const { count } = this;
    if (!this.#fits(count, critical)) return false;
    if (!this.#fitsRamp(critical)) {
      this.#limit.rampHolds?.(nowMs);
      if (!this.#fitsRamp(critical)) return false;
    }
    return this.#eventLoop === undefined || this.#eventLoop.hasRoom;
  }

  /** A call that is not critical could have a slot: calls that wait do so for the event loop alone. */
  get anyFree(): boolean {
    return this.#fits(this.count, false) && this.#fitsRamp(false);
  }

  /** The most calls that can run in `ms` milliseconds, as far as is known: in a longer queue some would wait in vain. */
  atBestIn(ms: number): number {
    return this.#eventLoop?.atBestIn(ms) ?? Number.POSITIVE_INFINITY;
  }

  /** The time for which slots have been in use, summed over all slots, in milliseconds. Only grows. */
  takenMsAt(nowMs: number): number {
    this.#takenMs += this.#taken * (nowMs - this.#takenUntilMs);
    this.#takenUntilMs = nowMs;
    return this.#takenMs;
  }

  take(nowMs: number): void {
    this.takenMsAt(nowMs);
    this.#taken += 1;
    this.#eventLoop?.began();
  }

  /**
   * The permit of a call that has taken a slot.
   *
   * @param caller Whom its use is charged to; `undefined` for nobody.
   * @param chargedMs What was charged already, in milliseconds.
   */
  permit(call: TimedCall, nowMs: number, caller?: CallerUsage, chargedMs = 0): Permit {
    this.#parts.prospects.began(nowMs);
    return new Slot(this, call, nowMs, this.#taken, caller, chargedMs);
  }

  giveBack(nowMs: number = this.#parts.clock.now()): void {
    this.takenMsAt(nowMs);
    this.#taken -= 1;
    this.#parts.onFree();
  }

  /** A handler has held the event loop for `tookMs` milliseconds. */
  ran(tookMs: number): void {
    this.#eventLoop?.ran(tookMs);
  }

  /** @throws InvalidOptionError below 1. */
  resize(limit: number): void {
    this.#limit = fixedLimit(wholeNumber("limit", limit, 1));
  }

  /** For its slots: the call that held one has ended. */
  ended(slot: Slot, outcome: Outcome, ending: Ending | undefined): void {
    const { call, sinceMs, inFlight } = slot;
    const { clock, retryAfterEstimate, lateness } = this.#parts;
    const nowMs = clock.now();
    const tookMs = nowMs - sinceMs;
    // How long a request took that was refused at a glance, or that was cancelled, is no evidence of how long calls take.
    const instant = ending?.erred === true && retryAfterEstimate.isInstant(tookMs);
    if (outcome !== "ignored" && !instant && lateness.record(call, sinceMs, nowMs, outcome)) {
      this.#limit.record(nowMs, tookMs, inFlight, outcome);
    }
    if (ending?.worksOn === undefined) {
      if (!instant) retryAfterEstimate.record(tookMs, call.method);
      this.#free(slot, nowMs);
      return;
    }
    // The handler goes on, and holds its slot as before.
    this.#abandoned += 1;
    const { worksOn } = ending;
    retryAfterEstimate.freeWhenOver({ worksOn, kind: call.method }, sinceMs, clock, (lateMs) => {
      if (lateMs !== undefined) lateness.answered(call, lateMs, clock.now());
      this.#abandoned -= 1;
      this.#free(slot, clock.now());
    });
  }

  #free({ sinceMs, caller, chargedMs }: Slot, nowMs: number): void {
    this.#parts.prospects.ended(sinceMs);
    if (caller !== undefined) this.#parts.onUsed?.(caller, nowMs - sinceMs - chargedMs, nowMs);
    this.giveBack(nowMs);
  }

  #fitsRamp(critical: boolean): boolean {
    const { ramp } = this.#limit;
    return ramp === undefined || this.#fits(ramp, critical);
  }

  /** One more call fits into `count` slots, or a critical one into their headroom. */
  #fits(count: number, critical: boolean): boolean {
    const { criticalHeadroom, maxConcurrent } = this.#options;
    // Of a ramp without an end no share can be taken: nothing times infinity is no number.
    if (!critical || criticalHeadroom === 0) return this.#taken < Math.min(count, maxConcurrent);
    // In floating point 70 × 0.1 is slightly above 7, which would round up to 8.
    const headroom = Math.ceil(count * criticalHeadroom - 1e-9);
    return this.#taken < Math.min(count + headroom, maxConcurrent);
  }
}

/** The permit of one running call. */
class Slot extends OncePermit {
  readonly call: TimedCall;
  readonly sinceMs: number;
  /** How many calls ran when this one was admitted, itself included. */
  readonly inFlight: number;
  readonly caller: CallerUsage | undefined;
  readonly chargedMs: number;
  readonly #slots: Slots;

  constructor(
    slots: Slots,
    call: TimedCall,
    sinceMs: number,
    inFlight: number,
    caller: CallerUsage | undefined,
    chargedMs: number,
  ) {
    super();
    this.#slots = slots;
    this.call = call;
    this.sinceMs = sinceMs;
    this.inFlight = inFlight;
    this.caller = caller;
    this.chargedMs = chargedMs;
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    this.#slots.ended(this, outcome, ending);
  }
}
