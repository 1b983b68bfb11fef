import type { TimedCall } from "./lateness.js";
import { type Ending, OncePermit, type Outcome } from "./permit.js";

/** Takes a slot back: whose it was, since when it ran, how many did when it was admitted, and how it ended. */
export type SettleSlot = (
  call: TimedCall,
  sinceMs: number,
  inFlight: number,
  outcome: Outcome,
  ending: Ending | undefined,
) => void;

/** The slot of one call that runs. */
export class Slot extends OncePermit {
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
