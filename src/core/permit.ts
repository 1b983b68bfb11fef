/**
 * How a finished attempt counts for the policies that admitted it.
 * `ignored`: the caller left, or we refused the call ourselves. It is evidence of nothing.
 */
export type Outcome = "success" | "failure" | "ignored";

/** What is known of an end beside its outcome. Policies read what concerns them. */
export interface Ending {
  /** The other side said that trying again is worth it after so many milliseconds. */
  readonly retryAfterMs?: number | undefined;
  /**
   * The other side did not do the work: `shed`, it said that it has too much to do; `unavailable`, it could not
   * be reached or did not answer in time. Absent when it did the work, however that went.
   */
  readonly unserved?: "shed" | "unavailable" | undefined;
  /**
   * The event behind it, by name, where all who ask later hear of the same one: a connect that failed is told from memory
   * until the next attempt to connect. It is evidence once.
   */
  readonly event?: string | undefined;
  /** It ended with its connection, and so may others have. Together they are evidence once. */
  readonly connectionLost?: boolean | undefined;
  /** It is an error that says nothing against who ended with it, such as INVALID_ARGUMENT. */
  readonly erred?: boolean | undefined;
  /** The caller has left, and the work for it goes on: what it takes may be kept until that is over. */
  readonly worksOn?: WorksOn | undefined;
}

/** Tells, once, that the work has ended; or, with `false`, that it has not in `maxMs`, and nobody waits for it any more. */
export type WorksOn = (maxMs: number, over: (ended: boolean) => void) => void;

/**
 * What a policy hands out on admission. It is settled exactly once; settling again does nothing,
 * so every path that may be the last one can settle without asking.
 */
export interface Permit {
  settle(outcome: Outcome, ending?: Ending): void;
  /**
   * The call does not go on after all: a later gate refused it, or it left before it had passed all of them. In place of
   * `settle`, for a permit that can give back what the call took and did not use. Without it, such a permit is settled as
   * `ignored`.
   *
   * @param refused A later gate refused it, and would refuse the next one that came now.
   */
  abandon?(refused: boolean): void;
  /** A stream has had its first message from the other side, and goes on. Told once, before it is settled. */
  delivered?(): void;
}

/** A permit that only its first `settle` counts for. What that does, each kind says in `onSettle`. */
export abstract class OncePermit implements Permit {
  /** It is over: whoever ends it in another way than by `settle` sets this. */
  protected over = false;

  settle(outcome: Outcome, ending?: Ending): void {
    if (this.over) return;
    this.over = true;
    this.onSettle(outcome, ending);
  }

  protected abstract onSettle(outcome: Outcome, ending: Ending | undefined): void;
}

/** Gives back the permit of a call that did not go on. */
export function abandon(unused: Permit, refused: boolean): void {
  if (unused.abandon === undefined) unused.settle("ignored");
  else unused.abandon(refused);
}

/** A permit that runs `onSettle` at the first settle and never again. */
export function permit(onSettle: (outcome: Outcome, ending: Ending | undefined) => void): Permit {
  return new CallbackPermit(onSettle);
}

class CallbackPermit extends OncePermit {
  protected readonly onSettle: (outcome: Outcome, ending: Ending | undefined) => void;

  constructor(onSettle: (outcome: Outcome, ending: Ending | undefined) => void) {
    super();
    this.onSettle = onSettle;
  }
}
