import type { Closed } from "./breaker-closed.js";
import type { HalfOpen } from "./breaker-half-open.js";
import type { InFlight, UnderWay } from "./breaker-in-flight.js";
import { type Ending, OncePermit, type Outcome } from "./permit.js";

/** What a breaker does with the end of a call that it has admitted. */
export type OnSettle = (
  permit: BreakerPermit,
  outcome: Outcome,
  ending: Ending | undefined,
) => void;

/**
 * A call that a breaker has let through. All that is known of it is in this one object, and all permits of
 * a breaker share its function, so that admitting a call costs little.
 */
export class BreakerPermit extends OncePermit implements UnderWay {
  /** The state that admitted it. */
  readonly state: Closed | HalfOpen;
  readonly sinceMs: number;
  readonly timed: boolean;
  readonly knownEvents: number;
  /** The server that the call went to, of those behind the target, where that is known. */
  peer: string | undefined;
  row: InFlight | undefined;
  older: UnderWay | undefined;
  newer: UnderWay | undefined;
  readonly #onSettle: OnSettle;

  constructor(
    state: Closed | HalfOpen,
    sinceMs: number,
    timed: boolean,
    knownEvents: number,
    onSettle: OnSettle,
  ) {
    super();
    this.state = state;
    this.sinceMs = sinceMs;
    this.timed = timed;
    this.knownEvents = knownEvents;
    this.#onSettle = onSettle;
  }

  override settle(outcome: Outcome, ending?: Ending, peer?: string): void {
    this.peer = peer;
    super.settle(outcome, ending);
  }

  /** It is served, and its length is the application's: what ends it later says nothing more. */
  delivered(peer?: string): void {
    this.settle("success", undefined, peer);
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    this.#onSettle(this, outcome, ending);
  }
}
