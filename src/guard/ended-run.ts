import { status as Status } from "@grpc/grpc-js";
import type { Decision, PolicyName, Reason } from "../core/decision.js";
import type { Priority } from "../core/priority.js";
import {
  type AttemptFacts,
  type AttemptFailure,
  refuserIn,
  type TraceIds,
} from "../grpc/context/finished-call.js";
import type { EndedFacts } from "../grpc/context/history.js";
import { GuardRejectedError } from "../grpc/status/guard-rejected-error.js";
import { originOfLocal } from "../grpc/status/origin.js";

/** A run that has ended, as its guard knows it. */
export interface EndedRun {
  readonly guard: string;
  readonly priority: Priority;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly deadlineMs: number;
  /** The error that the caller gets; `undefined` after an answer. */
  readonly failed: { readonly error: unknown } | undefined;
  /** The policy that refused it; where that is not given, it is looked up in the decisions. */
  readonly refusedBy?: PolicyName;
  /** A fallback answered. */
  readonly degraded: boolean;
  readonly attemptCount: number;
  readonly attempts: readonly AttemptFacts[];
  readonly decisions: readonly Decision[];
  readonly ids: TraceIds | undefined;
}

/** What is kept of a run that has ended: nothing that holds its work, its options or its error. */
export function endedFacts(run: EndedRun): EndedFacts {
  const { guard, failed, decisions } = run;
  const error = failed && failureOf(failed.error);
  const rejected = refusalIn(guard, failed);
  const reason: Reason | undefined = rejected?.reason;
  return {
    side: "guard",
    method: guard,
    kind: undefined,
    target: "",
    priority: run.priority,
    startedAtMs: run.startedAtMs,
    endedAtMs: run.endedAtMs,
    deadlineMs: run.deadlineMs,
    handlerStartedMs: undefined,
    code: failed === undefined ? Status.OK : (rejected?.code ?? Status.UNKNOWN),
    details: error?.details ?? "",
    error: error?.status,
    origin: reason && originOfLocal(reason),
    decidedBy: undefined,
    reason,
    refusedBy: reason && (run.refusedBy ?? refuserIn(decisions, reason)),
    attemptCount: run.attemptCount,
    attempts: run.attempts,
    decisions,
    degraded: run.degraded ? [{ source: "fallback", name: guard }] : none,
    ids: run.ids,
  };
}

const none: readonly never[] = [];

/** The refusal by this guard. That of another one, which its work went through, is a failure of the work. */
function refusalIn(
  guard: string,
  failed: { readonly error: unknown } | undefined,
): GuardRejectedError | undefined {
  const error = failed?.error;
  return error instanceof GuardRejectedError && error.guard === guard ? error : undefined;
}

/** The name and the text of an error, which may be anything that user code throws. */
export function failureOf(error: unknown): AttemptFailure {
  try {
    if (error instanceof Error) {
      return { status: String(error.name), origin: undefined, details: String(error.message) };
    }
    return { status: typeof error, origin: undefined, details: String(error) };
  } catch {
    return { status: "Error", origin: undefined, details: "" };
  }
}
