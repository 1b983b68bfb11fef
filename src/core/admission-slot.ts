import type { TimedCall } from "./lateness.js";
import type { Ending, Outcome, Permit } from "./permit.js";

/** Takes a slot back: whose it was, since when it ran, how many did when it was admitted, and how it ended. */
export type SettleSlot = (
  call: TimedCall,
  sinceMs: number,
  inFlight: number,
  outcome: Outcome,
  ending: Ending | undefined,
) => void;

/** The slot of one call that runs. */
export class Slot implements Permit {
  #call: TimedCall;
  readonly #sinceMs: number;
  readonly #inFlight: number;
  #settle: SettleSlot | undefined;

  constructor(call: TimedCall, sinceMs: number, inFlight: number, settle: SettleSlot) {
    this.#call = call;
    this.#sinceMs = sinceMs;
    this.#inFlight = inFlight;
    this.#settle = settle;
  }

  settle(outcome: Outcome, ending?: Ending): void {
    const settle = this.#settle;
    if (settle === undefined) return;
    this.#settle = undefined;
    settle(this.#call, this.#sinceMs, this.#inFlight, outcome, ending);
  }
}
