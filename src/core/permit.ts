import type { RefusalReason } from "./decision.js";

/**
 * How a finished call counts for the policies that admitted it. `ignored` says nothing about the server: the caller
 * cancelled, or a policy of this process refused the call.
 */
export type Outcome = "success" | "failure" | "ignored";

/** What is known about the end of a call besides its outcome. Each policy reads the fields that concern it. */
export interface Ending {
  /** The server asked to be tried again after this many milliseconds. */
  readonly retryAfterMs?: number | undefined;
  /**
   * The server did not do the work. `shed`: it said that it is overloaded. `unavailable`: it could not be reached, or did
   * not answer in time. Absent when it did the work, whatever the result.
   */
  readonly unserved?: "shed" | "unavailable" | undefined;
  /**
   * Name of the event that ended the call, where one event ends many calls: grpc-js repeats the error of a failed connect
   * for every call until the next attempt to connect. All calls with the same event count once.
   */
  readonly event?: string | undefined;
  /** The connection broke, which may have ended other calls too. All of them count once. */
  readonly connectionLost?: boolean | undefined;
  /** The status is an error of the caller, such as INVALID_ARGUMENT, and says nothing against the server. */
  readonly erred?: boolean | undefined;
  /** The caller has left and the handler still works: a policy may keep what the call holds until the handler is done. */
  readonly worksOn?: WorksOn | undefined;
}

/**
 * Calls `over` once: with `true` when the handler has ended, or with `false` when it has not ended within `maxMs`
 * milliseconds.
 */
export type WorksOn = (maxMs: number, over: (ended: boolean) => void) => void;

/**
 * What a policy hands out for a call that it admits. Only the first `settle` counts, so every path that may be the last
 * one can settle without asking.
 */
export interface Permit {
  /** The call has ended. */
  settle(outcome: Outcome, ending?: Ending): void;
  /**
   * The call does not go on: a later gate refused it, or the caller left before the call had passed all gates. Called
   * instead of `settle`, so that the policy can take back what the call did not use. A permit without it is settled as
   * `ignored`.
   *
   * @param refused A later gate refused the call, and would refuse any other call now.
   */
  abandon?(refused: boolean): void;
  /** A stream has had its first message from the other side, and goes on. Called once, before `settle`. */
  delivered?(): void;
  /**
   * Set where the policy could not ask the store that it shares with other processes, and admitted the call all the same.
   * Says, for people, what it went by.
   */
  readonly storeAway?: string | undefined;
}

/** The base of all permits: only the first `settle` reaches `onSettle`. */
export abstract class OncePermit implements Permit {
  /** True once the permit has been used. A subclass that ends it in another way than by `settle` sets it. */
  declare protected over: boolean;

  constructor() {
    // Not by an initializer: in a base class that costs each permit some 10 ns.
    this.over = false;
  }

  settle(outcome: Outcome, ending?: Ending): void {
    if (this.over) return;
    this.over = true;
    this.onSettle(outcome, ending);
  }

  protected abstract onSettle(outcome: Outcome, ending: Ending | undefined): void;
}

/** A permit that calls a function at its first settle. */
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

/** Gives back the permit of a call that does not go on. See `Permit.abandon`. */
export function abandon(unused: Permit, refused: boolean): void {
  if (unused.abandon === undefined) unused.settle("ignored");
  else unused.abandon(refused);
}

/** The answer of a policy that refuses a call. */
export interface Refusal {
  readonly kind: "refusal";
  readonly reason: RefusalReason;
  /** For people: the numbers behind the reason, such as `running 64 of 64, queued 100 of 100`. */
  readonly detail: string;
  /** Milliseconds after which another try is worth it. Absent where that is not known, or where it never is. */
  readonly retryAfterMs?: number;
  /** Whose quota is used up. With a subject and without `retryAfterMs`, trying again is of no use. */
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

/** Tells a refusal from a permit, and from any other answer that has a `kind`. */
export function isRefusal(answer: Permit | { readonly kind: string }): answer is Refusal {
  return "kind" in answer && answer.kind === "refusal";
}

/** How the wait of a call in a queue ends, unless the call leaves first. */
export type WaitResult = Permit | Refusal;

/** A policy answers the call itself, for good, and without what comes behind it. */
export interface Answered {
  readonly kind: "answered";
  /** For people: where the answer is from. */
  readonly detail: string;
  /** Sends the answer. Called once, unless the policy only observes or the call has ended. */
  send(): void;
}

/** Tells an answer from a permit, and from a refusal. */
export function isAnswered(
  result: Permit | Answered | { readonly kind: string },
): result is Answered {
  return "kind" in result && result.kind === "answered";
}

/**
 * Called when the wait of a queued call ends: with its permit, which the receiver settles, or with a refusal, and with the
 * milliseconds that it waited. It is called at most once, and never before the `enter` that queued the call has returned.
 *
 * It should not throw. If it does, the permit is settled as `ignored`, the other calls in the queue are served all the
 * same, and the error goes to the policy's reporter.
 */
export type OnGranted = (result: WaitResult, waitedMs: number) => void;

/** A call that waits in a queue. */
export interface Queued {
  readonly kind: "queued";
  /** When it was queued, on the monotonic clock. */
  readonly sinceMs: number;
  /** For people: which queue it waits in, where a policy has several. */
  readonly detail?: string | undefined;
  /** Leaves the queue: {@link OnGranted} is not called any more. False when the wait has ended already. */
  leave(): boolean;
}

/**
 * The answer to a call that asks to enter: a permit (the call goes on, and settles it), a refusal, or a place in a queue.
 * Only after a place in a queue is {@link OnGranted} called.
 */
export type GateAnswer = Permit | Refusal | Queued;

export function isQueued(answer: GateAnswer | Answered): answer is Queued {
  return "kind" in answer && answer.kind === "queued";
}
