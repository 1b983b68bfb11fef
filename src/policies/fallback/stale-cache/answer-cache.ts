/**
 * Where answers are kept to be given again: in memory, or in a store that several processes share. Values are
 * opaque bytes, so that a store needs nothing but get and set with a time to live.
 *
 * A store that fails or hangs costs no call more than the time the policy gives it.
 */
export interface AnswerCache {
  /** What was set under the key and has not expired, or nothing. */
  get(key: string): Known<Uint8Array | null | undefined>;
  /** Keeps the value for `ttlMs` milliseconds, or less: a store may forget what it has no room for. */
  set(key: string, value: Uint8Array, ttlMs: number): Known<unknown>;
}

/** Something that is known now, or will be. */
export type Known<T> = T | PromiseLike<T>;

/** An answer with the time at which it was given. */
export interface StoredAnswer {
  /** Milliseconds since the epoch: another process may read it. */
  readonly storedAtMs: number;
  /** The same on a monotonic clock, and which clock that was: no other one can tell anything by it. */
  readonly reading?: { readonly clock: number; readonly nowMs: number };
  /** Serialized messages, one for a single response. */
  readonly messages: readonly Uint8Array[];
}

/** With the wall clock alone. */
const byWall = 1;
/** With a reading of a monotonic clock too. */
const byReading = 2;
const headBytes = 1 + 8;
const readingBytes = 8 + 8;
const lengthBytes = 4;

/** How many bytes it takes to store an answer. */
export function storedBytes(messages: readonly Uint8Array[]): number {
  return messages.reduce((sum, { length }) => sum + lengthBytes + length, headBytes);
}

/** A copy in bytes of its own: what a message was read from may be a slice of something much larger. */
export function encodeAnswer({ storedAtMs, reading, messages }: StoredAnswer): Uint8Array {
  const more = reading === undefined ? 0 : readingBytes;
  const bytes = new Uint8Array(storedBytes(messages) + more);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, reading === undefined ? byWall : byReading);
  view.setFloat64(1, storedAtMs);
  if (reading !== undefined) {
    view.setFloat64(headBytes, reading.clock);
    view.setFloat64(headBytes + 8, reading.nowMs);
  }
  let at = headBytes + more;
  for (const message of messages) {
    view.setUint32(at, message.length);
    bytes.set(message, at + lengthBytes);
    at += lengthBytes + message.length;
  }
  return bytes;
}

/**
 * The answer in the bytes. Its messages are views on them: who hands one out makes a copy. `undefined` for anything
 * else that stands in the store under our key.
 */
export function decodeAnswer(bytes: Uint8Array): StoredAnswer | undefined {
  if (!(bytes instanceof Uint8Array) || bytes.length < headBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const storedAtMs = view.getFloat64(1);
  const version = view.getUint8(0);
  if ((version !== byWall && version !== byReading) || !Number.isFinite(storedAtMs)) {
    return undefined;
  }
  let at = headBytes;
  let reading: StoredAnswer["reading"];
  if (version === byReading) {
    at += readingBytes;
    if (bytes.length < at) return undefined;
    reading = { clock: view.getFloat64(headBytes), nowMs: view.getFloat64(headBytes + 8) };
  }
  const messages: Uint8Array[] = [];
  while (at < bytes.length) {
    if (at + lengthBytes > bytes.length) return undefined;
    const end = at + lengthBytes + view.getUint32(at);
    if (end > bytes.length) return undefined;
    messages.push(
      new Uint8Array(bytes.buffer, bytes.byteOffset + at + lengthBytes, end - at - lengthBytes),
    );
    at = end;
  }
  return reading === undefined ? { storedAtMs, messages } : { storedAtMs, reading, messages };
}
