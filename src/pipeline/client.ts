import type { ClientOptions, Interceptor } from "@grpc/grpc-js";
import type { ByMethod } from "../core/method-names.js";
import {
  byMethodOrService,
  InvalidOptionError,
  isRecord,
  nameText,
  oneOf,
  readOptions,
  unlessFalse,
  unlessOff,
} from "../core/options.js";
import { OptionsCopy } from "../core/options-copy.js";
import { type Priority, priorities } from "../core/priority.js";
import {
  type ResetBudgets,
  type ResetOptions,
  resolveResetOptions,
  sharedResetBudgets,
} from "../core/reset-budget.js";
import type { Succession } from "../core/succession.js";
import { reconnectBackoff } from "../grpc/channel/options.js";
import { contextPart } from "../grpc/client/context.js";
import { type OwnPart, ownParts, resolveOwnParts } from "../grpc/client/own-part.js";
import {
  compiled,
  type MeterParts,
  pipelineInterceptor,
  type SpanParts,
} from "../grpc/client/parts.js";
import { gatesPart, type PolicyOptions, splitOptions } from "../grpc/client/policy.js";
import { recordTransformer } from "../grpc/context/call-record.js";
import type { Environment } from "../grpc/environment.js";
import { serviceOf } from "../grpc/types.js";
import {
  type BreakerPolicyOptions,
  breakerAdmit,
  breakerCheck,
  breakerPolicy,
} from "../policies/breaker/client.js";
import { type BulkheadPolicyOptions, bulkheadPolicy } from "../policies/bulkhead/client.js";
import {
  type DeadlineOptions,
  deadlinePart,
  type ResolvedDeadlineOptions,
  resolveDeadlineOptions,
} from "../policies/deadline/client.js";
import { attemptTimeoutsPart } from "../policies/deadline/client-attempt-timeouts.js";
import {
  type ResolvedTimeoutOptions,
  resolveTimeoutOptions,
  type TimeoutOptions,
} from "../policies/deadline/options.js";
import { fallbackPart } from "../policies/fallback/client.js";
import { type FallbackPolicyOptions, fallbackPolicy } from "../policies/fallback/client-policy.js";
import { type FaultsPolicyOptions, faultsLayer, faultsPolicy } from "../policies/faults/client.js";
import { clientKillGates } from "../policies/flags/client.js";
import {
  type IdempotencyKeyOptions,
  idempotencyKeyParts,
  type ResolvedIdempotencyKeyOptions,
  resolveIdempotencyKeyOptions,
} from "../policies/idempotency/client.js";
import { MethodRegistry } from "../policies/idempotency/client-registry.js";
import type { IdempotencyLevel } from "../policies/idempotency/levels.js";
import { type RateOptions, ratePolicy } from "../policies/rate-limit/client.js";
import { defaultBaseMs } from "../policies/retry/backoff.js";
import { repeatPart, retryPolicy } from "../policies/retry/client.js";
import { RetryPolicy, type RetryPolicyOptions } from "../policies/retry/client-policy.js";
import {
  type HedgeOptions,
  resolveHedgeOptions,
  resolveRetryOptions,
} from "../policies/retry/options.js";
import { type ThrottlePolicyOptions, throttlePolicy } from "../policies/throttle/client.js";
import type { BuiltByName, PreparedPolicies } from "./controls.js";

