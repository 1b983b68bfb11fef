import { type Attributes, type Span, SpanStatusCode } from "@opentelemetry/api";
import type { Decision } from "../core/decision.js";
import { conventional, decisionEvent, own, statusName } from "./semconv.js";
import type { SpanTime } from "./span-time.js";

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
