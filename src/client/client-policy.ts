import { defaultBaseMs } from "../core/backoff.js";
import { resolveBreakerOptions } from "../core/breaker-options.js";
import { resolveBulkheadOptions } from "../core/bulkhead.js";
import type { PolicyName } from "../core/decision.js";
import { type HedgeOptions, resolveHedgeOptions } from "../core/hedge-options.js";
import { InvalidOptionError, knownKeys } from "../core/options.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import { resolveRetryOptions } from "../core/retry-options.js";
import {
  type ResolvedTimeoutOptions,
  resolveTimeoutOptions,
  type TimeoutOptions,
} from "../core/timeouts.js";
import { MethodRegistry } from "../grpc/method-registry.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { serviceOf } from "../grpc/types.js";
import { BreakerPolicy, type BreakerPolicyOptions } from "./breaker.js";
import { BulkheadPolicy, type BulkheadPolicyOptions } from "./bulkhead.js";
import {
  type DeadlineOptions,
  type ResolvedDeadlineOptions,
  resolveDeadlineOptions,
} from "./deadline.js";
import {
  type IdempotencyKeyOptions,
  type ResolvedIdempotencyKeyOptions,
  resolveIdempotencyKeyOptions,
} from "./idempotency-key.js";
import { type PolicyOptions, policyOptionNames, splitOptions } from "./policy-options.js";
import { retryPolicy } from "./retry.js";
import { RetryPolicy, type RetryPolicyOptions } from "./retry-policy.js";

/** The policies of a method, or of all methods. `false` leaves a policy out. */
export interface MethodPolicy {
  /** Always at work: without options, calls inherit the deadline of the inbound call. */
  readonly deadline?: DeadlineOptions;
  /**
   * Whether calls wait for a connection instead of failing while there is none (gRPC wait-for-ready). What the
   * metadata of a call says goes before it. @defaultValue false
   */
  readonly waitForReady?: boolean;
  /** @defaultValue off */
  readonly timeouts?: TimeoutOptions | false;
  /** @defaultValue off */
  readonly idempotencyKey?: IdempotencyKeyOptions | false;
  /** @defaultValue on, with the defaults of `RetryOptions` */
  readonly retry?: RetryPolicyOptions | false;
  /**
   * Attempts side by side, for methods that are known to be idempotent; those have hedges instead of retries (gRFC
   * A6 allows one of the two). Idempotency, buffers, depth and budget are those of `retry`. @defaultValue off
   */
  readonly hedge?: (HedgeOptions & Pick<PolicyOptions, "mode">) | false;
  /** @defaultValue on, with the defaults of `BreakerOptions` */
  readonly breaker?: BreakerPolicyOptions | false;
  /** @defaultValue off: how many calls a target bears is for you to say */
  readonly bulkhead?: BulkheadPolicyOptions | false;
}

/** The policies of a client. */
export interface ClientPolicy extends MethodPolicy {
  /**
   * What the schema says of idempotency: a registry from `methodRegistry`. `retry.idempotent` goes before it.
   * @defaultValue nothing is known
   */
  readonly idempotency?: MethodRegistry;
  /**
   * Policies of single methods (`pkg.Service/Method`) or services (`pkg.Service`), laid over those of the
   * client option by option. A breaker or bulkhead that is named here is one of its own; left out, the method
   * shares the client's.
   */
  readonly methods?: Readonly<Record<string, MethodPolicy>>;
}

const policyKeys = [
  "deadline",
  "waitForReady",
  "timeouts",
  "idempotencyKey",
  "retry",
  "hedge",
  "breaker",
  "bulkhead",
] as const satisfies readonly (keyof MethodPolicy)[];

