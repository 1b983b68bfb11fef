import type { Bulkhead } from "../core/bulkhead.js";
import { OncePermit, type Outcome, type Permit } from "../core/permit.js";
import { isRefusal, type Refusal } from "../core/refusal.js";
import { isQueued, type OnTurn, type Queued, type Turn } from "../core/turn.js";

/** What a bulkhead tells a turn to. It is made before anybody knows whether there will be a wait. */
export class GuardTurn {
  /** What it was told. */
  turn: Turn | undefined = undefined;
  waitedMs = 0;
  #tell: ((told: GuardTurn) => void) | undefined = undefined;

  readonly onTurn: OnTurn = (turn, waitedMs) => {
    this.turn = turn;
    this.waitedMs = waitedMs;
    this.#tell?.(this);
  };

  /**
   * The turn as a promise, which carries the async context of who asks: a bulkhead gives a turn in the context of
   * whoever left it.
   */
  wait(): Promise<GuardTurn> {
    return new Promise((resolve) => {
      this.#tell = resolve;
    });
  }
}

/** What an observing bulkhead would have done. */
export interface ShadowReport {
  queued(waitedMs: number): void;
  /** What stands for the permit. */
  refused(refusal: Refusal): Permit;
}

/**
 * The place of a run in a bulkhead that observes: the run goes on at once, and holds its permit from the turn it
 * would have got until it ends.
 */
export class ShadowPlace extends OncePermit {
  #permit: Permit | undefined;
  #queued: Queued | undefined;

  constructor(
    bulkhead: Bulkhead,
    [rank, deadlineMs, weight]: readonly [number, number, number],
    report: ShadowReport,
  ) {
    super();
    const entry = bulkhead.enter(
      rank,
      deadlineMs,
      (turn, waitedMs) => {
        this.#queued = undefined;
        report.queued(waitedMs);
        this.#take(turn, report);
      },
      weight,
    );
    if (isQueued(entry)) this.#queued = entry;
    else this.#take(entry, report);
  }

  protected onSettle(outcome: Outcome): void {
    this.#queued?.leave();
    this.#permit?.settle(outcome);
  }

  #take(turn: Turn, report: ShadowReport): void {
    this.#permit = isRefusal(turn) ? report.refused(turn) : turn;
  }
}
