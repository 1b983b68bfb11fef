/**
 * Whether a method may run twice:
 * - `no-side-effects`: it changes nothing, however often it runs;
 * - `idempotent`: running it again changes nothing more;
 * - `unknown`: the schema states nothing. It has no way to state that a method is not idempotent.
 *
 * The levels are those of `google.protobuf.MethodOptions.idempotency_level`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export type IdempotencyLevel = (typeof idempotencyLevels)[number];

export const idempotencyLevels = ["no-side-effects", "idempotent", "unknown"] as const;

/**
 * Reads an `idempotency_level`, which is a number in descriptors and a name in generated code. Other values are
 * `unknown`: a level that a later version of protobuf adds must not allow retries.
 */
export function levelFromSchema(value: unknown): IdempotencyLevel {
  if (value === 1 || value === "NO_SIDE_EFFECTS") return "no-side-effects";
  if (value === 2 || value === "IDEMPOTENT") return "idempotent";
  return "unknown";
}

/** The longest idempotency key, in characters. */
export const maxIdempotencyKeyLength = 255;

/**
 * 1 to 255 printable ASCII characters, without spaces at the ends. HTTP/2 may strip those on the way, so that the server
 * would see another key than the client.
 */
const keyForm = /^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/;

export function isIdempotencyKey(value: unknown): value is string {
  return typeof value === "string" && keyForm.test(value);
}