/** What stands for one method, built. */
export interface BuiltPolicies {
  readonly deadline: ResolvedDeadlineOptions;
  readonly waitForReady: boolean;
  readonly timeouts: ResolvedTimeoutOptions | undefined;
  readonly idempotencyKey: ResolvedIdempotencyKeyOptions | undefined;
  readonly retry: RetryPolicy | undefined;
  readonly hedge: RetryPolicy | undefined;
  readonly breaker: BreakerPolicy | undefined;
  readonly bulkhead: BulkheadPolicy | undefined;
}

/** The policies of a client, built once, and looked up by method for each call. */
export class ClientPolicies {
  readonly #base: BuiltPolicies;
  readonly #named = new Map<string, BuiltPolicies>();
  readonly #built: { readonly name: PolicyName; readonly policy: ControlledPolicy }[] = [];
  readonly #surroundings: Surroundings;
  readonly #registry: MethodRegistry | undefined;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(policy: ClientPolicy, surroundings: Surroundings) {
    this.#surroundings = surroundings;
    knownKeys("client", policy, [...policyKeys, "methods", "idempotency"]);
    const { methods = {}, idempotency, ...base } = policy;
    if (idempotency !== undefined && !(idempotency instanceof MethodRegistry)) {
      throw new InvalidOptionError(
        "client.idempotency",
        "a registry from methodRegistry()",
        idempotency,
      );
    }
    this.#registry = idempotency;
    const all: MethodPolicy = { retry: {}, breaker: {}, bulkhead: false, ...base };
    this.#base = this.#build(all, all, undefined, "client");
    knownKeys("client.methods", methods, Object.keys(methods ?? {}));
    // Services first: a method that has an entry of its own starts from its service's.
    const names = Object.keys(methods).sort((a, b) => depth(a) - depth(b));
    const laidOver = new Map<string, MethodPolicy>();
    for (const name of names) {
      const prefix = `client.methods["${name}"]`;
      if (!/^\/?(\w+(\.\w+)*\/\w+|\w+(\.\w+)+)$/.test(name)) {
        throw new InvalidOptionError(prefix, "named pkg.Service/Method or pkg.Service", name);
      }
      const own = methods[name];
      knownKeys(prefix, own, policyKeys);
      if (own === undefined) continue;
      const path = name.startsWith("/") ? name.slice(1) : name;
      const service = serviceOf(`/${path}`);
      const merged = merge(laidOver.get(service) ?? all, own);
      laidOver.set(path, merged);
      this.#named.set(
        path,
        this.#build(merged, own, this.#named.get(service) ?? this.#base, prefix),
      );
    }
  }

  /** What stands for a method, given by its path. */
  for(path: string): BuiltPolicies {
    if (this.#named.size === 0) return this.#base;
    return this.#named.get(path.slice(1)) ?? this.#named.get(serviceOf(path)) ?? this.#base;
  }

  /** All policies that were built, for the hand that controls them. */
  get built(): readonly { readonly name: PolicyName; readonly policy: ControlledPolicy }[] {
    return this.#built;
  }

  /**
   * @param options Everything that holds for the method.
   * @param own What it says itself; policies that it says nothing of are shared with `above`.
   */
  #build(
    options: MethodPolicy,
    own: MethodPolicy,
    above: BuiltPolicies | undefined,
    prefix: string,
  ): BuiltPolicies {
    const surroundings = this.#surroundings;
    const says = (...names: readonly (keyof MethodPolicy)[]) =>
      above === undefined || names.some((name) => own[name] !== undefined);
    const { deadline, waitForReady = false, timeouts = false, idempotencyKey = false } = options;
    if (typeof waitForReady !== "boolean") {
      throw new InvalidOptionError(`${prefix}.waitForReady`, "true or false", waitForReady);
    }
    const { retry = false, hedge = false, breaker = false, bulkhead = false } = options;
    const path = (name: keyof MethodPolicy) => `${prefix}.${name}`;
    // First of all, because the timeouts look into it.
    const retries = says("retry")
      ? this.#control("retry", this.#retry(retry, prefix))
      : above?.retry;
    const resolvedTimeouts =
      timeouts === false
        ? undefined
        : resolveTimeoutOptions(timeouts, path("timeouts"), {
            retryBaseMs: retry === false ? undefined : (retry.backoff?.baseMs ?? defaultBaseMs),
            deadlineDefaultMs: deadline?.defaultMs,
          });
    return {
      deadline: resolveDeadlineOptions(deadline, path("deadline"), resolvedTimeouts?.totalMs),
      waitForReady,
      timeouts: resolvedTimeouts,
      idempotencyKey:
        idempotencyKey === false
          ? undefined
          : resolveIdempotencyKeyOptions(idempotencyKey, path("idempotencyKey")),
      retry: retries,
      hedge: says("retry", "hedge")
        ? this.#control("hedge", this.#hedge(hedge, retry, prefix))
        : above?.hedge,
      breaker: says("breaker")
        ? this.#control("breaker", breakerPolicy(breaker, surroundings, path("breaker")))
        : above?.breaker,
      bulkhead: says("bulkhead")
        ? this.#control("bulkhead", bulkheadPolicy(bulkhead, surroundings, path("bulkhead")))
        : above?.bulkhead,
    };
  }

  #retry(options: RetryPolicyOptions | false, prefix: string): RetryPolicy | undefined {
    if (options === false) return undefined;
    const { own, rest } = splitOptions(options, `${prefix}.retry`);
    return retryPolicy(rest, own.mode, this.#surroundings, `${prefix}.retry`, this.#registry);
  }

  #hedge(
    options: Exclude<MethodPolicy["hedge"], undefined>,
    retry: RetryPolicyOptions | false,
    prefix: string,
  ): RetryPolicy | undefined {
    if (options === false) return undefined;
    const { own, rest } = splitOptions(options, `${prefix}.hedge`);
    const shared = retry === false ? {} : splitOptions(retry, `${prefix}.retry`).rest;
    const { retryStatus, retryResponse: _, resume: __, ...retryOptions } = shared;
    return new RetryPolicy(
      {
        options: resolveRetryOptions(retryOptions, `${prefix}.retry`),
        mode: own.mode ?? "enforce",
        judgement: retryStatus === undefined ? {} : { retryStatus },
        hedge: resolveHedgeOptions(rest, `${prefix}.hedge`, ["mode"]),
        registry: this.#registry,
      },
      this.#surroundings,
    );
  }

  #control<P extends ControlledPolicy>(name: PolicyName, policy: P | undefined): P | undefined {
    if (policy !== undefined) this.#built.push({ name, policy });
    return policy;
  }
}

