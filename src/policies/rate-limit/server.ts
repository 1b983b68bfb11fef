import type { ServerInterceptor } from "@grpc/grpc-js";
import { type ControlledPolicy, type Mode, modes } from "../../core/control.js";
import type { Gauges } from "../../core/gauges.js";
import { oneOf, readOptions } from "../../core/options.js";
import type { GateAnswer, OnGranted } from "../../core/permit.js";
import { priorityRank } from "../../core/priority.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment, EnvironmentOptions } from "../../grpc/environment.js";
import { type ServerGate, serverPipeline } from "../../grpc/server/pipeline-call.js";
import {
  callSeen,
  isExempt,
  type QuotaCall,
  type ServerCallKey,
  type ServerPolicyOptions,
  serverKeyOf,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import { type RateLimitOptions, resolveRateLimitOptions } from "./options.js";
import { type CostOf, costFunction, RateLimit, type RateLimitSnapshot } from "./rate-limit.js";

/**
 * How many calls a server accepts per second, for each key.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/quota.md
 */
export interface QuotaOptions extends RateLimitOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /**
   * What has tokens of its own: the whole `server`, each `service`, `method` or `peer` (the address of the caller without its
   * port), or what a function returns. A refused caller is told the key, in `google.rpc.QuotaFailure.subject`.
   * @defaultValue `server`
   */
  readonly key?: ServerCallKey | ((call: QuotaCall) => string);
  /** How many tokens a call takes, at least 0. A call that costs more than `burst` is always refused. @defaultValue 1 */
  readonly cost?: (call: QuotaCall) => number;
}

/** One quota of a server. When a call that has passed it is refused later, or is cancelled, its tokens come back. */
export class QuotaPolicy implements ControlledPolicy, ServerGate {
  readonly policy = "quota";
  readonly asksUser = true;
  mode: Mode;
  readonly #limit: RateLimit;
  #keyOf: (call: QuotaCall) => string;
  #costOf: CostOf<QuotaCall>;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: QuotaOptions, environment: Environment, prefix: string) {
    // Refuses what is no object; unknown options are refused below.
    const options = readOptions(prefix, given);
    const { mode = "enforce", key, cost, ...limit } = options;
    const { report } = environment;
    this.mode = oneOf(`${prefix}.mode`, mode, modes);
    this.#keyOf = serverKeyOf(key, report, `${prefix}.key`);
    this.#costOf = costFunction(cost, report, `${prefix}.cost`);
    const resolved = resolveRateLimitOptions(limit, prefix, ["mode", "key", "cost"]);
    this.#limit = new RateLimit(resolved, environment, prefix);
  }

  reconfigure(fresh: QuotaPolicy): void {
    this.#keyOf = fresh.#keyOf;
    this.#costOf = fresh.#costOf;
    this.#limit.reconfigure(fresh.#limit);
  }

  modeFor({ method }: InboundCall): Mode {
    return isExempt(method) ? "off" : this.mode;
  }

  enter(inbound: InboundCall, onGranted: OnGranted): GateAnswer {
    const call = callSeen(inbound);
    return this.#limit.enter({
      key: this.#keyOf(call),
      cost: this.#costOf(call),
      rank: priorityRank[inbound.priority],
      deadlineMs: inbound.deadlineMs,
      onGranted,
    });
  }

  /** Refuses the calls that wait. */
  drain(): void {
    this.#limit.drain();
  }

  measure(gauges: Gauges): void {
    this.#limit.measure(gauges, "quota", "server");
  }

  snapshot(): RateLimitSnapshot {
    return this.#limit.snapshot();
  }
}

/**
 * The quotas of a server: one, or several that a call passes in their order.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function quotaPolicies(
  options: QuotaOptions | readonly QuotaOptions[],
  environment: Environment,
  prefix: string,
): readonly QuotaPolicy[] {
  return isList(options)
    ? options.map((each, index) => new QuotaPolicy(each, environment, `${prefix}[${index}]`))
    : [new QuotaPolicy(options, environment, prefix)];
}

function isList<T extends object>(given: T | readonly T[]): given is readonly T[] {
  return Array.isArray(given);
}

/**
 * A quota as an interceptor of its own. A call for which there are too few tokens waits for them, if it may, or is refused
 * before its handler runs: RESOURCE_EXHAUSTED (reason `RATE_LIMIT_EXCEEDED`), with `google.rpc.QuotaFailure` and with the time
 * until there are enough in pushback and RetryInfo. Health, reflection, channelz and ORCA are exempt.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/quota.md
 */
export function quota(
  options: QuotaOptions & Pick<ServerPolicyOptions, "priority"> & EnvironmentOptions,
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "quota");
  const policy = new QuotaPolicy({ ...rest, mode }, environment, "quota");
  return serverPipeline(environment, { priority, gates: [policy] });
}
