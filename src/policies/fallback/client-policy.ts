import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gauges } from "../../core/gauges.js";
import { durationMs, InvalidOptionError, readOptions } from "../../core/options.js";
import { refusal } from "../../core/permit.js";
import { reportSafely } from "../../core/user-code.js";
import { type PolicyOptions, splitOptions } from "../../grpc/client/policy.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import { localRejection, rejectionOf } from "../../grpc/status/rejection.js";
import {
  type FallbackProviderSnapshot,
  fallbackReserveMs,
  type ResolvedFallbackLimits,
} from "./chain.js";
import {
  accepts,
  type FallbackFailure,
  FallbackProvider,
  type FallbackSource,
} from "./client-providers.js";
import {
  StaleCache,
  type StaleCacheOptions,
  type StaleCacheSnapshot,
  staleCacheProvider,
} from "./stale-cache/client-cache.js";

/**
 * Where the answer to a failed call comes from.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface FallbackOptions {
  /** They are asked in this order until one has an answer. At least one, unless there is a `staleCache`. */
  readonly providers?: readonly FallbackProvider[];
  /**
   * A provider of `staleCache`, as data. It is asked after the `providers`. Where one of them is a stale cache, that one is
   * used instead. @defaultValue none
   */
  readonly staleCache?: StaleCacheOptions;
  /**
   * How much earlier than its deadline a call must be answered, so that the providers have time. Up to 24 days; never
   * more than half of the call's time is kept.
   * @defaultValue the sum of the timeouts of the providers, and at most a quarter of the call's time
   */
  readonly reserveMs?: number;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md */
export type FallbackPolicyOptions = FallbackOptions & Pick<PolicyOptions, "mode">;

/**
 * Numbers of one fallback policy.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface FallbackSnapshot {
  /** By provider. */
  readonly providers: Readonly<Record<string, FallbackProviderSnapshot>>;
  /** Failures that were answered, by any provider. */
  readonly answered: number;
  /** Failures for which a provider was asked, and none had an answer. */
  readonly unanswered: number;
  readonly cache?: StaleCacheSnapshot;
}

/** How many methods out of scope a policy reports at most. */
const maxReported = 1_000;

/** The chain of providers of a client or a method, and its state. */
export class FallbackPolicy implements ControlledPolicy {
  mode: Mode;
  sources: readonly FallbackSource[];
  cache: StaleCache | undefined;
  /** A provider calls a function of the user's, with the request. */
  asksFunctions: boolean;
  unanswered = 0;
  #providers: readonly FallbackProvider[];
  #reserveMs: number | undefined;
  readonly #environment: Environment;
  readonly #reported = new Set<string>();
  #afterDeadline: readonly ResolvedFallbackLimits[] | undefined;

  constructor(
    providers: readonly FallbackProvider[],
    reserveMs: number | undefined,
    mode: Mode | undefined,
    environment: Environment,
  ) {
    this.mode = mode ?? "enforce";
    this.#reserveMs = reserveMs;
    this.#environment = environment;
    this.#providers = providers;
    this.sources = providers.map((provider) => provider.build(environment));
    this.cache = this.sources.find((source) => source instanceof StaleCache);
    this.asksFunctions = this.sources.some(({ harmless }) => !harmless);
  }

