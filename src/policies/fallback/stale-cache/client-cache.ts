import { createHash, type Hash } from "node:crypto";
import type { Metadata } from "@grpc/grpc-js";
import type { Clock, Random } from "../../../core/clock.js";
import type { Gauges } from "../../../core/gauges.js";
import { durationMs, InvalidOptionError, readOptions, wholeNumber } from "../../../core/options.js";
import { renamedOptions } from "../../../core/renamed-options.js";
import {
  answerOf,
  ask,
  keyText,
  type ReportError,
  reportSafely,
  whenKnown,
  yesOrNo,
} from "../../../core/user-code.js";
import type { KeptRequest } from "../../../grpc/client/kept-request.js";
import type { KeyedCall } from "../../../grpc/client/policy.js";
import type { CallRecord, OptionsWithOwn } from "../../../grpc/context/call-record.js";
import type { Environment } from "../../../grpc/environment.js";
import { ProviderLoad } from "../chain.js";
import {
  type AskedCall,
  FallbackProvider,
  type FallbackSource,
  type ProvidedAnswer,
  type TimedProviderOptions,
  timedProviderKeys,
} from "../client-providers.js";
import {
  type AnswerCache,
  decodeAnswer,
  encodeAnswer,
  type Known,
  type StoredAnswer,
} from "./answer-cache.js";
import { AnswerRecording, freshMessage } from "./client-recording.js";
import { SingleFlight } from "./client-single-flight.js";
import {
  MemoryAnswerCache,
  type MemoryAnswerCacheOptions,
  resolveMemoryAnswerCacheOptions,
} from "./memory-answer-cache.js";

/** If a stored answer is from the future by more than this, its age is unknown. Wall clocks may differ by so much. */
const maxSkewMs = 1_000;

/**
 * Numbers of one stale cache. All but `flights`, `entries` and `bytes` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface StaleCacheSnapshot {
  /** Answers that replaced a failure. */
  readonly stale: number;
  /** Answers that replaced a call. */
  readonly fresh: number;
  /** Failures for which there was no answer, or one that was too old. */
  readonly missed: number;
  readonly stored: number;
  /** Answers that were not stored: too long, or their bytes are not known. */
  readonly notStored: number;
  /** Calls that shared the call of another on the wire. */
  readonly shared: number;
  /** Calls to the store that failed. */
  readonly storeFailures: number;
  /** Calls on the wire that may be shared now. */
  readonly flights: number;
  /** The store failed when it was used last, or answers by what it has in this process. Absent without a store of yours. */
  readonly storeAway?: boolean;
  /** With the memory of this process as the store. */
  readonly entries?: number;
  /** The same. */
  readonly bytes?: number;
}

/** The stored answers of one policy, and its shared calls. */
export class StaleCache implements FallbackSource {
  readonly load: ProviderLoad;
  when: FallbackSource["when"];
  readonly harmless = true;
  options: ResolvedStaleCacheOptions;
  readonly sharedCalls = new SingleFlight();
  readonly counts = { stale: 0, fresh: 0, missed: 0, stored: 0, notStored: 0, storeFailures: 0 };
  readonly #store: AnswerCache;
  readonly #environment: Environment;
  #reportedBytes = false;
  #storeAway = false;

  constructor(
    { limits, when }: FallbackProvider,
    options: ResolvedStaleCacheOptions,
    store: AnswerCache,
    environment: Environment,
  ) {
    this.load = new ProviderLoad(limits);
    this.when = when;
    this.options = options;
    this.#store = store;
    this.#environment = environment;
  }

