import type { Ending, Outcome, Permit } from "./permit.js";

/** Takes a slot back: since when the call ran, how many did when it was admitted, and how it ended. */
export type SettleSlot = (
  sinceMs: number,
  inFlight: number,
  outcome: Outcome,
  ending: Ending | undefined,
) => void;

/** The slot of one call that runs. */
export class Slot implements Permit {
  readonly #sinceMs: number;
  readonly #inFlight: number;
  #settle: SettleSlot | undefined;

  constructor(sinceMs: number, inFlight: number, settle: SettleSlot) {
    this.#sinceMs = sinceMs;
    this.#inFlight = inFlight;
    this.#settle = settle;
  }

  settle(outcome: Outcome, ending?: Ending): void {
    const settle = this.#settle;
    if (settle === undefined) return;
    this.#settle = undefined;
    settle(this.#sinceMs, this.#inFlight, outcome, ending);
  }
}
