import { Metadata, type ServerInterceptor } from "@grpc/grpc-js";
import { type ControlledPolicy, type Mode, modes } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { InvalidOptionError, oneOf, readOptions } from "../../core/options.js";
import type { GateAnswer, OnGranted } from "../../core/permit.js";
import { priorityRank } from "../../core/priority.js";
import { asking, keyText, type ReportError } from "../../core/user-code.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment, EnvironmentOptions } from "../../grpc/environment.js";
import {
  isExempt,
  type ServerPolicyOptions,
  serverGate,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import { serviceOf } from "../../grpc/types.js";
import { type RateLimitOptions, resolveRateLimitOptions } from "./options.js";
import { type CostOf, costFunction, RateLimit, type RateLimitSnapshot } from "./rate-limit.js";

/** What the functions of a quota and of a bulkhead see of a call. */
export interface QuotaCall
  extends Pick<InboundCall, "method" | "kind" | "peer" | "priority" | "authContext"> {
  /** What the caller sent, for reading only. */
  readonly metadata: Pick<Metadata, "get" | "getMap">;
}

/** The keys that have a name. */
const keys = {
  server: () => "server",
  service: ({ method }: QuotaCall) => serviceOf(method),
  method: ({ method }: QuotaCall) => method,
  // Without the port, which is another one for every connection.
  peer: ({ peer }: QuotaCall) => peer.replace(/:\d{1,5}$/, ""),
} as const satisfies Record<string, (call: QuotaCall) => string>;

/** How many calls a server accepts per second, for each key. */
export interface QuotaOptions extends RateLimitOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /**
   * What has tokens of its own: the whole `server`, each `service`, `method` or `peer` (the address of the caller without its
   * port), or what a function returns. A refused caller is told the key, in `google.rpc.QuotaFailure.subject`.
   * @defaultValue `server`
   */
  readonly key?: keyof typeof keys | ((call: QuotaCall) => string);
  /** How many tokens a call takes, at least 0. A call that costs more than `burst` is always refused. @defaultValue 1 */
  readonly cost?: (call: QuotaCall) => number;
}

/** One quota of a server. When a call that has passed it is refused later, or is cancelled, its tokens come back. */
export class QuotaPolicy implements ControlledPolicy, Gate<InboundCall> {
  readonly policy = "quota";
  mode: Mode;
  readonly #limit: RateLimit;
  readonly #keyOf: (call: QuotaCall) => string;
  readonly #costOf: CostOf<QuotaCall>;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: QuotaOptions, environment: Environment, prefix: string) {
    // Refuses what is no object; unknown options are refused below.
    const options = readOptions(prefix, given);
    const { mode = "enforce", key, cost, ...limit } = options;
    const { report } = environment;
    this.mode = oneOf(`${prefix}.mode`, mode, modes);
    this.#keyOf = quotaKey(key, report, `${prefix}.key`);
    this.#costOf = costFunction(cost, report, `${prefix}.cost`);
    const resolved = resolveRateLimitOptions(limit, prefix, ["mode", "key", "cost"]);
    this.#limit = new RateLimit(resolved, environment, prefix);
  }

  modeFor({ method }: InboundCall): Mode {
    return isExempt(method) ? "off" : this.mode;
  }

  enter(inbound: InboundCall, onGranted: OnGranted): GateAnswer {
    const call = quotaCall(inbound);
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

  snapshot(): RateLimitSnapshot {
    return this.#limit.snapshot();
  }
}

/**
 * The key function of a quota or of a bulkhead. When the user's function throws or returns no string, that is reported and the
 * key is `server`.
 *
 * @throws InvalidOptionError for an option that is neither a known name nor a function.
 */
export function quotaKey(
  key: QuotaOptions["key"],
  report: ReportError,
  option: string,
): (call: QuotaCall) => string {
  if (key === undefined) return keys.server;
  if (typeof key === "function") {
    const asked = asking(key, keyText, keys.server, report, option);
    return (call) => asked(call) ?? keys.server();
  }
  if (Object.hasOwn(keys, key)) return keys[key];
  throw new InvalidOptionError(option, "server, service, method, peer or a function", key);
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

export function quotaCall(inbound: InboundCall): QuotaCall {
  const { method, kind, peer, priority, metadata = new Metadata() } = inbound;
  // The certificate is read only when the function asks for it: grpc-js decodes it each time.
  return { method, kind, peer, priority, metadata, authContext: () => inbound.authContext() };
}

/**
 * A quota as an interceptor of its own. A call for which there are too few tokens waits for them, if it may, or is refused
 * before its handler runs: RESOURCE_EXHAUSTED (reason `RATE_LIMIT_EXCEEDED`), with `google.rpc.QuotaFailure` and with the time
 * until there are enough in pushback and RetryInfo. Health, reflection, channelz and ORCA are exempt.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function quota(
  options: QuotaOptions & Pick<ServerPolicyOptions, "priority"> & EnvironmentOptions,
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "quota");
  const policy = new QuotaPolicy({ ...rest, mode }, environment, "quota");
  return serverGate(environment, priority, [policy]);
}
