import { resolveBreakerOptions } from "../core/breaker-options.js";
import { resolveBulkheadOptions } from "../core/bulkhead.js";
import type { PolicyName } from "../core/decision.js";
import { InvalidOptionError, knownKeys } from "../core/options.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import { resolveRetryOptions } from "../core/retry-options.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { serviceOf } from "../grpc/types.js";
import { BreakerPolicy, type BreakerPolicyOptions } from "./breaker.js";
import { BulkheadPolicy, type BulkheadPolicyOptions } from "./bulkhead.js";
import {
  type DeadlineOptions,
  type ResolvedDeadlineOptions,
  resolveDeadlineOptions,
} from "./deadline.js";
import { splitOptions } from "./policy-options.js";
import { RetryPolicy, type RetryPolicyOptions } from "./retry.js";

/** The policies of a method, or of all methods. `false` leaves a policy out. */
export interface MethodPolicy {
  /** Always at work: without options, calls inherit the deadline of the inbound call. */
  readonly deadline?: DeadlineOptions;
  /** @defaultValue on, with the defaults of `RetryOptions` */
  readonly retry?: RetryPolicyOptions | false;
  /** @defaultValue on, with the defaults of `BreakerOptions` */
  readonly breaker?: BreakerPolicyOptions | false;
  /** @defaultValue off: how many calls a target bears is for you to say */
  readonly bulkhead?: BulkheadPolicyOptions | false;
}

/** The policies of a client. */
export interface ClientPolicy extends MethodPolicy {
  /**
   * Policies of single methods (`pkg.Service/Method`) or services (`pkg.Service`), laid over those of the
   * client option by option. A breaker or bulkhead that is named here is one of its own; left out, the method
   * shares the client's.
   */
  readonly methods?: Readonly<Record<string, MethodPolicy>>;
}

const policyKeys = ["deadline", "retry", "breaker", "bulkhead"] as const;

/** What stands for one method, built. */
export interface BuiltPolicies {
  readonly deadline: ResolvedDeadlineOptions;
  readonly retry: RetryPolicy | undefined;
  readonly breaker: BreakerPolicy | undefined;
  readonly bulkhead: BulkheadPolicy | undefined;
}

/** The policies of a client, built once, and looked up by method for each call. */
export class ClientPolicies {
  readonly #base: BuiltPolicies;
  readonly #named = new Map<string, BuiltPolicies>();
  readonly #built: { readonly name: PolicyName; readonly policy: ControlledPolicy }[] = [];
  readonly #surroundings: Surroundings;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(policy: ClientPolicy, surroundings: Surroundings) {
    this.#surroundings = surroundings;
    knownKeys("client", policy, [...policyKeys, "methods"]);
    const { methods = {}, ...base } = policy;
    const all: MethodPolicy = { retry: {}, breaker: {}, bulkhead: false, ...base };
    this.#base = this.#build(all, all, undefined, "client");
    knownKeys("client.methods", methods, Object.keys(methods ?? {}));
    // Services first: a method that has an entry of its own starts from its service's.
    const names = Object.keys(methods).sort((a, b) => depth(a) - depth(b));
    const laidOver = new Map<string, MethodPolicy>();
    for (const name of names) {
      const prefix = `client.methods["${name}"]`;
      if (!/^\/?[\w.]+(\/\w+)?$/.test(name)) {
        throw new InvalidOptionError(prefix, "named pkg.Service/Method or pkg.Service", name);
      }
      const own = methods[name] ?? {};
      knownKeys(prefix, own, policyKeys);
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
   * @param own What it says itself; the rest is shared with `above`.
   */
  #build(
    options: MethodPolicy,
    own: MethodPolicy,
    above: BuiltPolicies | undefined,
    prefix: string,
  ): BuiltPolicies {
    const shared = <K extends "retry" | "breaker" | "bulkhead">(
      name: K,
      make: (options: Exclude<MethodPolicy[K], false | undefined>) => BuiltPolicies[K],
    ): BuiltPolicies[K] => {
      if (above !== undefined && own[name] === undefined) return above[name];
      const wanted = options[name];
      if (wanted === undefined || wanted === false) return undefined as BuiltPolicies[K];
      const policy = make(wanted as Exclude<MethodPolicy[K], false | undefined>);
      if (policy !== undefined) this.#built.push({ name, policy });
      return policy;
    };
    const surroundings = this.#surroundings;
    return {
      deadline: resolveDeadlineOptions(options.deadline, `${prefix}.deadline`),
      retry: shared("retry", (given) => {
        const { own: common, rest } = splitOptions(given, `${prefix}.retry`);
        return new RetryPolicy(
          resolveRetryOptions(rest, `${prefix}.retry`),
          common.mode ?? "enforce",
        );
      }),
      breaker: shared("breaker", (given) => {
        const { own: common, rest } = splitOptions(given, `${prefix}.breaker`);
        const resolved = resolveBreakerOptions(rest, `${prefix}.breaker`);
        return new BreakerPolicy(resolved, common, surroundings);
      }),
      bulkhead: shared("bulkhead", (given) => {
        const { own: common, rest } = splitOptions(given, `${prefix}.bulkhead`);
        const resolved = resolveBulkheadOptions(rest, `${prefix}.bulkhead`);
        return new BulkheadPolicy(resolved, common, surroundings);
      }),
    };
  }
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
