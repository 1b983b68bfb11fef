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
