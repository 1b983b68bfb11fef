import {
  type AnswerCache,
  decodeAnswer,
  encodeAnswer,
  type Known,
  type StoredAnswer,
} from "../core/answer-cache.js";
import type { Clock } from "../core/clock.js";
import { FallbackPlace } from "../core/fallback.js";
import { InvalidOptionError, readOptions } from "../core/options.js";
import type { Random } from "../core/random.js";
import { given, safely, whenKnown } from "../core/user-code.js";
import type { KeptRequest } from "../grpc/kept-request.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { MemoryAnswerCache } from "../stores/memory-answer-cache.js";
import {
  type AskedCall,
  FallbackProvider,
  type FallbackSource,
  type ProvidedAnswer,
  timedProviderKeys,
} from "./fallback-provider.js";
import { SingleFlight } from "./single-flight.js";
import { freshMessage } from "./stale-cache-bytes.js";
import { type CacheableCall, cacheKey } from "./stale-cache-key.js";
import {
  type ResolvedStaleCacheOptions,
  resolveStaleCacheOptions,
  type StaleCacheOptions,
  staleCacheKeys,
} from "./stale-cache-options.js";
import { AnswerRecording } from "./stale-cache-recording.js";

/** By how much the wall clocks of two processes may differ before a stored answer has no age. */
const maxSkewMs = 1_000;

/** Numbers of one stale cache. Those of the store are there where it has them; the others only grow. */
export interface StaleCacheSnapshot {
  /** Answers that were given instead of a failure. */
  readonly stale: number;
  /** Answers that were given without a call. */
  readonly fresh: number;
  /** Failures for which there was no answer, or one that was too old. */
  readonly missed: number;
  readonly stored: number;
  /** Answers that were not stored: too long, or their bytes are not known. */
  readonly notStored: number;
  /** Calls that shared another one's call on the wire. */
  readonly shared: number;
  /** Calls to the store that failed. */
  readonly storeFailures: number;
  /** Calls on the wire that may be shared now. */
  readonly flights: number;
  readonly entries?: number;
  readonly bytes?: number;
}

/** The answers of one policy: those that are kept, and those that are on their way. */
export class StaleCache implements FallbackSource {
  readonly place: FallbackPlace;
  readonly when: FallbackSource["when"];
  readonly harmless = true;
  readonly options: ResolvedStaleCacheOptions;
  readonly flights = new SingleFlight();
  readonly counts = { stale: 0, fresh: 0, missed: 0, stored: 0, notStored: 0, storeFailures: 0 };
  readonly #store: AnswerCache;
  readonly #surroundings: Surroundings;
  #toldOfBytes = false;

  constructor(
    { limits, when }: FallbackProvider,
    options: ResolvedStaleCacheOptions,
    store: AnswerCache,
    surroundings: Surroundings,
  ) {
    this.place = new FallbackPlace(limits);
    this.when = when;
    this.options = options;
    this.#store = store;
    this.#surroundings = surroundings;
  }