/**
 * The policies of a method, or of all methods. `false` leaves a policy out.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface MethodPolicy {
  /**
   * The priority of calls that get none from their metadata or options, from `withPriority`, or from an inbound call.
   * @defaultValue none: the server decides
   */
  readonly priority?: Priority;
  /** Cannot be left out: without options, calls inherit the deadline of the inbound call. */
  readonly deadline?: DeadlineOptions;
  /**
   * Whether calls wait for a connection instead of failing while there is none (gRPC wait-for-ready). The
   * `waitForReady` of a call's own metadata overrides it. @defaultValue false
   */
  readonly waitForReady?: boolean;
  /** @defaultValue off */
  readonly timeouts?: TimeoutOptions | false;
  /** @defaultValue off */
  readonly idempotencyKey?: IdempotencyKeyOptions | false;
  /** @defaultValue on, with the defaults of `RetryOptions` */
  readonly retry?: RetryPolicyOptions | false;
  /**
   * Further attempts beside the first, for methods that are known to be idempotent. Such methods have hedges instead of
   * retries, because gRFC A6 allows one of the two. Idempotency, replay buffer, retry depth and budget are options of
   * `retry` and hold for hedges too. @defaultValue off
   */
  readonly hedge?: (HedgeOptions & Pick<PolicyOptions, "mode">) | false;
  /** @defaultValue on, with the defaults of `BreakerOptions` */
  readonly breaker?: BreakerPolicyOptions | false;
  /** @defaultValue off, because it treats refusals by one method or instance as refusals by the whole target */
  readonly throttle?: ThrottlePolicyOptions | false;
  /** @defaultValue off, because only the target knows how many calls it allows */
  readonly rate?: RateOptions | false;
  /** @defaultValue off, because only you know how many calls a target can serve at once */
  readonly bulkhead?: BulkheadPolicyOptions | false;
  /** Answers calls that fail from another source, such as a cache. @defaultValue off */
  readonly fallback?: FallbackPolicyOptions | false;
  /** Injects faults, if the environment variable `GRPC_WEIR_FAULTS` is `1`. @defaultValue off */
  readonly faults?: FaultsPolicyOptions | false;
}

/**
 * The policies of a client.
 *
 * @typeParam Service The generated type of the service, such as `typeof StockServiceService`, or a union of several. With it
 *   the names in `methods` are checked while compiling.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface ClientPolicy<Service = unknown> extends MethodPolicy {
  /** What snapshots call the policies of this client. Those of a method have its path behind it. @defaultValue `client` */
  readonly name?: string;
  /**
   * Which methods the schema declares idempotent: a registry from `methodRegistry`. `retry.idempotent` overrides it.
   * @defaultValue no method is known to be idempotent
   */
  readonly idempotency?: MethodRegistry;
  /**
   * How many streams a client may reset on a connection. Servers limit resets: over the limit they close the
   * connection. Attempts that lost to another one, and attempts that ran out of their own time, are cancelled only
   * within this budget. `false` cancels them at once.
   * @defaultValue 800 at once and 26 a second, a fifth under the limits of Node's HTTP/2 server
   */
  readonly resets?: ResetOptions | false;
  /**
   * Policies of your own, in this order: below the deadline, and above fallback and retries. What they are told of
   * attempts comes behind the gates. @defaultValue none
   */
  readonly parts?: readonly OwnPart[];
  /**
   * Policies of single methods (`pkg.Service/Method`) or services (`pkg.Service`). Each option given here replaces that
   * of the service or the client. A policy that is named here, such as a breaker or a bulkhead, has state of its own; a
   * policy that is left out is shared with the service or the client.
   */
  readonly methods?: ByMethod<MethodPolicy, Service>;
}

/**
 * The interceptor of a client: the parts of each method, from the caller down to the wire. Above `repeatPart` a part
 * sees calls, below it attempts. A policy that a method does not have leaves no part and no gate behind.
 */
export function clientPipeline(
  policies: ClientPolicies,
  environment: Environment,
  spans: SpanParts,
  meters: MeterParts = {},
): Interceptor {
  const own = policies.own.map((policy) => ownParts(policy, environment.report));
  const { flags } = environment;
  const kill = flags && clientKillGates(flags);
  const layersOf = policies.compiled((method) => {
    const { idempotencyKey, deadline, fallback, retry, hedge } = method;
    const { breaker, throttle, rate, bulkhead, timeouts, faults } = method;
    const keys = idempotencyKey && idempotencyKeyParts(environment, idempotencyKey);
    return compiled(environment, [
      contextPart(environment, method.waitForReady, method.priority),
      meters.call,
      spans.call,
      keys?.call,
      deadlinePart(deadline),
      ...own.map(({ call }) => call),
      fallbackPart(environment, fallback),
      repeatPart(environment, { retry, hedge, connectionMs: timeouts?.connectionMs }),
      gatesPart([
        // Behind the fallback, which answers for a method that is switched off as for one that fails.
        kill?.first,
        // Before the queue of the bulkhead: a call that will be refused does not wait there.
        breaker && breakerCheck(breaker),
        throttle,
        rate,
        bulkhead,
        (rate ?? bulkhead) && kill?.behindQueues,
        // After that queue: the time in it does not count as the target's, and does not use up a probe.
        breaker && breakerAdmit(breaker),
      ]),
      ...own.map(({ attempt }) => attempt),
      // Before the retries judge the end of an attempt.
      keys?.attempt,
      timeouts && attemptTimeoutsPart(timeouts),
      meters.attempt,
      spans.attempt,
      faults && faultsLayer(environment, faults),
    ]);
  });
  return pipelineInterceptor(environment, layersOf);
}

