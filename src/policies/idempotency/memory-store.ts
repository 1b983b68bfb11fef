import type { Clock } from "../../core/clock.js";
import type { ClaimAnswer, IdempotencyStore, KeyClaim } from "./store.js";

/** How much a {@link MemoryIdempotencyStore} keeps. */
export interface MemoryStoreBounds {
  /** The most answers that are kept, and the most calls that run under a key at once. */
  readonly maxEntries: number;
  /** The most bytes that the answers take, with their keys. */
  readonly maxBytes: number;
}

/**
 * Numbers of a {@link MemoryIdempotencyStore}.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface MemoryStoreSnapshot {
  /** Calls that run under a key, by their leases. */
  readonly running: number;
  /** Answers that are kept. */
  readonly answers: number;
  /** What those take, in bytes. */
  readonly bytes: number;
  /** Answers that were dropped before their time, to make room. Only grows. */
  readonly evicted: number;
}

/** What an entry takes beside its texts and its answer: objects, and places in maps. A guess, in bytes. */
const entryBytes = 200;

/** Somebody runs under a key. */
interface Running {
  readonly fingerprint: string;
  readonly holder: string;
  readonly token: number;
  /** When the lease ends, on the monotonic clock. */
  untilMs: number;
  /** From then on the holder may be forgotten. */
  keptUntilMs: number;
  /** Until then no other request gets the key, also when the lease has run out. */
  readonly belongsUntilMs: number;
}

/** A key that has been answered. */
interface Done {
  readonly fingerprint: string;
  readonly token: number;
  readonly answer: Uint8Array;
  readonly untilMs: number;
  readonly bytes: number;
}

/**
 * Keys and answers of one process. When it is full, the answer that was given longest ago goes first: duplicates come soon
 * after the first call. A call that runs is never forgotten, so a claim beyond `maxEntries` running calls throws.
 */
export class MemoryIdempotencyStore implements IdempotencyStore {
  readonly #clock: Clock;
  /** They may be replaced. What is beyond smaller ones goes when the next answer comes. */
  bounds: MemoryStoreBounds;
  readonly #running = new Map<string, Running>();
  /** In the order in which they were completed. */
  readonly #done = new Map<string, Done>();
  #bytes = 0;
  #evicted = 0;
  /** The last token of all keys: then a key needs no memory of its own once it is released. */
  #lastToken = 0;

  constructor(clock: Clock, bounds: MemoryStoreBounds) {
    this.#clock = clock;
    this.bounds = bounds;
  }

  /** @throws RangeError when as many calls run under keys as the store may keep. */
  claim(key: string, { fingerprint, holder, leaseMs, ttlMs }: KeyClaim): ClaimAnswer {
    const nowMs = this.#clock.now();
    const done = this.#doneAt(key, nowMs);
    if (done !== undefined) {
      if (done.fingerprint !== fingerprint) return { kind: "mismatch" };
      return { kind: "done", answer: done.answer };
    }
    const running = this.#running.get(key);
    if (running !== undefined && running.fingerprint !== fingerprint) {
      if (Math.max(running.untilMs, running.belongsUntilMs) > nowMs) return { kind: "mismatch" };
    } else if (running !== undefined && running.untilMs > nowMs) {
      if (running.holder === holder) return { kind: "started", token: running.token };
      return { kind: "running", leaseLeftMs: running.untilMs - nowMs };
    }
    // One that takes over needs no further room.
    if (running === undefined) this.#makeRoomToRun(nowMs);
    const token = Math.max(this.#lastToken + 1, Math.floor(this.#clock.wallNow() * 1_000));
    this.#lastToken = token;
    const untilMs = nowMs + leaseMs;
    const keptUntilMs = untilMs + leaseMs;
    const belongsUntilMs = nowMs + ttlMs;
    this.#running.set(key, { fingerprint, holder, token, untilMs, keptUntilMs, belongsUntilMs });
    return { kind: "started", token };
  }

  renew(key: string, token: number, leaseMs: number): boolean {
    const running = this.#running.get(key);
    if (running?.token !== token) return false;
    running.untilMs = this.#clock.now() + leaseMs;
    running.keptUntilMs = running.untilMs + leaseMs;
    return true;
  }

  /** @throws RangeError for an answer that is larger than the whole store. The key stays with its holder. */
  complete(key: string, token: number, answer: Uint8Array, ttlMs: number): boolean {
    const nowMs = this.#clock.now();
    const running = this.#running.get(key);
    if (running?.token !== token) return this.#doneAt(key, nowMs)?.token === token;
    const { fingerprint } = running;
    const bytes = entryBytes + 2 * (key.length + fingerprint.length) + answer.byteLength;
    const { maxBytes } = this.bounds;
    if (bytes > maxBytes) {
      throw new RangeError(`an answer of ${bytes} bytes does not fit into ${maxBytes} bytes`);
    }
    this.#running.delete(key);
    this.#makeRoomFor(bytes, nowMs);
    this.#done.set(key, { fingerprint, token, answer, untilMs: nowMs + ttlMs, bytes });
    this.#bytes += bytes;
    return true;
  }

  release(key: string, token: number): boolean {
    return this.#running.get(key)?.token === token && this.#running.delete(key);
  }

  snapshot(): MemoryStoreSnapshot {
    return {
      running: this.#running.size,
      answers: this.#done.size,
      bytes: this.#bytes,
      evicted: this.#evicted,
    };
  }

  #doneAt(key: string, nowMs: number): Done | undefined {
    const done = this.#done.get(key);
    if (done === undefined || done.untilMs > nowMs) return done;
    this.#forget(key, done);
    return undefined;
  }

  #forget(key: string, done: Done): void {
    this.#done.delete(key);
    this.#bytes -= done.bytes;
  }

  #makeRoomToRun(nowMs: number): void {
    const { maxEntries } = this.bounds;
    if (this.#running.size < maxEntries) return;
    for (const [key, { keptUntilMs }] of this.#running) {
      if (keptUntilMs <= nowMs) this.#running.delete(key);
    }
    if (this.#running.size < maxEntries) return;
    throw new RangeError(`${maxEntries} calls run under idempotency keys, and no more may`);
  }

  /** Drops the oldest answers: those whose time is over, and as many more as it takes. */
  #makeRoomFor(bytes: number, nowMs: number): void {
    const { maxEntries, maxBytes } = this.bounds;
    for (const [key, done] of this.#done) {
      const expired = done.untilMs <= nowMs;
      const full = this.#done.size >= maxEntries || this.#bytes + bytes > maxBytes;
      if (!expired && !full) return;
      if (!expired) this.#evicted += 1;
      this.#forget(key, done);
    }
  }
}
