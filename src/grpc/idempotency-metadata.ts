import type { Metadata } from "@grpc/grpc-js";
import { isIdempotencyKey } from "../core/idempotency-key.js";

/**
 * Request: names the call, so that a server that honours it runs the call once, however often it is
 * sent. The lower-case form of the header in the IETF draft "The Idempotency-Key HTTP Header Field".
 */
export const idempotencyKeyName = "idempotency-key";

/** What the metadata of a call says of its idempotency key. */
export type KeyInMetadata =
  | { readonly kind: "absent" }
  | { readonly kind: "invalid" }
  | { readonly kind: "key"; readonly key: string };

/** Several keys, a key that is too long or has other characters than printable ASCII: all are invalid. */
export function readIdempotencyKey(metadata: Metadata): KeyInMetadata {
  const values = metadata.get(idempotencyKeyName);
  if (values.length === 0) return { kind: "absent" };
  const [key] = values;
  return values.length === 1 && isIdempotencyKey(key) ? { kind: "key", key } : { kind: "invalid" };
}