  /** Goes on with other options, and with the answers that are stored. The store must be the same. */
  reconfigure(fresh: StaleCache): void {
    const { memory } = fresh.options;
    const { maxEntries, maxBytes } = this.options.memory;
    this.load.limits = fresh.load.limits;
    this.when = fresh.when;
    this.options = fresh.options;
    const resized = memory.maxEntries !== maxEntries || memory.maxBytes !== maxBytes;
    if (resized && this.#store instanceof MemoryAnswerCache) this.#store.resize(memory);
  }

  /** The store failed when it was used last, or has answered by what it has in this process. */
  get storeAway(): boolean {
    if (this.#storeAway || this.#store instanceof MemoryAnswerCache) return this.#storeAway;
    const { report } = this.#environment;
    return ask(() => this.#store.away, yesOrNo, false, report, "staleCache.store.away");
  }

  /** Tells whether the store is away, if the answers are not in the memory of this process. */
  measure(gauges: Gauges): void {
    if (this.#store instanceof MemoryAnswerCache) return;
    const labels = { policy: "fallback", side: "client" } as const;
    gauges.note("storeAway", this.storeAway ? 1 : 0, labels);
  }

  /** `undefined`: the answer to this call is not stored. */
  keyOf(call: CacheableCall, request: KeptRequest): string | undefined {
    // A call with an idempotency key is meant to have an effect.
    if (call.record.idempotencyKey !== undefined) return undefined;
    let bytes: Uint8Array;
    try {
      bytes = request.bytes;
    } catch {
      // The call will fail by it when the request is sent.
      return undefined;
    }
    return cacheKey(this.options.vary, call, bytes, this.#environment.report);
  }

  ask({ kind, definition, key }: AskedCall): Known<ProvidedAnswer | undefined> {
    if (key === undefined) return undefined;
    // An answer of unknown age is used: the store has kept it for `staleIfErrorMs` at most.
    const ages = { maxMs: this.options.staleIfErrorMs, ifUnknownMs: 0 };
    return this.#find(kind, definition, key, ages, (found) => {
      this.counts[found ? "stale" : "missed"] += 1;
    });
  }

  /** A stored answer that is not older than `freshMs`. */
  askFresh(
    kind: AskedCall["kind"],
    definition: AskedCall["definition"],
    key: string,
  ): Known<ProvidedAnswer | undefined> {
    const ages = { maxMs: this.options.freshMs, ifUnknownMs: Number.POSITIVE_INFINITY };
    return this.#find(kind, definition, key, ages, (found) => {
      this.counts.fresh += found ? 1 : 0;
    });
  }

  /** Starts to record an answer, to store it when it has ended with OK. */
  record(key: string): AnswerRecording {
    return new AnswerRecording(key, this.options.maxResponseBytes, this);
  }

  /** Stores an answer. The call does not wait for the store. */
  keep(key: string, messages: readonly Uint8Array[]): void {
    this.counts.stored += 1;
    const { clock, random } = this.#environment;
    const storedAtMs = clock.wallNow();
    const reading = { clock: nameOf(clock, random), nowMs: clock.now() };
    const ttlMs = Math.max(this.options.staleIfErrorMs, this.options.freshMs);
    whenKnown(
      () => this.#store.set(key, encodeAnswer({ storedAtMs, reading, messages }), ttlMs),
      () => {
        this.#storeAway = false;
      },
      (error) => this.#storeFailed(error),
    );
  }

  notKept(bytesUnknown: boolean): void {
    this.counts.notStored += 1;
    if (!bytesUnknown || this.#reportedBytes) return;
    this.#reportedBytes = true;
    const text =
      "A response is not stored: an interceptor below has replaced it, or it is no object";
    reportSafely(this.#environment.report, new Error(text), "staleCache");
  }

  snapshot(): StaleCacheSnapshot {
    const { sharedCalls } = this;
    const store =
      this.#store instanceof MemoryAnswerCache
        ? this.#store.snapshot()
        : { storeAway: this.storeAway };
    return { ...this.counts, shared: sharedCalls.shared, flights: sharedCalls.size, ...store };
  }

  #find(
    kind: AskedCall["kind"],
    definition: AskedCall["definition"],
    key: string,
    ages: Ages,
    count: (found: boolean) => void,
  ): Known<ProvidedAnswer | undefined> {
    const read = (bytes: Uint8Array | null | undefined) => {
      let answer: ProvidedAnswer | undefined;
      this.#storeAway = false;
      try {
        answer = this.#read(kind, definition, bytes, ages);
      } catch (error) {
        answer = this.#storeFailed(error);
      }
      count(answer !== undefined);
      return answer;
    };
    const failed = (error: unknown) => {
      count(false);
      return this.#storeFailed(error);
    };
    let got: Uint8Array | null | undefined | Promise<Uint8Array | null | undefined>;
    try {
      got = answerOf(() => this.#store.get(key));
    } catch (error) {
      return failed(error);
    }
    return got instanceof Promise ? got.then(read, failed) : read(got);
  }

  #storeFailed(error: unknown): undefined {
    this.#storeAway = true;
    this.counts.storeFailures += 1;
    reportSafely(this.#environment.report, error, "staleCache.store");
  }

  /**
   * The age in milliseconds: the greater of the ages by two clocks, because the wall clock may have been set back, and a
   * monotonic clock stands still while a machine sleeps. For an answer of another process there is only the wall clock.
   * `undefined` if that puts it into the future.
   */
  #ageOf({ storedAtMs, reading }: StoredAnswer): number | undefined {
    const { clock, random } = this.#environment;
    const byWallMs = clock.wallNow() - storedAtMs;
    if (reading?.clock === nameOf(clock, random)) {
      return Math.max(byWallMs, clock.now() - reading.nowMs);
    }
    return byWallMs < -maxSkewMs ? undefined : Math.max(0, byWallMs);
  }

  #read(
    kind: AskedCall["kind"],
    definition: AskedCall["definition"],
    bytes: Uint8Array | null | undefined,
    { maxMs, ifUnknownMs }: Ages,
  ): ProvidedAnswer | undefined {
    const stored = decodeAnswer(bytes);
    if (stored === undefined) return undefined;
    const ageMs = this.#ageOf(stored) ?? ifUnknownMs;
    if (ageMs > maxMs) return undefined;
    const { messages } = stored;
    if (kind !== "unary") {
      return { response: readEach(messages, (one) => freshMessage(definition, one)), ageMs };
    }
    const [message] = messages;
    if (message === undefined) return undefined;
    return { response: freshMessage(definition, message), ageMs };
  }
}

/** The greatest age of an answer that is used, and the age that one of unknown age is taken for. */
interface Ages {
  readonly maxMs: number;
  readonly ifUnknownMs: number;
}

/** Numbers of clocks: a count plus a random fraction, so that no other process has the same. */
const clockNames = new WeakMap<Clock, number>();
let clocksNamed = 0;

function nameOf(clock: Clock, random: Random): number {
  let name = clockNames.get(clock);
  if (name === undefined) {
    clocksNamed += 1;
    name = clocksNamed + random();
    clockNames.set(clock, name);
  }
  return name;
}

/** Decodes the messages of a streamed answer one by one, when they are read. */
function* readEach(
  messages: readonly Uint8Array[],
  read: (message: Uint8Array) => unknown,
): Generator<unknown, undefined> {
  for (const message of messages) yield read(message);
  return undefined;
}

class StaleCacheProvider extends FallbackProvider {
  override readonly stores = true;
  readonly #options: ResolvedStaleCacheOptions;

