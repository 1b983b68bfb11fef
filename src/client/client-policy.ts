import { defaultBaseMs } from "../core/backoff.js";
import type { PolicyName } from "../core/decision.js";
import { resolveHedgeOptions } from "../core/hedge-options.js";
import { InvalidOptionError, methodOrService, readOptions } from "../core/options.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import {
  type ResetBudgets,
  resolveResetOptions,
  sharedResetBudgets,
} from "../core/reset-budget.js";
import { resolveRetryOptions } from "../core/retry-options.js";
import { type ResolvedTimeoutOptions, resolveTimeoutOptions } from "../core/timeouts.js";
import { MethodRegistry } from "../grpc/method-registry.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { serviceOf } from "../grpc/types.js";
import { breakerPolicy } from "./breaker.js";
import { bulkheadPolicy } from "./bulkhead.js";
import { type ResolvedDeadlineOptions, resolveDeadlineOptions } from "./deadline.js";
import { fallbackPolicy } from "./fallback-policy.js";
import { faultsPolicy } from "./faults.js";
import {
  type ResolvedIdempotencyKeyOptions,
  resolveIdempotencyKeyOptions,
} from "./idempotency-key.js";
import { type ClientPolicy, type MethodPolicy, merge, policyKeys } from "./method-policy.js";
import { splitOptions } from "./policy-options.js";
import { ratePolicy } from "./rate.js";
import { retryPolicy } from "./retry.js";
import { RetryPolicy, type RetryPolicyOptions } from "./retry-policy.js";
import { throttlePolicy } from "./throttle.js";

/** How the policies that keep state of their own are built, by the options that name them. */
const builders = {
  breaker: breakerPolicy,
  rate: ratePolicy,
  throttle: throttlePolicy,
  bulkhead: bulkheadPolicy,
  fallback: fallbackPolicy,
  faults: faultsPolicy,
} as const;

type PolicyKey = keyof typeof builders;
type Built = { readonly [K in PolicyKey]: ReturnType<(typeof builders)[K]> };
type OptionsOf = { readonly [K in PolicyKey]: Parameters<(typeof builders)[K]>[0] };
type Build<K extends PolicyKey> = (
  options: OptionsOf[K],
  surroundings: Surroundings,
  prefix: string,
) => Built[K];

/** What stands for one method, built. */
export interface BuiltPolicies extends Readonly<{ [K in PolicyKey]: Built[K] | undefined }> {
  readonly deadline: ResolvedDeadlineOptions;
  readonly waitForReady: boolean;
  readonly timeouts: ResolvedTimeoutOptions | undefined;
  readonly idempotencyKey: ResolvedIdempotencyKeyOptions | undefined;
  readonly retry: RetryPolicy | undefined;
  readonly hedge: RetryPolicy | undefined;
}

/** The policies of a client, built once, and looked up by method for each call. */
export class ClientPolicies {
  /** What connections bear of resets; `undefined` where that does not matter. */
  readonly resets: ResetBudgets | undefined;
  readonly #base: BuiltPolicies;
  readonly #named = new Map<string, BuiltPolicies>();
  readonly #built: { readonly name: PolicyName; readonly policy: ControlledPolicy }[] = [];
  readonly #surroundings: Surroundings;
  readonly #registry: MethodRegistry | undefined;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(policy: ClientPolicy, surroundings: Surroundings) {
    this.#surroundings = surroundings;
    const read = readOptions("client", policy, [...policyKeys, "methods", "idempotency", "resets"]);
    const { methods: named = {}, idempotency, resets, ...given } = read;
    const base = readPolicies(given, "client");
    this.resets =
      resets === false
        ? undefined
        : sharedResetBudgets(resolveResetOptions(resets, "client.resets"), surroundings.clock);
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
    const methods = readOptions("client.methods", named);
    // Services first: a method that has an entry of its own starts from its service's.
    const names = Object.keys(methods).sort((a, b) => depth(a) - depth(b));
    const laidOver = new Map<string, MethodPolicy>();
    for (const name of names) {
      const prefix = `client.methods["${name}"]`;
      const path = methodOrService(prefix, name);
      const its = methods[name];
      if (its === undefined) throw new InvalidOptionError(prefix, "an object of options", its);
      const own = readPolicies(readOptions(prefix, its, policyKeys), prefix);
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
    const says = (...names: readonly (keyof MethodPolicy)[]) =>
      above === undefined || names.some((name) => own[name] !== undefined);
    for (const name of policyKeys) {
      const policy: unknown = own[name];
      // What stands alone has it, and is read by the same code.
      if (typeof policy === "object" && policy !== null && "target" in policy) {
        const rule = "absent: the channel tells it";
        throw new InvalidOptionError(`${prefix}.${name}.target`, rule, policy.target);
      }
    }
    const { deadline, waitForReady = false, timeouts = false, idempotencyKey = false } = options;
    if (typeof waitForReady !== "boolean") {
      throw new InvalidOptionError(`${prefix}.waitForReady`, "true or false", waitForReady);
    }
    const { retry = false, hedge = false } = options;
    const policy = <K extends PolicyKey>(name: K) =>
      says(name) ? this.#policy(name, options, prefix) : above?.[name];
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
      breaker: policy("breaker"),
      throttle: policy("throttle"),
      rate: policy("rate"),
      bulkhead: policy("bulkhead"),
      fallback: policy("fallback"),
      faults: policy("faults"),
    };
  }

  #policy<K extends PolicyKey>(
    name: K,
    policies: { readonly [N in PolicyKey]?: OptionsOf[N] | false },
    prefix: string,
  ): Built[K] | undefined {
    const options: OptionsOf[K] | false | undefined = policies[name];
    if (options === undefined || options === false) return undefined;
    const all: { readonly [N in PolicyKey]: Build<N> } = builders;
    const build = all[name];
    return this.#control(name, build(options, this.#surroundings, `${prefix}.${name}`));
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

/** 0 for a service, 1 for a method. */
function depth(name: string): number {
  return name.indexOf("/", 1) === -1 ? 0 : 1;
}

/** Options are laid over each other one by one, so those of each policy are read first, inherited ones too. */
function readPolicies(given: MethodPolicy, prefix: string): MethodPolicy {
  const policies = Object.entries(given).map(([name, options]: [string, unknown]) => [
    name,
    typeof options === "object" && options !== null
      ? readOptions(`${prefix}.${name}`, options)
      : options,
  ]);
  return Object.fromEntries(policies);
}
