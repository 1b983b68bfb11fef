import { type Metadata, type NextCall, status as Status, type StatusObject } from "@grpc/grpc-js";
import { CallRecord, type OptionsWithOwn, recordKey } from "../grpc/call-record.js";
import { CallDeadline, callBelow } from "../grpc/deadline.js";
import { asKept, copyMetadata } from "../grpc/kept-metadata.js";
import { cohortKey, previousAttemptsKey } from "../grpc/metadata-keys.js";
import { rejectionOf } from "../grpc/rejection.js";
import { decodeStatusDetails } from "../grpc/status-details.js";
import { originOf } from "../grpc/status-origin.js";
import type { Surroundings } from "../grpc/surroundings.js";
import type { Departure } from "./single-flight.js";
import { freshMessage, responseBytes } from "./stale-cache-bytes.js";
import type { AnswerRecording } from "./stale-cache-recording.js";

/** The call that opens a shared one. */
interface Opener {
  readonly record: CallRecord;
  readonly metadata: Metadata;
  readonly request: unknown;
  /** Until when it waits itself, on the monotonic clock. */
  readonly untilMs: number;
  readonly retryDepth: number;
  readonly recording: AnswerRecording;
}

/**
 * The call that those who ask the same share. It has a record of its own, because it may outlive the call that opened it,
 * and twice that one's time: so it serves all who join while the opener waits and would wait as long themselves.
 * Nobody waits longer than they would, and the server is told when the last has gone.
 */
export function sharedCall(
  nextCall: NextCall,
  options: OptionsWithOwn,
  surroundings: Surroundings,
  { record, metadata, request, untilMs, retryDepth, recording }: Opener,
): Departure {
  const { method_definition: definition } = options;
  const { requestStream, responseStream } = definition;
  const { clock } = record;
  const shared = new CallRecord(
    surroundings,
    { path: record.method, requestStream, responseStream },
    record.connection,
  );
  shared.learnTarget(record.target || "unknown");
  shared.priority = record.priority;
  const deadlineMs = untilMs + Math.max(0, untilMs - clock.now());
  shared.deadlineMs = deadlineMs;
  return {
    record: shared,
    deadlineMs,
    definition,
    retryDepth,
    metadata: sharedMetadata(metadata),
    request,
    open() {
      const own: OptionsWithOwn = { [recordKey]: shared, ...options };
      own[recordKey] = shared;
      if (deadlineMs !== Number.POSITIVE_INFINITY) {
        // Whoever waits for it watches a deadline that is no later, and the last to leave calls it off.
        const leftMs = deadlineMs - clock.now();
        own.deadline = new CallDeadline(deadlineMs, leftMs, clock, record.connection !== undefined);
      }
      return callBelow(nextCall, own);
    },
    another(message) {
      const bytes = responseBytes(message);
      // Without its bytes there is one object for all; the recording tells of it.
      return bytes === undefined ? message : freshMessage(definition, bytes);
    },
    succeeded(message, status) {
      recording.message(message);
      recording.ended(status);
    },
  };
}

/** What a caller says of itself that may be worse than what others would say who share the call. */
const ofOneCaller = [cohortKey, previousAttemptsKey];

/** The metadata of a call that belongs to nobody in particular. */
function sharedMetadata(metadata: Metadata): Metadata {
  if (ofOneCaller.every((key) => metadata.get(key).length === 0)) return metadata;
  const shared = copyMetadata(metadata);
  for (const key of ofOneCaller) shared.remove(key);
  return asKept(shared);
}

/**
 * Whether a shared call has failed for a reason that may be its first caller's: who that is, what it may ask for, or a
 * policy of this process whose state goes by the caller.
 */
export function failedForOpener(status: StatusObject): boolean {
  const { code } = status;
  if (code === Status.UNAUTHENTICATED || code === Status.PERMISSION_DENIED) return true;
  const rejection = rejectionOf(status);
  if (rejection?.local === true) {
    const seen = { sawHeaders: false, peer: "", target: "" };
    return rejection.reason !== "CLOSED" && originOf(status, seen, rejection) === "local-policy";
  }
  return (
    rejection?.reason === "RATE_LIMIT_EXCEEDED" ||
    decodeStatusDetails(status.metadata).quotaViolations !== undefined
  );
}
