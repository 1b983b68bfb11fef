import {
  type Attributes,
  type Context,
  context,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { rounded } from "../core/rounded.js";
import type { ReportError } from "../core/user-code.js";
import type { Wait } from "../core/wait.js";
import type { TraceIds } from "../grpc/context/finished-call.js";
import type {
  GuardAttemptSpan,
  GuardEnded,
  GuardedAttempt,
  GuardedRun,
  GuardSpan,
  GuardSpans,
} from "../grpc/context/guard-spans.js";
import { GuardRejectedError } from "../grpc/status/guard-rejected-error.js";
import { conventional, own, statusName } from "./attributes.js";
import type { ResolvedTracingOptions } from "./options.js";
import { noteDecisions, SpanTime } from "./spans.js";
import { Tracing } from "./tracing.js";
import { makeWaitSpan } from "./wait-span.js";

/**
 * Makes a span of kind INTERNAL for each guarded run, with the decisions of the policies as events, and a child span for
 * each attempt, which is active while the work runs. `undefined` if tracing is off.
 */
export function guardSpans(
  options: ResolvedTracingOptions,
  report: ReportError,
): GuardSpans | undefined {
  if (!options.tracing) return undefined;
  const tracing = new Tracing(options, report);
  return {
    get idle() {
      return tracing.tracer() === undefined;
    },
    start: (run) => GuardRunSpan.start(run, tracing),
  };
}

/** The attributes that only guarded runs have. */
const guardAttributes = {
  /** Run and attempt: the name of the guard. */
  name: "weir.guard.name",
  /** Run: the key of its circuit breaker and bulkhead, if it has one. */
  key: "weir.guard.key",
} as const;

/** The span of a guarded run, over all of its attempts, the time between them and its fallback. */
class GuardRunSpan implements GuardSpan {
  readonly #run: GuardedRun;
  readonly #tracing: Tracing;
  readonly #time: SpanTime;
  readonly #span: Span;
  readonly #context: Context;

  private constructor(run: GuardedRun, tracing: Tracing, time: SpanTime, span: Span, on: Context) {
    this.#run = run;
    this.#tracing = tracing;
    this.#time = time;
    this.#span = span;
    this.#context = trace.setSpan(on, span);
  }

  /** Starts the span of a run, as a child of the active span. */
  static start(run: GuardedRun, tracing: Tracing): GuardRunSpan | undefined {
    const parent = context.active();
    const time = new SpanTime(run.clock);
    const attributes: Attributes = { [guardAttributes.name]: run.name };
    if (run.key !== undefined) attributes[guardAttributes.key] = run.key;
    if (run.priority !== undefined) attributes[own.callPriority] = run.priority;
    const startTime = time.at(run.clock.now());
    const options = { kind: SpanKind.INTERNAL, startTime, attributes };
    const span = tracing.startSpan(`Guard.${run.name}`, options, parent);
    return span === undefined ? undefined : new GuardRunSpan(run, tracing, time, span, parent);
  }

  get ids(): TraceIds | undefined {
    return this.#tracing.idsIn(this.#context);
  }

  get recording(): boolean {
    return this.#tracing.records(this.#span);
  }

  waited(wait: Wait): void {
    makeWaitSpan(this.#tracing, this.#context, this.#time, wait);
  }

  attempt({ number, delayMs, startedAtMs }: GuardedAttempt): GuardAttemptSpan {
    // If the run is not recorded, the context passes that on to the work.
    const span = this.#tracing.records(this.#span)
      ? this.#startAttempt(number, delayMs, startedAtMs)
      : undefined;
    const active = span === undefined ? this.#context : trace.setSpan(this.#context, span);
    let open = span;
    return {
      run: (work) => this.#tracing.run(active, work),
      end: (atMs, failed) => {
        const ended = open;
        open = undefined;
        if (ended === undefined) return;
        this.#tracing.guard(() => {
          noteFailure(ended, failed);
          ended.end(this.#time.at(atMs));
        });
      },
    };
  }

  end({ atMs, attempts, decisions, failed }: GuardEnded): void {
    const span = this.#span;
    this.#tracing.guard(() => {
      span.setAttribute(own.callAttempts, attempts);
      noteDecisions(span, decisions, this.#time);
      noteFailure(span, failed);
      span.end(this.#time.at(atMs));
    });
  }

  #startAttempt(number: number, delayMs: number, startedAtMs: number): Span | undefined {
    const { name } = this.#run;
    const attributes: Attributes = {
      [guardAttributes.name]: name,
      [own.attemptNumber]: number,
      [own.attemptCause]: number === 1 ? "first" : "retry",
    };
    if (number > 1) attributes[own.attemptDelayMs] = rounded(delayMs);
    const startTime = this.#time.at(startedAtMs);
    const options = { kind: SpanKind.INTERNAL, startTime, attributes };
    return this.#tracing.startSpan(`Attempt.${name}`, options, this.#context);
  }
}

function noteFailure(span: Span, failed: { readonly error: unknown } | undefined): void {
  if (failed === undefined) return;
  const { error } = failed;
  if (error instanceof GuardRejectedError) {
    span.setAttribute(own.rejectionReason, error.reason);
    span.setAttribute(own.rejectionLocal, true);
  }
  span.setAttribute(conventional.errorType, errorType(error));
  const message = error instanceof Error ? error.message : String(error);
  span.setStatus({ code: SpanStatusCode.ERROR, message });
}

/** The name of the status code for a refusal, as on calls; otherwise the name of the error. */
function errorType(error: unknown): string {
  if (error instanceof GuardRejectedError) return statusName(error.code);
  return error instanceof Error ? error.name : typeof error;
}
