/** The attributes and events of the toolkit that the page reads. A test compares them with those that are recorded. */
export const names = {
  method: "rpc.method",
  statusCode: "rpc.status_code",
  attemptNumber: "weir.attempt.number",
  attemptCause: "weir.attempt.cause",
  attemptDelayMs: "weir.attempt.delay_ms",
  attemptOrigin: "weir.attempt.origin",
  attemptSuperseded: "weir.attempt.superseded",
  rejectionReason: "weir.rejection.reason",
  waitKind: "weir.wait.kind",
  waitPolicy: "weir.wait.policy",
  decisionPolicy: "weir.decision.policy",
  decisionVerdict: "weir.decision.verdict",
  decisionReason: "weir.decision.reason",
  decisionEnforced: "weir.decision.enforced",
  decisionWaitMs: "weir.decision.wait_ms",
  decisionDetail: "weir.decision.detail",
} as const;

/** The name of the events for decisions. */
export const decisionEvent = "weir.decision";
