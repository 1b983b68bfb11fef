/** The gRPC status codes that policies reason about, by their numbers on the wire. */
export const statusCode = {
  unknown: 2,
  resourceExhausted: 8,
  unavailable: 14,
} as const;

/**
 * Where the final status of an attempt came from. Policies decide by it, because a code alone does not
 * tell whether the server saw the call.
 * - `local-policy`: a policy in this process refused it
 * - `local-limit`: a size limit, a message that could not be (de)serialised, or an interceptor that threw, in
 *   this process
 * - `local-setup`: this process could not set the call up: its call credentials failed, or its channel was closed; the
 *   server was never asked
 * - `never-sent`: it never left this process; safe to retry for every method
 * - `refused`: the peer refused the stream before processing; safe to retry for every method
 * - `transport`: the connection broke, or something that is no gRPC server answered; whether the server
 *   saw the call is not known
 * - `remote`: the server said it
 * - `caller`: the caller cancelled
 * - `attempt-timeout`: this attempt ran out of its own time
 * - `deadline`: the call ran out of time
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
