import { InvalidOptionError, wholeNumber } from "./options.js";

/** The names of the gRPC status codes. The place of each is its number. */
export const statusNames = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/**
 * A status code in an option: its name, or its number as in `grpc.status`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export type StatusCodeOption = (typeof statusNames)[number] | number;

/**
 * The number of a status code that an option has.
 *
 * @param min 0 where OK is allowed, else 1.
 * @throws InvalidOptionError for what is neither the name nor the number of a status code.
 */
export function codeNumber(option: string, given: unknown, min: 0 | 1): number {
  if (typeof given !== "string") return wholeNumber(option, given, min, statusNames.length - 1);
  const code = (statusNames as readonly string[]).indexOf(given);
  if (code >= min) return code;
  const rule = `the name of a status code${min === 0 ? "" : " other than OK"}, such as UNAVAILABLE, or its number`;
  throw new InvalidOptionError(option, rule, given);
}

/** The gRPC status codes that policies reason about, by their numbers on the wire. */
export const statusCode = {
  unknown: 2,
  resourceExhausted: 8,
  unavailable: 14,
} as const;

/**
 * Where the final status of an attempt came from. Policies decide by it, because a status code alone does not tell whether
 * the server saw the call.
 *
 * - `local-policy`: a policy of this process refused the call, or the balancer dropped it as a control plane wants.
 * - `local-limit`: in this process, a message was too large or could not be (de)serialised, or an interceptor threw.
 * - `local-setup`: this process could not set up the call: its call credentials failed, or its channel was closed. The
 *   server was never asked.
 * - `never-sent`: the call never left this process. Safe to retry for every method.
 * - `refused`: the peer refused the stream before it processed anything. Safe to retry for every method.
 * - `transport`: the connection broke, or something answered that is not a gRPC server. Whether the server saw the call is
 *   not known.
 * - `remote`: the server sent the status.
 * - `caller`: the caller cancelled the call.
 * - `attempt-timeout`: the attempt ran out of its own time.
 * - `deadline`: the call ran out of time.
 */
export type StatusOrigin =
  | "local-policy"
  | "local-limit"
  | "local-setup"
  | "never-sent"
  | "refused"
  | "transport"
  | "remote"
  | "caller"
  | "attempt-timeout"
  | "deadline";
