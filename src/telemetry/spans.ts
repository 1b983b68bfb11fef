import { type Attributes, type HrTime, type Span, SpanStatusCode } from "@opentelemetry/api";
import { type Clock, epochOffsetMs } from "../core/clock.js";
import type { Decision } from "../core/decision.js";
import { rounded } from "../core/rounded.js";
import { conventional, decisionEvent, own, statusName } from "./attributes.js";

/** Notes how a call or attempt ended. `failed`: whether the span is an error; on a server not every code is one. */
export function noteStatus(
  span: Span,
  ended: { readonly code: number; readonly details?: string | null | undefined },
  failed: boolean,
): void {
  const name = statusName(ended.code);
  span.setAttribute(conventional.statusCode, name);
  if (!failed) return;
  span.setAttribute(conventional.errorType, name);
  // The message without the code, which is an attribute already.
  span.setStatus({ code: SpanStatusCode.ERROR, message: ended.details ?? "" });
}

/** Adds the decisions of the policies to a span, as events with the times at which they were taken. */
export function noteDecisions(span: Span, decisions: readonly Decision[], time: SpanTime): void {
  for (const decision of decisions) {
    const attributes: Attributes = {
      [own.decisionPolicy]: decision.policy,
      [own.decisionVerdict]: decision.verdict,
      [own.decisionEnforced]: decision.enforced,
    };
    if (decision.reason !== undefined) attributes[own.decisionReason] = decision.reason;
    if (decision.waitMs !== undefined) attributes[own.decisionWaitMs] = rounded(decision.waitMs);
    if (decision.detail !== undefined) attributes[own.decisionDetail] = decision.detail;
    span.addEvent(decisionEvent, attributes, time.at(decision.atMs));
  }
}

/**
 * Turns readings of the toolkit's clock into times of spans. It reads the wall clock once for each call, so that a step
 * of the wall clock does not change durations. With a virtual clock, spans have virtual times.
 */
export class SpanTime {
  readonly #offsetMs: number;

  constructor(clock: Clock) {
    this.#offsetMs = epochOffsetMs(clock);
  }

  /** A pair and no number: OpenTelemetry takes small numbers, as a virtual clock gives them, for `performance.now()`. */
  at(monotonicMs: number): HrTime {
    const epochMs = this.#offsetMs + monotonicMs;
    const seconds = Math.floor(epochMs / 1000);
    const nanos = Math.round((epochMs - seconds * 1000) * 1e6);
    return nanos < 1e9 ? [seconds, nanos] : [seconds + 1, 0];
  }
}