function breakerPolicy(
  options: BreakerPolicyOptions | false,
  surroundings: Surroundings,
  prefix: string,
): BreakerPolicy | undefined {
  if (options === false) return undefined;
  const { own, rest } = splitOptions(options, prefix);
  return new BreakerPolicy(
    resolveBreakerOptions(rest, prefix, policyOptionNames),
    own,
    surroundings,
  );
}

function bulkheadPolicy(
  options: BulkheadPolicyOptions | false,
  surroundings: Surroundings,
  prefix: string,
): BulkheadPolicy | undefined {
  if (options === false) return undefined;
  const { own, rest } = splitOptions(options, prefix);
  return new BulkheadPolicy(
    resolveBulkheadOptions(rest, prefix, policyOptionNames),
    own,
    surroundings,
  );
}

/** 0 for a service, 1 for a method. */
function depth(name: string): number {
  return name.indexOf("/", 1) === -1 ? 0 : 1;
}

/** Lays the options of a method over those it starts from, policy by policy and option by option. */
function merge(base: MethodPolicy, own: MethodPolicy): MethodPolicy {
  const merged: Record<string, unknown> = { ...base };
  for (const key of policyKeys) {
    const over = own[key];
    if (over === undefined) continue;
    const under = base[key];
    merged[key] =
      typeof over === "object" && typeof under === "object" ? { ...under, ...over } : over;
  }
  return merged;
}
