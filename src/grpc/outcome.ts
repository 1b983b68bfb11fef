import { status as Status } from "@grpc/grpc-js";
import type { StatusOrigin } from "../core/origin.js";
import type { Outcome } from "../core/permit.js";

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
