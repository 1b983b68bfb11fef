import type { Permit } from "./permit.js";
import type { Reason } from "./reasons.js";

/** The answer of a policy that does not let a call through. */
export interface Refusal {
  readonly kind: "refusal";
  readonly reason: Reason;
  /** For a person: the numbers behind the reason, such as `running 64 of 64, queued 100 of 100`. */
  readonly detail: string;
  /**
   * After how many milliseconds trying again is worth it. Absent where the policy cannot tell, or
   * where another try makes no sense.
   */
  readonly retryAfterMs?: number;
  /** Whose quota is used up. Such a refusal without `retryAfterMs` means that trying again is of no use. */
  readonly subject?: string;
}

export function refusal(
  reason: Reason,
  detail: string,
  retryAfterMs?: number,
  subject?: string,
): Refusal {
  return {
    kind: "refusal",
    reason,
    detail,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(subject === undefined ? {} : { subject }),
  };
}

/** Tells a refusal from a permit, and from whatever else a policy answers that names its kind. */
export function isRefusal(answer: Permit | { readonly kind: string }): answer is Refusal {
  return "kind" in answer && answer.kind === "refusal";
}
