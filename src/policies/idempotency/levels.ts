/**
 * What is known of running a method twice:
 * - `no-side-effects`: it changes nothing, so that it can be run as often as one likes
 * - `idempotent`: running it again changes nothing more
 * - `unknown`: nothing was said. That is not `no`: gRPC has no way to say no.
 *
 * The levels are those of `google.protobuf.MethodOptions.idempotency_level`.
 */
export type IdempotencyLevel = (typeof idempotencyLevels)[number];

export const idempotencyLevels = ["no-side-effects", "idempotent", "unknown"] as const;

/**
 * Reads an `idempotency_level` as descriptors (numbers) and code generators (names) give it. What is
 * neither reads as `unknown`: a level that a later protobuf adds must not allow a retry.
 */
export function levelFromSchema(value: unknown): IdempotencyLevel {
  if (value === 1 || value === "NO_SIDE_EFFECTS") return "no-side-effects";
  if (value === 2 || value === "IDEMPOTENT") return "idempotent";
  return "unknown";
}

/** The longest key that is taken, in characters. */
export const maxIdempotencyKeyLength = 255;

/**
 * A key is 1 to 255 printable ASCII characters, without spaces at its ends: HTTP/2 may take those away on the
 * way, and the server would hold another key than the client.
 */
const keyForm = /^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/;

export function isIdempotencyKey(value: unknown): value is string {
  return typeof value === "string" && keyForm.test(value);
}
