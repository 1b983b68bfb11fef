import type { Clock } from "../../core/clock.js";
import type { Decision } from "../../core/decision.js";
import type { Priority } from "../../core/priority.js";

/** What telemetry makes of guarded runs. */
export interface GuardSpans {
  /** Nobody records now: there is no span to begin. */
  readonly idle: boolean;
  /** Begins the span of a run; `undefined` where that fails. */
  start(run: GuardedRun): GuardSpan | undefined;
}

export interface GuardedRun {
  /** The guard's. */
  readonly name: string;
  readonly key: string | undefined;
  readonly priority: Priority | undefined;
  readonly clock: Clock;
}

/** The span of one run, over all its attempts, and the time between them. */
export interface GuardSpan {
  attempt(attempt: GuardedAttempt): GuardAttemptSpan;
  end(ended: GuardEnded): void;
}

export interface GuardedAttempt {
  /** 1 for the first. */
  readonly number: number;
  /** How long the run waited before it, in milliseconds. */
  readonly delayMs: number;
  readonly startedAtMs: number;
}

export interface GuardAttemptSpan {
  /** Runs the work with the span active. */
  run<R>(work: () => R): R;
  /** `failed`: what it failed with. Ending twice does nothing. */
  end(atMs: number, failed?: { readonly error: unknown }): void;
}

export interface GuardEnded {
  readonly atMs: number;
  readonly attempts: number;
  readonly decisions: readonly Decision[];
  readonly failed: { readonly error: unknown } | undefined;
}
