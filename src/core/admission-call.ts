import type { Priority } from "./priority.js";
import type { ShedCall, Shedder } from "./shedder.js";
import type { ReportError } from "./user-code.js";

type ByPriority = Record<Priority, number>;

/** What admission knows of a call. */
export interface AdmissionCall extends ShedCall {
  /** On the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
  /** What it is compared with when it ends: calls of the same method. @defaultValue all are of one */
  readonly method?: string;
  /** How long such calls run as a rule, in milliseconds; 0 where that is not known. */
  readonly neededMs: number;
}

/** Numbers of one pool of slots. `admitted`, `refused` and `left` (the queue, unserved) only grow. */
export interface AdmissionSnapshot {
  readonly limit: number;
  readonly maxQueued: number;
  readonly running: number;
  /** Of those that run, the ones whose callers have left while their handlers work on. */
  readonly abandoned: number;
  readonly queued: number;
  readonly draining: boolean;
  readonly admitted: Readonly<ByPriority>;
  readonly refused: Readonly<ByPriority>;
  readonly left: Readonly<ByPriority>;
}

/** How the slots of a pool have been used. `takenMs` and `shed` only grow. */
export interface AdmissionWork {
  readonly limit: number;
  /** Slots that are taken now. */
  readonly taken: number;
  /** The time for which slots have been taken, summed over all slots, in milliseconds. */
  readonly takenMs: number;
  /** Calls that were refused for load: by a shedder, a full queue, or a wait that took too long. */
  readonly shed: number;
}

/** What an admission stands on beside its options. */
export interface AdmissionParts {
  /** This process has no more to give. For limits that learn. @defaultValue never */
  readonly saturated?: () => boolean;
  /** Asked in their order before anything else. @defaultValue none */
  readonly shedders?: readonly Shedder[];
  /** Hears of an `onTurn` that throws. @defaultValue the error is thrown from a task of its own */
  readonly report?: ReportError;
}

/** Counts that begin. */
export function zeros(): ByPriority {
  return { critical: 0, high: 0, normal: 0, low: 0 };
}
