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
 * - `local-policy`: a policy of this process refused the call.
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
