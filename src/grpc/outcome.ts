import { status as Status, type StatusObject } from "@grpc/grpc-js";
import { connecting } from "../core/heard-events.js";
import type { StatusOrigin } from "../core/origin.js";
import type { Ending, Outcome } from "../core/permit.js";
import { readPushback } from "./metadata-keys.js";
import { handlerNotRun, type Rejection, saysNothingOfHealth } from "./rejection.js";
import { decodeStatusDetails } from "./status-details.js";
import { codeOf, endsConnection } from "./status-origin.js";

/**
 * How an answer of the other side counts for breakers and limits. The failures are those that say
 * something about the server's health: UNKNOWN counts because it is what a handler that throws ends with;
 * ABORTED does not because it is the application's word for a conflict.
 */
const outcomeOfCode = {
  [Status.OK]: "success",
  [Status.CANCELLED]: "ignored",
  [Status.UNKNOWN]: "failure",
  [Status.INVALID_ARGUMENT]: "success",
  [Status.DEADLINE_EXCEEDED]: "failure",
  [Status.NOT_FOUND]: "success",
  [Status.ALREADY_EXISTS]: "success",
  [Status.PERMISSION_DENIED]: "success",
  [Status.RESOURCE_EXHAUSTED]: "failure",
  [Status.FAILED_PRECONDITION]: "success",
  [Status.ABORTED]: "success",
  [Status.OUT_OF_RANGE]: "success",
  [Status.UNIMPLEMENTED]: "success",
  [Status.INTERNAL]: "failure",
  [Status.UNAVAILABLE]: "failure",
  [Status.DATA_LOSS]: "failure",
  [Status.UNAUTHENTICATED]: "success",
} as const satisfies Record<Status, Outcome>;

/** What is known of an attempt that has ended, besides its status and where that came from. */
export interface EndedEvidence {
  /** What the toolkit says about the status. */
  readonly told?: Rejection | undefined;
  /** A service below the one that answered has refused or failed, and the answer says so. */
  readonly relayed?: boolean;
  /** No server was chosen for it. */
  readonly neverLeft?: boolean;
  /** Its channel has a connection now. */
  readonly connected?: boolean;
  /** It is a stream that had a message from the other side. */
  readonly delivered?: boolean;
}

/**
 * How a finished attempt counts: by where its status came from, then by its code.
 *
 * Nothing is held against a target that was not asked though it could have been: with a connection, an attempt that no
 * server was chosen for waited for its own credentials. A stream that delivered was served, whatever ended it later.
 */
export function outcomeOf(
  code: Status,
  origin: StatusOrigin,
  { told, relayed, neverLeft, connected, delivered }: EndedEvidence = {},
): Outcome {
  switch (origin) {
    case "local-policy":
    case "local-limit":
    case "local-setup":
    case "caller":
      return "ignored";
    case "attempt-timeout":
      return delivered === true ? "success" : "failure";
    case "deadline":
    case "never-sent":
    case "refused":
    case "transport":
      if (neverLeft === true && connected === true) return "ignored";
      return delivered === true ? "success" : (outcomeOfCode[code] ?? "failure");
    case "remote":
      // A server that sheds this call may serve the next, and says when to come back: that is no sign of ill health.
      if (saysNothingOfHealth(told)) return "ignored";
      // It has done its own part, and may answer other calls by itself.
      return relayed === true || delivered === true
        ? "success"
        : (outcomeOfCode[code] ?? "failure");
    default:
      return origin satisfies never;
  }
}

/** What the status of an attempt says beside its outcome. Whatever this process refused itself says nothing. */
export function endingOf(
  received: StatusObject,
  origin: StatusOrigin,
  seen: EndedEvidence = {},
): Ending {
  const { metadata } = received;
  const { told } = seen;
  const unserved = unservedBy(received, origin, seen);
  if (origin === "transport") {
    return { unserved, connectionLost: endsConnection(received.details) };
  }
  if (origin !== "remote") return { unserved, event: eventOf(received, origin, seen) };
  const pushback = readPushback(metadata);
  const retryAfterMs = typeof pushback === "number" ? pushback : told?.retryAfterMs;
  return { unserved, retryAfterMs: retryAfterMs ?? decodeStatusDetails(metadata).retryDelayMs };
}

/**
 * How servers in several languages say that a message is too large, under the code by which they also say that they
 * have too much to do. The next message may be smaller, and it is nothing against the server.
 */
const tooLarge = /\b(larger than|exceeds)\b.*\b(max|maximum|size|limit)\b/i;

/** What kept an attempt from being sent: grpc-js repeats the error of a failed connect to all calls until the next one. */
function eventOf(
  { details }: StatusObject,
  origin: StatusOrigin,
  { told, neverLeft }: EndedEvidence,
): string | undefined {
  if (origin === "never-sent") return told?.local === true ? connecting : details;
  // The call gave up before the attempt to connect had ended.
  return origin === "deadline" && neverLeft === true ? connecting : undefined;
}

function unservedBy(
  status: StatusObject,
  origin: StatusOrigin,
  { told, relayed, neverLeft, connected, delivered }: EndedEvidence,
): Ending["unserved"] {
  if (origin === "local-policy" || origin === "local-limit") return undefined;
  if (origin === "local-setup" || origin === "caller") return undefined;
  // A stream was served for as long as it lasted; with a connection, what was never sent waited for something here.
  if (delivered === true || (neverLeft === true && connected === true)) return undefined;
  if (origin === "attempt-timeout") return "unavailable";
  if (handlerNotRun(told)) return "shed";
  // It was served for as long as the server serves a stream.
  if (saysNothingOfHealth(told)) return undefined;
  // A service below it has refused, and it has done its own part.
  if (relayed === true) return undefined;
  const code = codeOf(status, origin);
  if (code === Status.RESOURCE_EXHAUSTED) return tooLarge.test(status.details) ? undefined : "shed";
  const lost = code === Status.UNAVAILABLE || code === Status.DEADLINE_EXCEEDED;
  return lost ? "unavailable" : undefined;
}
