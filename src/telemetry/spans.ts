import { type Attributes, type HrTime, type Span, SpanStatusCode } from "@opentelemetry/api";
import type { Clock } from "../core/clock.js";
import type { Decision } from "../core/decision.js";
import { conventional, decisionEvent, own, statusName } from "./attributes.js";

/** Notes how the call or attempt ended. `failed`: as an error, which not every code is on a server. */
export function noteStatus(
  span: Span,
  ended: { readonly code: number; readonly details?: string | null | undefined },
  failed: boolean,
): void {
  const name = statusName(ended.code);
  span.setAttribute(conventional.statusCode, name);
  if (!failed) return;
  span.setAttribute(conventional.errorType, name);
  // The code stands in the attribute: the description is the message alone.
  span.setStatus({ code: SpanStatusCode.ERROR, message: ended.details ?? "" });
}

/** Notes the decisions of the policies as events, at the times when they were taken. */
export function noteDecisions(span: Span, decisions: readonly Decision[], time: SpanTime): void {
  for (const decision of decisions) {
    const attributes: Attributes = {
      [own.decisionPolicy]: decision.policy,
      [own.decisionVerdict]: decision.verdict,
      [own.decisionEnforced]: decision.enforced,
    };
    if (decision.reason !== undefined) attributes[own.decisionReason] = decision.reason;
    if (decision.waitMs !== undefined) attributes[own.decisionWaitMs] = decision.waitMs;
    if (decision.detail !== undefined) attributes[own.decisionDetail] = decision.detail;
    span.addEvent(decisionEvent, attributes, time.at(decision.atMs));
  }
}

/**
 * Turns readings of the toolkit's clock into times of spans. The wall clock is read once for each call, so
 * that a step of it bends no duration, and a virtual clock gives virtual spans.
 */
export class SpanTime {
  readonly #offsetMs: number;

  constructor(clock: Clock) {
    this.#offsetMs = clock.wallNow() - clock.now();
  }

  /** A pair, not a number: small numbers are read as `performance.now()`, and a virtual clock may be young. */
  at(monotonicMs: number): HrTime {
    const epochMs = this.#offsetMs + monotonicMs;
    const seconds = Math.floor(epochMs / 1000);
    const nanos = Math.round((epochMs - seconds * 1000) * 1e6);
    return nanos < 1e9 ? [seconds, nanos] : [seconds + 1, 0];
  }
}
