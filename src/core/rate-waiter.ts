import type { CancelTask, Clock } from "./clock.js";
import { expireAt } from "./expiry.js";
import type { Permit } from "./permit.js";
import type { QueueHandle } from "./priority-queue.js";
import type { Granted } from "./quota-desk.js";
import type { Refusal } from "./refusal.js";
import type { OnTurn, Queued, Turn } from "./turn.js";
import { type ReportError, safely } from "./user-code.js";

/** A call that asks for tokens. */
export interface RateRequest {
  readonly key: string;
  readonly cost: number;
  /** The lower, the sooner it is served. */
  readonly rank: number;
  /** On the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
  readonly onTurn: OnTurn;
}

/** Who decides about those that wait. */
export interface RateWaiterHost {
  readonly clock: Clock;
  readonly report: ReportError;
  /** One is let through. The result is what it holds. */
  admitted(request: RateRequest, granted: Granted): Permit;
  refused(): void;
  /** It can wait no longer: the deadline has passed, or else its longest wait. */
  waitedOut(waiter: RateWaiter, nowMs: number): void;
  left(waiter: RateWaiter): void;
}

/**
 * One call that waits, for the answer of a store or for its tokens, from entering to its one turn: let through,
 * refused, or gone. It has one timer, which keeps the process alive.
 */
export class RateWaiter implements Queued {
  readonly kind = "queued";
  readonly request: RateRequest;
  readonly sinceMs: number;
  /** Its place among those that wait for tokens. */
  place: QueueHandle<RateWaiter> | undefined;
  /** How long it may wait, on the monotonic clock. */
  untilMs = Infinity;
  readonly #host: RateWaiterHost;
  #stopTimer: CancelTask | undefined;
  #done = false;

  constructor(host: RateWaiterHost, request: RateRequest, nowMs: number) {
    this.#host = host;
    this.request = request;
    this.sinceMs = nowMs;
  }

  /** It has had its turn, or has left. */
  get over(): boolean {
    return this.#done;
  }

  /** It waits until then, and no longer. */
  waitUntil(untilMs: number, nowMs: number): void {
    this.#stopTimer?.();
    this.untilMs = untilMs;
    this.#stopTimer =
      untilMs === Infinity
        ? undefined
        : expireAt(this.#host.clock, untilMs, untilMs - nowMs, () =>
            this.#host.waitedOut(this, this.#host.clock.now()),
          );
  }

  admit(granted: Granted, nowMs: number): void {
    if (!this.#finish()) return;
    this.#deliver(this.#host.admitted(this.request, granted), nowMs);
  }

  refuse(refusal: Refusal, nowMs: number): void {
    if (!this.#finish()) return;
    this.#host.refused();
    this.#deliver(refusal, nowMs);
  }

  leave(): boolean {
    if (!this.#finish()) return false;
    this.#host.left(this);
    return true;
  }

  #finish(): boolean {
    if (this.#done) return false;
    this.#done = true;
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    return true;
  }

  #deliver(turn: Turn, nowMs: number): void {
    try {
      this.request.onTurn(turn, nowMs - this.sinceMs);
    } catch (error) {
      safely(this.#host.report, error, "onTurn");
    }
  }
}
