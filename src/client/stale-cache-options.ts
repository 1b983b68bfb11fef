import type { AnswerCache } from "../core/answer-cache.js";
import { durationMs, InvalidOptionError, wholeNumber } from "../core/options.js";
import {
  type MemoryAnswerCacheOptions,
  resolveMemoryAnswerCacheOptions,
} from "../stores/memory-answer-cache.js";
import type { TimedProviderOptions } from "./fallback-provider.js";
import { resolveVary, type Vary, type VaryFunction } from "./stale-cache-key.js";

/** Stored answers for calls that fail (stale-if-error, RFC 5861). Only for methods that change nothing. */
export interface StaleCacheOptions extends TimedProviderOptions {
  /**
   * What tells callers apart whose answers differ: metadata keys, or a function. Either this or `shared` must be given.
   * Credentials of single calls (`CallOptions.credentials`) put their metadata in where keys do not see it: such calls
   * are stored only with a function.
   */
  readonly vary?: readonly string[] | VaryFunction;
  /** The answers are the same for all callers. */
  readonly shared?: true;
  /** How old an answer may be that is given instead of a failure, 1 ms to 24 days. @defaultValue 3_600_000 (an hour) */
  readonly staleIfErrorMs?: number;
  /** How old an answer may be that is given without a call, up to 24 days; 0 for none. @defaultValue 0 */
  readonly freshMs?: number;
  /**
   * Whether calls that are alike, made at the same time, share one call on the wire: methods with a single response
   * only. @defaultValue true
   */
  readonly singleFlight?: boolean;
  /** Longer answers are not stored; bytes, at least 1. @defaultValue 262_144 (256 KiB) */
  readonly maxAnswerBytes?: number;
  /** Where answers are kept. @defaultValue the memory of this process, bounded by `memory` */
  readonly store?: AnswerCache;
  /** Bounds of the memory, where no store is given. @defaultValue 1,000 answers, 16 MiB */
  readonly memory?: MemoryAnswerCacheOptions;
}

export const staleCacheKeys = [
  "vary",
  "shared",
  "staleIfErrorMs",
  "freshMs",
  "singleFlight",
  "maxAnswerBytes",
  "store",
  "memory",
] as const satisfies readonly (keyof StaleCacheOptions)[];

export interface ResolvedStaleCacheOptions {
  readonly vary: Vary;
  readonly staleIfErrorMs: number;
  readonly freshMs: number;
  readonly singleFlight: boolean;
  readonly maxAnswerBytes: number;
  readonly store: AnswerCache | undefined;
  readonly memory: Readonly<Required<MemoryAnswerCacheOptions>>;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveStaleCacheOptions(
  options: StaleCacheOptions,
  prefix = "staleCache",
): ResolvedStaleCacheOptions {
  const { staleIfErrorMs = 3_600_000, freshMs = 0, singleFlight = true } = options;
  const { maxAnswerBytes = 256 * 1024, store, memory } = options;
  if (typeof singleFlight !== "boolean") {
    throw new InvalidOptionError(`${prefix}.singleFlight`, "true or false", singleFlight);
  }
  if (store !== undefined) {
    if (typeof store?.get !== "function" || typeof store.set !== "function") {
      throw new InvalidOptionError(`${prefix}.store`, "a store with get() and set()", store);
    }
    if (memory !== undefined) {
      const rule = "absent beside a store, which has bounds of its own";
      throw new InvalidOptionError(`${prefix}.memory`, rule, memory);
    }
  }
  return Object.freeze({
    vary: resolveVary(options.vary, options.shared, prefix),
    staleIfErrorMs: durationMs(`${prefix}.staleIfErrorMs`, staleIfErrorMs, 1),
    freshMs: durationMs(`${prefix}.freshMs`, freshMs),
    singleFlight,
    maxAnswerBytes: wholeNumber(`${prefix}.maxAnswerBytes`, maxAnswerBytes, 1),
    store,
    memory: resolveMemoryAnswerCacheOptions(memory, `${prefix}.memory`),
  });
}