  constructor(options: StaleCacheOptions, prefix: string) {
    super(options, { name: "stale-cache", timeoutMs: 100 }, prefix);
    this.#options = resolveStaleCacheOptions(options, prefix);
  }

  override build(environment: Environment): StaleCache {
    const { store, memory } = this.#options;
    const answers = store ?? new MemoryAnswerCache(memory, environment.clock);
    return new StaleCache(this, this.#options, answers, environment);
  }
}

/**
 * Stores successful answers, and answers a failed call with one that is not older than `staleIfErrorMs`. Equal calls at
 * the same time share one call on the wire. It may take `timeoutMs` (default 100).
 *
 * Use it only for methods that read: a call that is answered from the cache, or that shares a call, does not reach the
 * server. Calls with an idempotency key are left out.
 *
 * @throws InvalidOptionError if neither `vary` nor `shared` is given, and for an option that is unknown or out of range.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export function staleCache(options: StaleCacheOptions): FallbackProvider {
  if (options === undefined) {
    throw new InvalidOptionError("staleCache", "an object with vary, or shared: true", options);
  }
  return staleCacheProvider(options, "staleCache");
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function staleCacheProvider(options: StaleCacheOptions, prefix: string): FallbackProvider {
  const known = [...timedProviderKeys, ...staleCacheKeys];
  return new StaleCacheProvider(
    readOptions(prefix, options, known, [], renamedOptions("StaleCache")),
    prefix,
  );
}

/**
 * Stored answers for failed calls (stale-if-error of RFC 5861). Only for methods that change nothing.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface StaleCacheOptions extends TimedProviderOptions {
  /**
   * What tells callers apart that get different answers: metadata keys, or a function. Either this or `shared` must be
   * given. The metadata of call credentials (`CallOptions.credentials`) is added below and cannot be read here: answers to
   * such calls are stored only with a function.
   */
  readonly vary?: readonly string[] | VaryFunction;
  /** The answers are the same for all callers. */
  readonly shared?: true;
  /** The greatest age of an answer that replaces a failure, 1 ms to 24 days. @defaultValue 3_600_000 (an hour) */
  readonly staleIfErrorMs?: number;
  /** The greatest age of an answer that replaces a call, up to 24 days; 0 for none. @defaultValue 0 */
  readonly freshMs?: number;
  /**
   * Whether equal calls at the same time share one call on the wire. Only for methods with a single response.
   * @defaultValue true
   */
  readonly singleFlight?: boolean;
  /** Answers of more bytes are not stored. At least 1. @defaultValue 262_144 (256 KiB) */
  readonly maxResponseBytes?: number;
  /** Where answers are stored. @defaultValue the memory of this process, bounded by `memory` */
  readonly store?: AnswerCache;
  /** Bounds of the memory, where no store is given. @defaultValue 1,000 answers, 16 MiB */
  readonly memory?: MemoryAnswerCacheOptions;
}

const staleCacheKeys = [
  "vary",
  "shared",
  "staleIfErrorMs",
  "freshMs",
  "singleFlight",
  "maxResponseBytes",
  "store",
  "memory",
] as const satisfies readonly (keyof StaleCacheOptions)[];

interface ResolvedStaleCacheOptions {
  readonly vary: Vary;
  readonly staleIfErrorMs: number;
  readonly freshMs: number;
  readonly singleFlight: boolean;
  readonly maxResponseBytes: number;
  readonly store: AnswerCache | undefined;
  readonly memory: Readonly<Required<MemoryAnswerCacheOptions>>;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolveStaleCacheOptions(
  options: StaleCacheOptions,
  prefix: string,
): ResolvedStaleCacheOptions {
  const { staleIfErrorMs = 3_600_000, freshMs = 0, singleFlight = true } = options;
  const { maxResponseBytes = 256 * 1024, store, memory } = options;
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
    maxResponseBytes: wholeNumber(`${prefix}.maxResponseBytes`, maxResponseBytes, 1),
    store,
    memory: resolveMemoryAnswerCacheOptions(memory, `${prefix}.memory`),
  });
}