/**
 * Options of a grpc-js client with the pipeline in them. The user's own interceptors stand outside of it.
 *
 * @param own What the client would have been given without the pipeline.
 */
export function clientOptions(
  own: ClientOptions,
  pipeline: Interceptor,
  environment: Environment,
): ClientOptions {
  const { interceptors, interceptor_providers, callInvocationTransformer, ...rest } = own;
  const providers = interceptor_providers ?? [];
  return {
    // No service config from DNS: a retry policy in it would multiply the attempts.
    "grpc.service_config_disable_resolution": 1,
    ...rest,
    ...reconnectBackoff(rest),
    // grpc-js takes one of the two lists only, so the pipeline joins the one that the user has.
    ...(providers.length > 0
      ? {
          ...(interceptors === undefined ? {} : { interceptors }),
          interceptor_providers: [...providers, () => pipeline],
        }
      : { interceptors: [...(interceptors ?? []), pipeline] }),
    callInvocationTransformer: recordTransformer(environment, pipeline, callInvocationTransformer),
  };
}

/** The policies of a client, built once from its options. */
export class ClientPolicies {
  /** The resets that connections have left; `undefined` where nobody counts them. */
  resets: ResetBudgets | undefined;
  /** Policies of the user's own. */
  readonly own: readonly OwnPart[];
  readonly #name: string | undefined;
  #base: BuiltPolicies;
  #named = new Map<string, BuiltPolicies>();
  /** How often the policies were replaced. */
  #revision = 0;
  readonly #environment: Environment;
  #registry: MethodRegistry | undefined;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(policy: ClientPolicy, environment: Environment) {
    this.#environment = environment;
    const read = readOptions("client", policy, [...policyKeys, ...clientKeys], [], ofServers);
    const { name, methods: named = {}, idempotency, resets = {}, parts = [], ...given } = read;
    this.#name = name === undefined ? undefined : nameText("client.name", name);
    this.own = resolveOwnParts(parts, "client.parts");
    const base = readPolicies(given, "client");
    this.resets = unlessOff("client.resets", resets, (given, option) =>
      sharedResetBudgets(resolveResetOptions(given, option), environment.clock),
    );
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
    // Services first: the options of a method are laid over those of its service.
    const entries = byMethodOrService("client.methods", named);
    entries.sort((a, b) => depth(a.name) - depth(b.name));
    const laidOver = new Map<string, MethodPolicy>();
    for (const { at: prefix, name: path, value: its } of entries) {
      if (its === undefined) throw new InvalidOptionError(prefix, "an object of options", its);
      idempotency?.check(prefix, path);
      const own = readPolicies(readOptions(prefix, its, policyKeys, [], ofOthers), prefix);
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
   * Compiles the policies of each method into something else, such as the layers of its calls. Methods with the same
   * policies share what was compiled when the first of them was called.
   *
   * @returns What was compiled for a method, given by its path. Most calls are to the same method as the call before,
   * so that one is remembered.
   */
  compiled<T>(compile: (policies: BuiltPolicies) => T): (path: string) => T {
    const all = new WeakMap<BuiltPolicies, { readonly made: T }>();
    let last: { readonly path: string; readonly revision: number; readonly made: T } | undefined;
    return (path) => {
      if (last?.path === path && last.revision === this.#revision) return last.made;
      const policies = this.for(path);
      const { made } = all.get(policies) ?? { made: compile(policies) };
      all.set(policies, { made });
      last = { path, revision: this.#revision, made };
      return made;
    };
  }

  /**
   * Builds what newer options ask for. Nothing changes before it is applied; what policies know then stays, and calls that run go
   * on as they began.
   *
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  prepare(policy: ClientPolicy): PreparedPolicies {
    const fresh = new ClientPolicies(policy, this.#environment);
    return {
      before: this.built,
      built: fresh.built,
      apply: (succession) => this.#succeed(fresh, succession),
    };
  }

  #succeed(fresh: ClientPolicies, succession: Succession): void {
    const before = { base: this.#base, named: this.#named };
    this.resets = fresh.resets;
    this.#registry = fresh.#registry;
    this.#base = carried(before.base, fresh.#base, succession);
    this.#named = new Map();
    // In the order in which they were built: what a method shares with its service stands with that.
    for (const [path, policies] of fresh.#named) {
      this.#named.set(path, carried(before.named.get(path), policies, succession));
    }
    this.#revision += 1;
  }

  /** The policies of a method, given by its path: its own, else those of its service, else those of the client. */
  for(path: string): BuiltPolicies {
    if (this.#named.size === 0) return this.#base;
    return this.#named.get(path.slice(1)) ?? this.#named.get(serviceOf(path)) ?? this.#base;
  }

  /** What snapshots call the client. */
  get name(): string {
    return this.#name ?? "client";
  }

  /** Whether the schema says that a method (`pkg.Service/Method`) may run twice. */
  levelOf(method: string): IdempotencyLevel {
    return this.#registry?.levelOf(method) ?? "unknown";
  }

  /** All policies that were built, for `weir.policy` and snapshots. */
  get built(): BuiltByName {
    const prefix = this.#name === undefined ? "" : `${this.#name} `;
    const all: [string, BuiltPolicies][] = [[this.#name ?? "client", this.#base]];
    for (const [path, policies] of this.#named) all.push([`${prefix}${path}`, policies]);
    // A policy that is shared with a method was built for what stands above it, which comes first.
    const of = <P extends object>(its: (policies: BuiltPolicies) => P | undefined) => {
      const first = new Map<P, string>();
      for (const [builtFor, policies] of all) {
        const policy = its(policies);
        if (policy !== undefined && !first.has(policy)) first.set(policy, builtFor);
      }
      return [...first].map(([policy, builtFor]) => ({ policy, builtFor }));
    };
    return {
      retry: of(({ retry }) => retry),
      hedge: of(({ hedge }) => hedge),
      breaker: of(({ breaker }) => breaker),
      rate: of(({ rate }) => rate),
      throttle: of(({ throttle }) => throttle),
      bulkhead: of(({ bulkhead }) => bulkhead),
      fallback: of(({ fallback }) => fallback),
      faults: of(({ faults }) => faults),
    };
  }

  /**
   * @param options All options that hold for the method, inherited ones too.
   * @param own The options of its own entry. A policy without options there is shared with `above`.
   * @param above The policies of the service or client; `undefined` for the client itself.
   */
  #build(
    options: MethodPolicy,
    own: MethodPolicy,
    above: BuiltPolicies | undefined,
    prefix: string,
  ): BuiltPolicies {
    const hasOwn = (...names: readonly (keyof MethodPolicy)[]) =>
      above === undefined || names.some((name) => own[name] !== undefined);
    for (const name of policyKeys) {
      const policy: unknown = own[name];
      // An option of standalone interceptors, which the code that reads the policy would accept.
      if (typeof policy === "object" && policy !== null && "target" in policy) {
        const rule = "absent: the channel tells it";
        throw new InvalidOptionError(`${prefix}.${name}.target`, rule, policy.target);
      }
    }
    const { deadline, waitForReady = false, timeouts = false, idempotencyKey = false } = options;
    if (typeof waitForReady !== "boolean") {
      throw new InvalidOptionError(`${prefix}.waitForReady`, "true or false", waitForReady);
    }
    const { priority } = options;
    if (priority !== undefined) {
      const rule = `one of ${priorities.join(", ")}; how priorities are read is an option of weir.server()`;
      if (isRecord(priority)) throw new InvalidOptionError(`${prefix}.priority`, rule, priority);
      oneOf(`${prefix}.priority`, priority, priorities);
    }
    const { retry = false, hedge = false } = options;
    const policy = <K extends PolicyKey>(name: K) =>
      hasOwn(name) ? this.#policy(name, options, prefix) : above?.[name];
    const path = (name: keyof MethodPolicy) => `${prefix}.${name}`;
    // Before the timeouts, which read the retry options: a mistake there is reported under its own name.
    const retries = hasOwn("retry") ? this.#retry(retry, prefix) : above?.retry;
    const resolvedTimeouts =
      timeouts === false
        ? undefined
        : resolveTimeoutOptions(timeouts, path("timeouts"), {
            retryBaseMs: retry === false ? undefined : (retry.backoff?.baseMs ?? defaultBaseMs),
            deadlineDefaultMs: deadline?.defaultMs || undefined,
          });
    return {
      deadline: resolveDeadlineOptions(deadline, path("deadline"), resolvedTimeouts?.totalMs),
      waitForReady,
      priority,
      timeouts: resolvedTimeouts,
      idempotencyKey:
        idempotencyKey === false
          ? undefined
          : resolveIdempotencyKeyOptions(idempotencyKey, path("idempotencyKey")),
      retry: retries,
      hedge: hasOwn("retry", "hedge") ? this.#hedge(hedge, retry, prefix) : above?.hedge,
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
    return build(options, this.#environment, `${prefix}.${name}`);
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
}

/** Carries the policies of a method over. The same object as before where nothing has changed for it. */
function carried(
  before: BuiltPolicies | undefined,
  fresh: BuiltPolicies,
  succession: Succession,
): BuiltPolicies {
  const policies: BuiltPolicies = {
    ...fresh,
    retry: succession.carry(before?.retry, fresh.retry),
    hedge: succession.carry(before?.hedge, fresh.hedge),
    breaker: succession.carry(before?.breaker, fresh.breaker),
    throttle: succession.carry(before?.throttle, fresh.throttle),
    rate: succession.carry(before?.rate, fresh.rate),
    bulkhead: succession.carry(before?.bulkhead, fresh.bulkhead),
    fallback: succession.carry(before?.fallback, fresh.fallback),
    faults: succession.carry(before?.faults, fresh.faults),
  };
  return before !== undefined && new OptionsCopy(before).matches(policies) ? before : policies;
}

/** The functions that build the policies with state, by the name of their options. */
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

/** The policies of one method. */
export interface BuiltPolicies extends Readonly<{ [K in PolicyKey]: Built[K] | undefined }> {
  readonly deadline: ResolvedDeadlineOptions;
  readonly waitForReady: boolean;
  readonly priority: Priority | undefined;
  readonly timeouts: ResolvedTimeoutOptions | undefined;
  readonly idempotencyKey: ResolvedIdempotencyKeyOptions | undefined;
  readonly retry: RetryPolicy | undefined;
  readonly hedge: RetryPolicy | undefined;
}

/** The policies that a method can have options for. */
const policyKeys = [
  "priority",
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

/** The options that only a client as a whole has. */
const clientKeys = [
  "name",
  "methods",
  "idempotency",
  "resets",
  "parts",
] as const satisfies readonly Exclude<keyof ClientPolicy, keyof MethodPolicy>[];

/** Options that only servers have. */
const ofServers = new Map(
  ["deadlineGuard", "requestMs", "quota", "admission", "relay", "brownout"].map(
    (name) => [name, "one of weir.server()"] as const,
  ),
);

/** Options that methods do not have. */
const ofOthers = new Map<string, string>([
  ...ofServers,
  ...clientKeys.map((name) => [name, "one of the whole client"] as const),
]);

/** 0 for a service, 1 for a method: the order in which entries are read. */
function depth(name: string): number {
  return name.includes("/") ? 1 : 0;
}

/**
 * Reads the options of each policy as plain objects, inherited properties too, because they are merged option by
 * option.
 */
function readPolicies(given: MethodPolicy, prefix: string): MethodPolicy {
  const policies = Object.entries(given).map(([name, options]: [string, unknown]) => {
    if (options === undefined || name === "waitForReady" || name === "priority") {
      return [name, options];
    }
    const option = `${prefix}.${name}`;
    // The deadline has no `false`: calls always inherit that of the inbound call.
    const read =
      name === "deadline" ? readObject(option, options) : unlessFalse(option, options, readObject);
    return [name, read];
  });
  return Object.fromEntries(policies);
}

function readObject(option: string, value: unknown): object {
  if (typeof value === "object" && value !== null) return readOptions(option, value);
  throw new InvalidOptionError(option, "an object of options", value);
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
