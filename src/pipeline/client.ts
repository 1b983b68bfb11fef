import type { ControlledPolicy } from "../core/control.js";
import type { PolicyName } from "../core/decision.js";
import { InvalidOptionError, methodOrService, readOptions } from "../core/options.js";
import {
  type ResetBudgets,
  type ResetOptions,
  resolveResetOptions,
  sharedResetBudgets,
} from "../core/reset-budget.js";
import { type PolicyOptions, splitOptions } from "../grpc/client/policy.js";
import type { Environment } from "../grpc/environment.js";
import { serviceOf } from "../grpc/types.js";
import { type BreakerPolicyOptions, breakerPolicy } from "../policies/breaker/client.js";
import { type BulkheadPolicyOptions, bulkheadPolicy } from "../policies/bulkhead/client.js";
import {
  type DeadlineOptions,
  type ResolvedDeadlineOptions,
  resolveDeadlineOptions,
} from "../policies/deadline/client.js";
import {
  type ResolvedTimeoutOptions,
  resolveTimeoutOptions,
  type TimeoutOptions,
} from "../policies/deadline/options.js";
import { type FallbackPolicyOptions, fallbackPolicy } from "../policies/fallback/client-policy.js";
import { type FaultsPolicyOptions, faultsPolicy } from "../policies/faults/client.js";
import {
  type IdempotencyKeyOptions,
  type ResolvedIdempotencyKeyOptions,
  resolveIdempotencyKeyOptions,
} from "../policies/idempotency/client.js";
import { MethodRegistry } from "../policies/idempotency/client-registry.js";
import { type RateOptions, ratePolicy } from "../policies/rate-limit/client.js";
import { defaultBaseMs } from "../policies/retry/backoff.js";
import { retryPolicy } from "../policies/retry/client.js";
import { RetryPolicy, type RetryPolicyOptions } from "../policies/retry/client-policy.js";
import {
  type HedgeOptions,
  resolveHedgeOptions,
  resolveRetryOptions,
} from "../policies/retry/options.js";
import { type ThrottlePolicyOptions, throttlePolicy } from "../policies/throttle/client.js";

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
  environment: Environment,
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

/** The policies of a client, built once. */
export class ClientPolicies {
  /** What connections bear of resets; `undefined` where that does not matter. */
  readonly resets: ResetBudgets | undefined;
  readonly #base: BuiltPolicies;
  readonly #named = new Map<string, BuiltPolicies>();
  readonly #built: { readonly name: PolicyName; readonly policy: ControlledPolicy }[] = [];
  readonly #environment: Environment;
  readonly #registry: MethodRegistry | undefined;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(policy: ClientPolicy, environment: Environment) {
    this.#environment = environment;
    const read = readOptions("client", policy, [...policyKeys, "methods", "idempotency", "resets"]);
    const { methods: named = {}, idempotency, resets, ...given } = read;
    const base = readPolicies(given, "client");
    this.resets =
      resets === false
        ? undefined
        : sharedResetBudgets(resolveResetOptions(resets, "client.resets"), environment.clock);
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

  /**
   * Makes something of the policies of each method, such as the layers that its calls go through. It is made once for all
   * methods that have the same policies, when the first of them is called.
   *
   * @returns What was made for a method, given by its path. Most calls are to the method of the one before.
   */
  compiled<T>(compile: (policies: BuiltPolicies) => T): (path: string) => T {
    const all = new Map<BuiltPolicies, { readonly made: T }>();
    let last: { readonly path: string; readonly made: T } | undefined;
    return (path) => {
      if (last?.path === path) return last.made;
      const policies = this.for(path);
      const { made } = all.get(policies) ?? { made: compile(policies) };
      all.set(policies, { made });
      last = { path, made };
      return made;
    };
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
    return this.#control(name, build(options, this.#environment, `${prefix}.${name}`));
  }

  #retry(options: RetryPolicyOptions | false, prefix: string): RetryPolicy | undefined {
    if (options === false) return undefined;
    const { own, rest } = splitOptions(options, `${prefix}.retry`);
    return retryPolicy(rest, own.mode, this.#environment, `${prefix}.retry`, this.#registry);
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
      this.#environment,
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
  /** @defaultValue off: it takes refusals of one method or instance for a word of the whole target */
  readonly throttle?: ThrottlePolicyOptions | false;
  /** @defaultValue off: how many calls a target allows is for it to say */
  readonly rate?: RateOptions | false;
  /** @defaultValue off: how many calls a target bears is for you to say */
  readonly bulkhead?: BulkheadPolicyOptions | false;
  /** Where the answer to a failed call comes from instead. @defaultValue off */
  readonly fallback?: FallbackPolicyOptions | false;
  /** What goes wrong on purpose, where the environment says `GRPC_WEIR_FAULTS=1`. @defaultValue off */
  readonly faults?: FaultsPolicyOptions | false;
}

/** The policies of a client. */
export interface ClientPolicy extends MethodPolicy {
  /**
   * What the schema says of idempotency: a registry from `methodRegistry`. `retry.idempotent` goes before it.
   * @defaultValue nothing is known
   */
  readonly idempotency?: MethodRegistry;
  /**
   * How many streams the servers let a client reset on a connection. Attempts that lost and attempts that run out of
   * their own time stay under it; `false` calls them off at once, whatever comes of it.
   * @defaultValue on: 800 at once and 26 a second, under the limits of Node's HTTP/2 server
   */
  readonly resets?: ResetOptions | false;
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
  "rate",
  "throttle",
  "bulkhead",
  "fallback",
  "faults",
] as const satisfies readonly (keyof MethodPolicy)[];

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
