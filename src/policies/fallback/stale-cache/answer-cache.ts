/**
 * A store of answers: in memory, or shared by several processes. Values are opaque bytes, so that a store needs only get
 * and set with a time to live. A store that fails or hangs costs a call at most the `timeoutMs` of the cache.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface AnswerCache {
  /** The value of the key, if it has one that has not expired. */
  get(key: string): Known<Uint8Array | null | undefined>;
  /** Keeps the value for at most `ttlMs` milliseconds. A store may drop values earlier to make room. */
  set(key: string, value: Uint8Array, ttlMs: number): Known<unknown>;
  /**
   * True while it cannot reach what processes share, and answers by what it has in this process. A call that is answered then
   * has a decision with the reason `STORE_AWAY`. @defaultValue false
   */
  readonly away?: boolean;
}

/**
 * A value, or a promise of one.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export type Known<T> = T | PromiseLike<T>;

/** An answer, and when it was stored. */
export interface StoredAnswer {
  /** Milliseconds since the epoch, which other processes can read. */
  readonly storedAtMs: number;
  /** The same in milliseconds of a monotonic clock, with the number of that clock. Only that clock can use it. */
  readonly reading?: { readonly clock: number; readonly nowMs: number };
  /** Serialized messages, one for a single response. */
  readonly messages: readonly Uint8Array[];
}

/** The format without a reading of a monotonic clock. */
const byWall = 1;
/** The format with such a reading. */
const byReading = 2;
const headBytes = 1 + 8;
const readingBytes = 8 + 8;
const lengthBytes = 4;

/** How many bytes it takes to store an answer. */
export function storedBytes(messages: readonly Uint8Array[]): number {
  return messages.reduce((sum, { length }) => sum + lengthBytes + length, headBytes);
}

/** Copies the messages: the bytes of a message may be a slice of a much larger buffer. */
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
 * Decodes a stored answer. Its messages are views of the bytes; copy one before handing it out. `undefined` if there are
 * none, or if they have another format.
 */
export function decodeAnswer(bytes: Uint8Array | null | undefined): StoredAnswer | undefined {
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
