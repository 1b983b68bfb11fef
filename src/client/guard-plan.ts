import type { Decision } from "../core/decision.js";
import type { WaitingRoom } from "../grpc/waiting-room.js";
import type { GuardClock } from "./guard-clock.js";
import type { GuardBreaker, GuardBulkhead } from "./guard-policies.js";
import type { GuardRetry } from "./guard-retry.js";
import type { GuardTimer } from "./guard-timer.js";
import type { GuardTurn } from "./guard-turn.js";

/** All that the runs of one guard work with. */
export interface GuardPlan {
  readonly name: string;
  readonly clock: GuardClock;
  readonly room: WaitingRoom;
  readonly bulkhead: GuardBulkhead | undefined;
  readonly breaker: GuardBreaker | undefined;
  readonly retry: GuardRetry | undefined;
  /** For whole runs. */
  readonly timer: GuardTimer | undefined;
  readonly attemptTimer: GuardTimer | undefined;
  readonly counts: GuardCounts;
  /** For the next run that has to wait. Most need not, and making one for each costs. */
  nextTurn: GuardTurn;
  /** Tells the observer. */
  tell(decision: Decision): void;
}

/** What became of runs. All but `abandoned` only grow. */
export interface GuardCounts {
  /** Runs that the function has an answer for. */
  succeeded: number;
  /** Runs that ended with the function's error. */
  failed: number;
  /** Runs that a policy refused or a time-out ended. */
  rejected: number;
  /** Functions that still run, though their run has given up on them. They hold their place in the bulkhead. */
  abandoned: number;
}
