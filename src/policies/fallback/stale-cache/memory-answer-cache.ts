import { LRUCache } from "lru-cache";
import { type Clock, systemClock } from "../../../core/clock.js";
import { InvalidOptionError, readOptions, wholeNumber } from "../../../core/options.js";
import type { AnswerCache } from "./answer-cache.js";

/**
 * Bounds of a cache of answers in memory.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface MemoryAnswerCacheOptions {
  /** How many answers are kept, 1 to 1,000,000; those used longest ago are dropped. @defaultValue 1_000 */
  readonly maxEntries?: number;
  /** How many bytes of answers and keys are kept, at least 1. @defaultValue 16_777_216 (16 MiB) */
  readonly maxBytes?: number;
}

type ResolvedOptions = Readonly<Required<MemoryAnswerCacheOptions>>;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveMemoryAnswerCacheOptions(
  given: MemoryAnswerCacheOptions = {},
  prefix = "memoryAnswerCache",
): ResolvedOptions {
  const options = readOptions(prefix, given, ["maxEntries", "maxBytes"]);
  const { maxEntries = 1_000, maxBytes = 16 * 1024 * 1024 } = options;
  return Object.freeze({
    maxEntries: wholeNumber(`${prefix}.maxEntries`, maxEntries, 1, 1_000_000),
    maxBytes: wholeNumber(`${prefix}.maxBytes`, maxBytes, 1),
  });
}

/**
 * The size of a cache in memory.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface MemoryAnswerCacheSnapshot {
  readonly entries: number;
  readonly bytes: number;
}

interface StoredAnswer {
  readonly value: Uint8Array;
  readonly storedAtMs: number;
  readonly expiresAtMs: number;
}

/**
 * Answers in the memory of this process. An expired answer is dropped when it is read, or to make room.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export class MemoryAnswerCache implements AnswerCache {
  #entries: LRUCache<string, StoredAnswer>;
  #maxEntries: number;
  readonly #clock: Pick<Clock, "now">;

  constructor({ maxEntries, maxBytes }: ResolvedOptions, clock: Pick<Clock, "now">) {
    this.#clock = clock;
    this.#maxEntries = maxEntries;
    this.#entries = newEntries(maxBytes);
  }

  /** Changes the bounds. Beyond smaller ones, the answers that were used longest ago are dropped. */
  resize({ maxEntries, maxBytes }: ResolvedOptions): void {
    const before = [...this.#entries.entries()].slice(0, maxEntries);
    this.#maxEntries = maxEntries;
    this.#entries = newEntries(maxBytes);
    // The most recently used one comes first, and is set last.
    for (const [key, entry] of before.toReversed()) this.#entries.set(key, entry);
  }

  /** @param maxAgeMs Only a value that was stored in the last so many milliseconds. */
  get(key: string, maxAgeMs = Infinity): Uint8Array | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    const nowMs = this.#clock.now();
    if (entry.expiresAtMs > nowMs) {
      return nowMs - entry.storedAtMs < maxAgeMs ? entry.value : undefined;
    }
    this.#entries.delete(key);
    return undefined;
  }

  set(key: string, value: Uint8Array, ttlMs: number): void {
    const storedAtMs = this.#clock.now();
    this.#entries.set(key, { value, storedAtMs, expiresAtMs: storedAtMs + ttlMs });
    if (this.#entries.size > this.#maxEntries) this.#entries.pop();
  }

  snapshot(): MemoryAnswerCacheSnapshot {
    return { entries: this.#entries.size, bytes: this.#entries.calculatedSize };
  }
}

function newEntries(maxBytes: number): LRUCache<string, StoredAnswer> {
  return new LRUCache({
    // The number of entries is bounded in `set`: with a `max`, the cache would allocate memory for all of them at once.
    maxSize: maxBytes,
    // Keys are digests, with one byte for each character.
    sizeCalculation: ({ value }, key) => Math.max(1, value.length + key.length),
  });
}

/**
 * A cache of answers in the memory of this process, which several policies can share.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export function memoryAnswerCache(
  given: MemoryAnswerCacheOptions & {
    /** The clock for the age of answers. @defaultValue the system's clock */
    readonly clock?: Clock;
  } = {},
): MemoryAnswerCache {
  const options = readOptions("memoryAnswerCache", given, ["maxEntries", "maxBytes", "clock"]);
  const { clock = systemClock, ...bounds } = options;
  if (typeof clock?.now !== "function") {
    throw new InvalidOptionError("memoryAnswerCache.clock", "a clock: it has no now()", clock);
  }
  return new MemoryAnswerCache(resolveMemoryAnswerCacheOptions(bounds), clock);
}
