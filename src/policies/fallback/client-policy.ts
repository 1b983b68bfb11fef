import type { ControlledPolicy, Mode } from "../../core/control.js";
import { durationMs, InvalidOptionError, readOptions } from "../../core/options.js";
import { refusal } from "../../core/permit.js";
import { safely } from "../../core/user-code.js";
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
import { StaleCache, type StaleCacheSnapshot } from "./stale-cache/client-cache.js";

/** Where the answer to a failed call comes from instead. */
export interface FallbackOptions {
  /** Asked in this order until one has an answer; at least one. */
  readonly providers: readonly FallbackProvider[];
  /**
   * How much earlier than its deadline a call must be answered, so that the providers still have time: milliseconds up
   * to 24 days, and never more than half of what the call has.
   * @defaultValue what the providers may take altogether, and at most a quarter of what the call has
   */
  readonly reserveMs?: number;
}

export type FallbackPolicyOptions = FallbackOptions & Pick<PolicyOptions, "mode">;

/** Numbers of one fallback policy. */
export interface FallbackSnapshot {
  /** By provider. */
  readonly providers: Readonly<Record<string, FallbackProviderSnapshot>>;
  /** Failures for which a provider was asked, and none had an answer. */
  readonly unanswered: number;
  readonly cache?: StaleCacheSnapshot;
}

/** How many methods a policy remembers that it has told about. */
const maxTold = 1_000;

/** One chain of providers, with what it keeps. */
export class FallbackPolicy implements ControlledPolicy {
  mode: Mode;
  readonly sources: readonly FallbackSource[];
  readonly cache: StaleCache | undefined;
  /** Functions of the user's are asked, with the request. */
  readonly asksFunctions: boolean;
  unanswered = 0;
  readonly #reserveMs: number | undefined;
  readonly #environment: Environment;
  readonly #told = new Set<string>();
  #late: readonly ResolvedFallbackLimits[] | undefined;

  constructor(
    providers: readonly FallbackProvider[],
    reserveMs: number | undefined,
    mode: Mode | undefined,
    environment: Environment,
  ) {
    this.mode = mode ?? "enforce";
    this.#reserveMs = reserveMs;
    this.#environment = environment;
    this.sources = providers.map((provider) => provider.build(environment));
    this.cache = this.sources.find((source) => source instanceof StaleCache);
    this.asksFunctions = this.sources.some(({ harmless }) => !harmless);
  }

  /** How much of the time that a call has is kept for the providers that would answer when it is over. */
  reserveMs(availableMs: number): number {
    if (availableMs === Number.POSITIVE_INFINITY) return 0;
    this.#late ??= this.#whoAnswersLate();
    if (this.#late.length === 0) return 0;
    return fallbackReserveMs(this.#reserveMs, this.#late, availableMs);
  }

  /** Says once for each method that a policy which stands for it can do nothing for it. */
  tellOutOfScope({ method, kind }: CallRecord): void {
    if (this.#told.has(method) || this.#told.size >= maxTold) return;
    this.#told.add(method);
    const text = `${method} streams its request (${kind}): a fallback could not be given all of it. Its calls pass through; say fallback: false for it`;
    safely(this.#environment.report, new Error(text), "fallback");
  }

  /** Asked once: without a provider for it, time that is kept would be time lost. */
  #whoAnswersLate(): readonly ResolvedFallbackLimits[] {
    const detail = "Deadline exceeded, less what is kept for the fallback";
    const status = localRejection(refusal("DEADLINE_EXCEEDED", detail));
    const late: FallbackFailure = {
      ...status,
      origin: "deadline",
      rejection: rejectionOf(status),
    };
    const { report } = this.#environment;
    const sources = this.sources.filter((source) => accepts(source, late, report));
    return sources.map(({ slot }) => slot.limits);
  }

  snapshot(): FallbackSnapshot {
    const entries = this.sources.map(({ slot }) => [slot.limits.name, slot.snapshot()] as const);
    const { unanswered, cache } = this;
    const snapshot = { providers: Object.fromEntries(entries), unanswered };
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
  const rest = readOptions(prefix, given, ["providers", "reserveMs"], ["mode"]);
  if (own.key !== undefined) {
    throw new InvalidOptionError(`${prefix}.key`, "absent: a fallback has no key", own.key);
  }
  const { providers, reserveMs } = rest;
  if (!Array.isArray(providers) || providers.length === 0) {
    throw new InvalidOptionError(`${prefix}.providers`, "an array of providers", providers);
  }
  const names = new Set<string>();
  let caches = 0;
  for (const [index, provider] of providers.entries()) {
    const slot = `${prefix}.providers[${index}]`;
    if (!(provider instanceof FallbackProvider)) {
      const rule = "made by staleCache, alternative, value, staticValue or empty";
      throw new InvalidOptionError(slot, rule, provider);
    }
    const { name } = provider.limits;
    if (names.has(name)) {
      throw new InvalidOptionError(`${slot}.name`, "another than those before it", name);
    }
    names.add(name);
    caches += provider.stores ? 1 : 0;
    if (caches > 1) throw new InvalidOptionError(slot, "the only stale cache of the chain", name);
  }
  if (reserveMs !== undefined) durationMs(`${prefix}.reserveMs`, reserveMs);
  return new FallbackPolicy(providers, reserveMs, own.mode, environment);
}