/**
 * A call, for a function that tells callers apart.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface VaryingCall extends KeyedCall {
  /** The metadata that the call is sent with. Do not change it. */
  readonly metadata: Metadata;
}

/**
 * Returns a text that is the same for all callers that get the same answers. `undefined`: the answer is not stored.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export type VaryFunction = (call: VaryingCall) => string | undefined;

/** How callers are told apart. `shared`: all get the same answers. */
type Vary = readonly string[] | VaryFunction | "shared";

/**
 * There is no default: an answer that goes to the wrong caller is worse than none.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
function resolveVary(vary: unknown, shared: unknown, prefix: string): Vary {
  if (shared !== undefined && shared !== true) {
    throw new InvalidOptionError(`${prefix}.shared`, "true, or absent", shared);
  }
  if ((vary === undefined) === (shared === undefined)) {
    const rule =
      'one of two: the metadata keys (or a function) by which answers differ from caller to caller, such as ["authorization"], or shared: true';
    throw new InvalidOptionError(`${prefix}.vary`, rule, vary);
  }
  if (shared === true) return "shared";
  if (typeof vary === "function") return vary as VaryFunction;
  if (!Array.isArray(vary) || vary.length === 0 || !vary.every(isMetadataKey)) {
    throw new InvalidOptionError(`${prefix}.vary`, "metadata keys, or a function", vary);
  }
  return Object.freeze(vary.map((key) => key.toLowerCase()));
}

function isMetadataKey(key: unknown): key is string {
  return typeof key === "string" && /^[0-9a-z_.-]+$/i.test(key);
}

/** A call whose answer may be stored. */
interface CacheableCall {
  readonly record: CallRecord;
  readonly options: OptionsWithOwn;
  readonly metadata: Metadata;
}

/** The key of a call: a digest of target, method, caller and request. `undefined` if the caller is not known. */
function cacheKey(
  vary: Vary,
  { record, options, metadata }: CacheableCall,
  request: Uint8Array,
  report: ReportError,
): string | undefined {
  const hash = createHash("sha256");
  for (const part of [record.target, record.method, options.host ?? ""]) add(hash, part);
  if (typeof vary === "function") {
    const { method, kind, target, priority } = record;
    const call = { method, kind, target, priority, metadata };
    const caller = ask(() => vary(call), keyText, undefined, report, "staleCache.vary");
    if (caller === undefined) return undefined;
    add(hash, caller);
  } else if (vary !== "shared") {
    // The metadata of call credentials is added below, so that keys cannot tell such callers apart.
    if (options.credentials !== undefined) return undefined;
    for (const key of vary) {
      const values = metadata.get(key);
      add(hash, String(values.length));
      for (const value of values) add(hash, value);
    }
  }
  add(hash, request);
  return hash.digest("base64url");
}

/** Adds a part with its length, so that different lists of parts have different digests. */
function add(hash: Hash, part: string | Uint8Array): void {
  hash.update(`${Buffer.byteLength(part)}:`).update(part);
}
