import { status as Status, type StatusObject } from "@grpc/grpc-js";
import type { StatusOrigin } from "../../core/status.js";
import type { AttemptRecord, CallRecord } from "../context/call-record.js";
import {
  type AttemptFacts,
  type CallFacts,
  refuserIn,
  statusName,
} from "../context/finished-call.js";
import type { EndedFacts } from "../context/history.js";
import { readDegradations } from "../status/degraded.js";
import { isAddress, originOfLocal } from "../status/origin.js";
import { rejectionOf } from "../status/rejection.js";

/** A call that has ended. */
interface EndedCall {
  readonly record: CallRecord;
  /** What the telemetry keeps of it. */
  readonly trace: unknown;
  readonly endedAtMs: number;
}

/** What is known of a call that runs. */
export function runningFacts(record: CallRecord, trace: unknown): CallFacts {
  return {
    side: "client",
    method: record.method,
    kind: record.kind,
    target: record.target,
    priority: record.priority,
    startedAtMs: record.startedAtMs,
    endedAtMs: record.clock.now(),
    deadlineMs: record.deadlineMs,
    handlerStartedMs: undefined,
    code: undefined,
    details: "",
    error: undefined,
    origin: undefined,
    decidedBy: undefined,
    reason: undefined,
    refusedBy: undefined,
    attemptCount: record.attemptCount,
    attempts: attemptsOf(record),
    decisions: [...record.decisions],
    degraded: [],
    ids: record.idsOf(trace),
  };
}

/**
 * What is kept of a call that has ended: nothing that holds a request, a response, metadata or a span.
 *
 * @param cancelled The status is that of a cancellation by the caller.
 */
export function endedFacts(call: EndedCall, status: StatusObject, cancelled: boolean): EndedFacts {
  const { record } = call;
  const { code, details, metadata } = status;
  const well = code === Status.OK;
  const decided = decidedBy(record.attempts, status);
  const rejection = well ? undefined : rejectionOf(status);
  const refused = rejection?.local === true ? rejection.reason : undefined;
  let origin: StatusOrigin | undefined;
  if (!well) {
    origin = decided?.failure?.origin;
    if (refused !== undefined) origin ??= originOfLocal(refused);
    if (cancelled) origin ??= "caller";
  }
  return {
    side: "client",
    method: record.method,
    kind: record.kind,
    target: record.target,
    priority: record.priority,
    startedAtMs: record.startedAtMs,
    // The end of a stream may come later than that of its attempt: it waits until the caller has read.
    endedAtMs: (record.kind === "unary" ? decided?.endedAtMs : undefined) ?? call.endedAtMs,
    deadlineMs: record.deadlineMs,
    handlerStartedMs: undefined,
    code,
    details,
    error: undefined,
    origin,
    decidedBy: decided?.number,
    reason: rejection?.reason,
    refusedBy: refused && refuserIn(record.decisions, refused),
    attemptCount: record.attemptCount,
    attempts: attemptsOf(record),
    decisions: record.decisions,
    degraded: well ? readDegradations(metadata) : none,
    ids: record.idsOf(call.trace),
  };
}

const none: readonly never[] = [];

/** The attempt that the caller has the status of. A policy may have added to its metadata on the way. */
function decidedBy(
  attempts: readonly AttemptRecord[],
  { code, details, metadata }: StatusObject,
): AttemptRecord | undefined {
  const [only] = attempts;
  // The usual call, without a search.
  if (code === Status.OK && attempts.length === 1 && only?.failure === undefined) {
    return only?.endedAtMs === undefined || only.superseded === true ? undefined : only;
  }
  return attempts.findLast(({ failure, endedAtMs, superseded }) => {
    if (code === Status.OK) {
      return endedAtMs !== undefined && failure === undefined && superseded !== true;
    }
    const its = failure?.status;
    return its?.metadata === metadata || (its?.code === code && its.details === details);
  });
}

/** The attempts without their statuses. An attempt that has ended OK has none, and nobody writes to it any more. */
function attemptsOf({ attempts, target }: CallRecord): readonly AttemptFacts[] {
  const [only] = attempts;
  if (attempts.length === 1 && only?.endedAtMs !== undefined && only.failure === undefined) {
    return attempts;
  }
  return attempts.map((attempt) => attemptFacts(attempt, target));
}

function attemptFacts(attempt: AttemptRecord, target: string): AttemptFacts {
  const { number, cause, delayMs, startedAtMs, endedAtMs, superseded, faults, failure } = attempt;
  const { peer } = attempt;
  return {
    number,
    cause,
    delayMs,
    startedAtMs,
    endedAtMs,
    peer: peer !== undefined && isAddress(peer, target) ? peer : undefined,
    superseded,
    faults,
    failed: failure && {
      status: statusName(failure.status.code),
      origin: failure.origin,
      details: failure.status.details,
    },
  };
}