  /** `undefined`: the answer to this call is not stored. */
  keyOf(call: CacheableCall, request: KeptRequest): string | undefined {
    // Who names its call to the server means it to have an effect.
    if (call.record.idempotencyKey !== undefined) return undefined;
    let bytes: Uint8Array;
    try {
      bytes = request.bytes;
    } catch {
      // Sending it will say so.
      return undefined;
    }
    return cacheKey(this.options.vary, call, bytes, this.#surroundings.report);
  }

  ask({ kind, definition, key }: AskedCall): Known<ProvidedAnswer | undefined> {
    if (key === undefined) return undefined;
    // Where its age is not known, the store has kept it no longer than it may.
    const ages = { maxMs: this.options.staleIfErrorMs, ifUnknownMs: 0 };
    return this.#find(kind, definition, key, ages, (found) => {
      this.counts[found ? "stale" : "missed"] += 1;
    });
  }

  /** A stored answer that is as good as a new one. */
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

  /** Notes an answer while it is given, to store it when it has ended well. */
  record(key: string): AnswerRecording {
    return new AnswerRecording(key, this.options.maxAnswerBytes, this);
  }

  /** Stores an answer. The call does not wait for it. */
  keep(key: string, messages: readonly Uint8Array[]): void {
    this.counts.stored += 1;
    const { clock, random } = this.#surroundings;
    const storedAtMs = clock.wallNow();
    const reading = { clock: nameOf(clock, random), nowMs: clock.now() };
    const ttlMs = Math.max(this.options.staleIfErrorMs, this.options.freshMs);
    whenKnown(
      () => this.#store.set(key, encodeAnswer({ storedAtMs, reading, messages }), ttlMs),
      () => {},
      (error) => this.#storeFailed(error),
    );
  }

  notKept(bytesUnknown: boolean): void {
    this.counts.notStored += 1;
    if (!bytesUnknown || this.#toldOfBytes) return;
    this.#toldOfBytes = true;
    const text =
      "An interceptor below has changed a response, or it is no object: it is not stored";
    safely(this.#surroundings.report, new Error(text), "staleCache");
  }

  snapshot(): StaleCacheSnapshot {
    const { flights } = this;
    const store = this.#store instanceof MemoryAnswerCache ? this.#store.snapshot() : {};
    return { ...this.counts, shared: flights.shared, flights: flights.size, ...store };
  }

  #find(
    kind: AskedCall["kind"],
    definition: AskedCall["definition"],
    key: string,
    ages: Ages,
    count: (found: boolean) => void,
  ): Known<ProvidedAnswer | undefined> {
    const said = (bytes: Uint8Array | null | undefined) => {
      let answer: ProvidedAnswer | undefined;
      try {
        answer = this.#read(kind, definition, bytes, ages);
      } catch (error) {
        answer = this.#storeFailed(error);
      }
      count(answer !== undefined);
      return answer;
    };
    let got: Uint8Array | null | undefined | Promise<Uint8Array | null | undefined>;
    try {
      got = given(() => this.#store.get(key));
    } catch (error) {
      got = this.#storeFailed(error);
    }
    if (!(got instanceof Promise)) return said(got);
    return got.then(said, (error: unknown) => said(this.#storeFailed(error)));
  }

  #storeFailed(error: unknown): undefined {
    this.counts.storeFailures += 1;
    safely(this.#surroundings.report, error, "staleCache.store");
  }

  /**
   * The greater of what two clocks say: the wall clock may have been set back, and a monotonic one stands still while a
   * machine sleeps. An answer of another process has only the wall clock; `undefined` where that has it come from the
   * future, so that nobody knows how old it is.
   */
  #ageOf({ storedAtMs, reading }: StoredAnswer): number | undefined {
    const { clock, random } = this.#surroundings;
    const byWallMs = clock.wallNow() - storedAtMs;
    if (reading?.clock === nameOf(clock, random)) {
      return Math.max(0, byWallMs, clock.now() - reading.nowMs);
    }
    return byWallMs < -maxSkewMs ? undefined : Math.max(0, byWallMs);
  }

  #read(
    kind: AskedCall["kind"],
    definition: AskedCall["definition"],
    bytes: Uint8Array | null | undefined,
    { maxMs, ifUnknownMs }: Ages,
  ): ProvidedAnswer | undefined {
    if (bytes === null || bytes === undefined) return undefined;
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

/** How old an answer may be, and for how old one counts whose age is not known. */
interface Ages {
  readonly maxMs: number;
  readonly ifUnknownMs: number;
}

/** Names of clocks: counted in this process, and by chance, so that no other process has the same. */
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

/** Reads the messages of a streamed answer one by one, as they are asked for. */
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

  constructor(options: StaleCacheOptions) {
    super(options, { name: "stale-cache", timeoutMs: 100 }, "staleCache");
    this.#options = resolveStaleCacheOptions(options);
  }

  override build(surroundings: Surroundings): StaleCache {
    const { store, memory } = this.#options;
    const answers = store ?? new MemoryAnswerCache(memory, surroundings.clock);
    return new StaleCache(this, this.#options, answers, surroundings);
  }
}

/**
 * Keeps successful answers, and gives one that is not older than `staleIfErrorMs` when a call fails. Calls that are alike
 * and made at the same time share one call on the wire. It may take `timeoutMs` (default 100).
 *
 * Use it for methods that only read: a call whose answer comes from here, or that shares another one's, does
 * not reach the server. Calls with an idempotency key are left alone.
 *
 * @throws InvalidOptionError when neither `vary` nor `shared` says whose answers they are, and for options that
 *   make no sense.
 */
export function staleCache(options: StaleCacheOptions): FallbackProvider {
  if (options === undefined) {
    throw new InvalidOptionError("staleCache", "an object with vary, or shared: true", options);
  }
  const known = [...timedProviderKeys, ...staleCacheKeys];
  return new StaleCacheProvider(readOptions("staleCache", options, known));
}
