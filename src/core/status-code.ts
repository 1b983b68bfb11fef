/** The gRPC status codes that policies reason about, by their numbers on the wire. */
export const statusCode = {
  unknown: 2,
  resourceExhausted: 8,
  unavailable: 14,
} as const;
