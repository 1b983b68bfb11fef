import type { Outcome, Permit } from "./permit.js";

/** The slot of one call that runs. */
export class Slot implements Permit {
  readonly #sinceMs: number;
  readonly #inFlight: number;
  #settle: ((sinceMs: number, inFlight: number, outcome: Outcome) => void) | undefined;

  constructor(
    sinceMs: number,
    inFlight: number,
    settle: (sinceMs: number, inFlight: number, outcome: Outcome) => void,
  ) {
    this.#sinceMs = sinceMs;
    this.#inFlight = inFlight;
    this.#settle = settle;
  }

  settle(outcome: Outcome): void {
    const settle = this.#settle;
    if (settle === undefined) return;
    this.#settle = undefined;
    settle(this.#sinceMs, this.#inFlight, outcome);
  }
}