  /** Providers that stay keep their numbers, and a stale cache its answers. */
  reconfigure(fresh: FallbackPolicy): void {
    const before = new Map(this.#providers.map((each, index) => [each, this.sources[index]]));
    const { cache } = this;
    this.#providers = fresh.#providers;
    this.sources = fresh.sources.map((source, index) => {
      const provider = fresh.#providers[index];
      const known = provider && before.get(provider);
      if (known !== undefined) return known;
      const isOurs = source instanceof StaleCache && cache?.options.store === source.options.store;
      if (!isOurs || cache === undefined) return source;
      cache.reconfigure(source);
      return cache;
    });
    this.cache = this.sources.find((source) => source instanceof StaleCache);
    this.asksFunctions = fresh.asksFunctions;
    this.#reserveMs = fresh.#reserveMs;
    this.#afterDeadline = undefined;
  }

  /** How much of a call's time, in milliseconds, is kept for the providers that answer when the service was too slow. */
  reserveMs(availableMs: number): number {
    if (availableMs === Number.POSITIVE_INFINITY) return 0;
    this.#afterDeadline ??= this.#providersAfterDeadline();
    if (this.#afterDeadline.length === 0) return 0;
    return fallbackReserveMs(this.#reserveMs, this.#afterDeadline, availableMs);
  }

  /** Reports once for each method that a fallback cannot answer its calls. */
  reportOutOfScope({ method, kind }: CallRecord): void {
    if (this.#reported.has(method) || this.#reported.size >= maxReported) return;
    this.#reported.add(method);
    const text = `${method} streams its request (${kind}), which a fallback cannot be given as a whole. Its calls have no fallback. Set fallback: false for this method`;
    reportSafely(this.#environment.report, new Error(text), "fallback");
  }

  /** The providers for DEADLINE_EXCEEDED. Each `when` is asked once: without such a provider, no time is kept. */
  #providersAfterDeadline(): readonly ResolvedFallbackLimits[] {
    const detail = "Deadline exceeded, less the time that is kept for the fallback";
    const status = localRejection(refusal("DEADLINE_EXCEEDED", detail));
    const late: FallbackFailure = {
      ...status,
      origin: "deadline",
      rejection: rejectionOf(status),
    };
    const { report } = this.#environment;
    const sources = this.sources.filter((source) => accepts(source, late, report));
    return sources.map(({ load }) => load.limits);
  }

  measure(gauges: Gauges): void {
    this.cache?.measure(gauges);
  }

  snapshot(): FallbackSnapshot {
    const entries = this.sources.map(({ load }) => [load.limits.name, load.snapshot()] as const);
    const { unanswered, cache } = this;
    const answered = entries.reduce((sum, [, numbers]) => sum + numbers.answered, 0);
    const snapshot = { providers: Object.fromEntries(entries), answered, unanswered };
    return cache === undefined ? snapshot : { ...snapshot, cache: cache.snapshot() };
  }
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function fallbackPolicy(
  options: Partial<FallbackPolicyOptions>,
  environment: Environment,
  prefix: string,
): FallbackPolicy {
  const { own, rest: given } = splitOptions(options, prefix);
  const rest = readOptions(prefix, given, ["providers", "staleCache", "reserveMs"], ["mode"]);
  if (own.key !== undefined) {
    throw new InvalidOptionError(`${prefix}.key`, "absent: a fallback has no key", own.key);
  }
  const { staleCache, reserveMs } = rest;
  const cache =
    staleCache === undefined ? undefined : staleCacheProvider(staleCache, `${prefix}.staleCache`);
  const providers = cache === undefined ? rest.providers : (rest.providers ?? []);
  if (!Array.isArray(providers) || (providers.length === 0 && cache === undefined)) {
    throw new InvalidOptionError(`${prefix}.providers`, "an array of providers", providers);
  }
  const names = new Set<string>();
  let caches = 0;
  for (const [index, provider] of providers.entries()) {
    const at = `${prefix}.providers[${index}]`;
    if (!(provider instanceof FallbackProvider)) {
      const rule = "made by staleCache, alternative, value, staticValue or empty";
      throw new InvalidOptionError(at, rule, provider);
    }
    const { name } = provider.limits;
    if (names.has(name)) {
      throw new InvalidOptionError(`${at}.name`, "another than those before it", name);
    }
    names.add(name);
    caches += provider.stores ? 1 : 0;
    if (caches > 1) throw new InvalidOptionError(at, "the only stale cache of the chain", name);
  }
  if (reserveMs !== undefined) durationMs(`${prefix}.reserveMs`, reserveMs);
  const chain = cache === undefined || caches > 0 ? providers : [...providers, cache];
  if (chain.length > providers.length && names.has(cache?.limits.name ?? "")) {
    throw new InvalidOptionError(
      `${prefix}.staleCache.name`,
      "another than those of the providers",
      cache?.limits.name,
    );
  }
  return new FallbackPolicy(chain, reserveMs, own.mode, environment);
}
