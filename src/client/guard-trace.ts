import type { Decision } from "../core/decision.js";
import type { GuardAttemptSpan, GuardSpan } from "../grpc/guard-spans.js";

/** What the telemetry of one run needs to be told. It is there only where somebody records. */
export class GuardTrace {
  readonly decisions: Decision[] = [];
  readonly #span: GuardSpan;
  #attempt: GuardAttemptSpan | undefined;

  constructor(span: GuardSpan) {
    this.#span = span;
  }

  /** Runs the work of an attempt with its span active. */
  attempt<R>(number: number, delayMs: number, startedAtMs: number, work: () => R): R {
    const attempt = this.#span.attempt({ number, delayMs, startedAtMs });
    this.#attempt = attempt;
    return attempt.run(work);
  }

  /** The current attempt has ended, if there is one. */
  attemptEnded(atMs: number, failed?: { readonly error: unknown }): void {
    this.#attempt?.end(atMs, failed);
    this.#attempt = undefined;
  }

  ended(atMs: number, attempts: number, failed: { readonly error: unknown } | undefined): void {
    this.#span.end({ atMs, attempts, decisions: this.decisions, failed });
  }
}
