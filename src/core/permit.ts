import type { RefusalReason } from "./decision.js";

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

/** The answer of a policy that does not let a call through. */
export interface Refusal {
  readonly kind: "refusal";
  readonly reason: RefusalReason;
  /** For a person: the numbers behind the reason, such as `running 64 of 64, queued 100 of 100`. */
  readonly detail: string;
  /**
   * After how many milliseconds trying again is worth it. Absent where the policy cannot tell, or
   * where another try makes no sense.
   */
  readonly retryAfterMs?: number;
  /** Whose quota is used up. Such a refusal without `retryAfterMs` means that trying again is of no use. */
  readonly subject?: string;
}

export function refusal(
  reason: RefusalReason,
  detail: string,
  retryAfterMs?: number,
  subject?: string,
): Refusal {
  return {
    kind: "refusal",
    reason,
    detail,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(subject === undefined ? {} : { subject }),
  };
}

/** Tells a refusal from a permit, and from whatever else a policy answers that names its kind. */
export function isRefusal(answer: Permit | { readonly kind: string }): answer is Refusal {
  return "kind" in answer && answer.kind === "refusal";
}

/** How the wait of a call ends, unless the call leaves first. */
export type WaitResult = Permit | Refusal;

/**
 * Told the turn of a call that had to wait, and how many milliseconds it waited. It runs once at
 * most, and never before the `enter` that queued the call has returned. The receiver settles the permit.
 *
 * It should not throw. If it does, the permit is settled as `ignored`, nobody else's turn suffers,
 * and the error goes to the policy's reporter.
 */
export type OnGranted = (turn: WaitResult, waitedMs: number) => void;

/** A call that waits for its turn. */
export interface Queued {
  readonly kind: "queued";
  /** For a person: where it waits, if there is more than one such place. */
  readonly detail?: string | undefined;
  /** Gives the place up: no turn follows. False when the turn has come already. */
  leave(): boolean;
}

/**
 * The answer to a call that asks to enter: a permit (go on, and settle it), a refusal, or a place in
 * the queue whose turn comes through {@link OnGranted}. An answer that is no place is final: no turn follows it.
 */
export type GateAnswer = Permit | Refusal | Queued;

export function isQueued(entry: GateAnswer): entry is Queued {
  return "kind" in entry && entry.kind === "queued";
}
