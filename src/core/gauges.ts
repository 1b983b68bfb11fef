import type { PolicyName, Side } from "./decision.js";
import { type Priority, priorities, priorityRank } from "./priority.js";

/** What policies measure of themselves, beside the calls that they decide about. */
export type GaugeName =
  /** Calls that wait in a queue. */
  | "queue"
  /** Slots of an admission, and those in use. */
  | "admissionLimit"
  | "admissionRunning"
  /** Calls that an admission has given a slot. Only grows. */
  | "admissionAdmitted"
  /** Permits of a bulkhead, and those that are out. */
  | "bulkheadLimit"
  | "bulkheadRunning"
  /** The state of a circuit breaker: 0 closed, 1 half-open, 2 open. */
  | "breaker"
  /** What a retry budget has left; 0 while it allows no extra attempt. */
  | "budget"
  /** A signal of the pressure on the process, from 0 to 1. */
  | "pressure"
  /** The share of calls that a throttle holds back, from 0 to 1. */
  | "throttle"
  /** The pressure by which optional work is left out, from 0 to 1. */
  | "brownout"
  /** 1 while a server drains, otherwise 0. */
  | "draining"
  /** 1 while a store that several processes share does not answer, and this process decides alone; otherwise 0. */
  | "storeAway"
  /** Guarded runs that have ended. Only grows. */
  | "guardRuns"
  /** 1 for each flag that is set, and not to false. */
  | "flag";

/** What a number is about. */
export interface GaugeLabels {
  readonly policy?: PolicyName;
  readonly side?: Side;
  readonly priority?: Priority;
  /** The key of a breaker, bulkhead or throttle. */
  readonly key?: string;
  readonly target?: string;
  /** The name of a guard. */
  readonly guard?: string;
  /** The name of a flag. */
  readonly flag?: string;
  /** Of a policy that bounds streams by themselves. */
  readonly pool?: "calls" | "streams";
  readonly signal?: string;
  readonly budget?: "ratio" | "tokens";
  /** How guarded runs ended. */
  readonly outcome?: "succeeded" | "failed" | "rejected";
}

/**
 * Receives the numbers of policies when somebody collects metrics. Several policies may have the same labels: their numbers
 * are joined.
 */
export interface Gauges {
  note(gauge: GaugeName, value: number, labels: GaugeLabels): void;
}

/** Tells how many calls of each priority wait in the queues of a policy. */
export function noteQueue(
  gauges: Gauges,
  policy: PolicyName,
  side: Side,
  waiting: (rank: number) => number,
): void {
  for (const priority of priorities) {
    gauges.note("queue", waiting(priorityRank[priority]), { policy, side, priority });
  }
}
