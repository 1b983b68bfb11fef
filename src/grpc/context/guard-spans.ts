import type { Clock } from "../../core/clock.js";
import type { Decision } from "../../core/decision.js";
import type { Priority } from "../../core/priority.js";
import type { WaitObserver } from "../../core/wait.js";
import type { TraceIds } from "./finished-call.js";

/** Makes spans of guarded runs. Guards know this interface, so that they need not know OpenTelemetry. */
export interface GuardSpans {
  /** Nobody records spans now. */
  readonly idle: boolean;
  /** Starts the span of a run; `undefined` where that fails. */
  start(run: GuardedRun): GuardSpan | undefined;
}

export interface GuardedRun {
  /** The name of the guard. */
  readonly name: string;
  readonly key: string | undefined;
  readonly priority: Priority | undefined;
  readonly clock: Clock;
}

/** The span of one run, over all of its attempts. It is told of the run's waits. */
export interface GuardSpan extends WaitObserver {
  readonly ids: TraceIds | undefined;
  attempt(attempt: GuardedAttempt): GuardAttemptSpan;
  end(ended: GuardEnded): void;
}

export interface GuardedAttempt {
  /** 1 for the first. */
  readonly number: number;
  /** How long the run waited before this attempt, in milliseconds. */
  readonly delayMs: number;
  readonly startedAtMs: number;
}

export interface GuardAttemptSpan {
  /** Runs the work with the span active. */
  run<R>(work: () => R): R;
  /** Ends the span. The second time it does nothing. */
  end(atMs: number, failed?: { readonly error: unknown }): void;
}

export interface GuardEnded {
  readonly atMs: number;
  readonly attempts: number;
  readonly decisions: readonly Decision[];
  readonly failed: { readonly error: unknown } | undefined;
}
