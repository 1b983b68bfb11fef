import { status as Status, type StatusObject } from "@grpc/grpc-js";
import type { StatusOrigin } from "../core/origin.js";
import type { Ending, Outcome } from "../core/permit.js";
import { readPushback } from "./metadata-keys.js";
import { handlerNotRun, type Rejection, saysNothingOfHealth } from "./rejection.js";
import { decodeStatusDetails } from "./status-details.js";
import { codeOf } from "./status-origin.js";

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

/** How a finished attempt counts: by where its status came from, then by its code. */
export function outcomeOf(code: Status, origin: StatusOrigin): Outcome {
  switch (origin) {
    case "local-policy":
    case "local-limit":
    case "local-setup":
    case "caller":
      return "ignored";
    case "attempt-timeout":
      return "failure";
    case "deadline":
    case "never-sent":
    case "refused":
    case "transport":
    case "remote":
      return outcomeOfCode[code] ?? "failure";
    default:
      return origin satisfies never;
  }
}

/** What the status of an attempt says beside its outcome. Whatever this process refused itself says nothing. */
export function endingOf(
  received: StatusObject,
  origin: StatusOrigin,
  told: Rejection | undefined,
): Ending {
  const { metadata } = received;
  const unserved = unservedBy(received, origin, told);
  if (origin !== "remote") return { unserved };
  const pushback = readPushback(metadata);
  const retryAfterMs = typeof pushback === "number" ? pushback : told?.retryAfterMs;
  return { unserved, retryAfterMs: retryAfterMs ?? decodeStatusDetails(metadata).retryDelayMs };
}

/**
 * How servers in several languages say that a message is too large, under the code by which they also say that they
 * have too much to do. The next message may be smaller, and it is nothing against the server.
 */
const tooLarge = /\b(larger than|exceeds)\b.*\b(max|maximum|size|limit)\b/i;

function unservedBy(
  status: StatusObject,
  origin: StatusOrigin,
  told: Rejection | undefined,
): Ending["unserved"] {
  if (origin === "local-policy" || origin === "local-limit") return undefined;
  if (origin === "local-setup" || origin === "caller") return undefined;
  if (origin === "attempt-timeout") return "unavailable";
  if (handlerNotRun(told)) return "shed";
  // It was served for as long as the server serves a stream.
  if (saysNothingOfHealth(told)) return undefined;
  // A service below it has refused, and it has done its own part.
  if (told !== undefined && told.hops > 0) return undefined;
  const code = codeOf(status, origin);
  if (code === Status.RESOURCE_EXHAUSTED) return tooLarge.test(status.details) ? undefined : "shed";
  const lost = code === Status.UNAVAILABLE || code === Status.DEADLINE_EXCEEDED;
  return lost ? "unavailable" : undefined;
}
