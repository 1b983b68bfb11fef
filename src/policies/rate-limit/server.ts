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

/** What a call tells the functions of a quota. */
export interface QuotaCall
  extends Pick<InboundCall, "method" | "kind" | "peer" | "priority" | "authContext"> {
  /** What the caller sent along, for reading only. */
  readonly metadata: Pick<Metadata, "get" | "getMap">;
}

/** Keys that have a name. */
const keys = {
  server: () => "server",
  service: ({ method }: QuotaCall) => serviceOf(method),
  method: ({ method }: QuotaCall) => method,
  // Every connection has a port of its own.
  peer: ({ peer }: QuotaCall) => peer.replace(/:\d{1,5}$/, ""),
} as const satisfies Record<string, (call: QuotaCall) => string>;

/** How many calls a server takes on in a time: from everybody, or from each of those it tells apart. */
export interface QuotaOptions extends RateLimitOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /**
   * Whose tokens a call takes: those of all calls of the server, of its service, of its method, of the address it
   * comes from, or of what a function says. A refused caller is told the key, as `google.rpc.QuotaFailure.subject`.
   * @defaultValue `server`
   */
  readonly key?: keyof typeof keys | ((call: QuotaCall) => string);
  /** How many tokens a call takes, at least 0; more than `burst` is never let through. @defaultValue 1 */
  readonly cost?: (call: QuotaCall) => number;
}

/** One quota of a server. A call that has passed it and does not go on after all has its tokens back. */
export class QuotaPolicy implements ControlledPolicy, Gate<InboundCall> {
  readonly policy = "quota";
  mode: Mode;
  readonly #limit: RateLimit;
  readonly #keyOf: (call: QuotaCall) => string;
  readonly #costOf: CostOf<QuotaCall>;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: QuotaOptions, environment: Environment, prefix: string) {
    // Refuses what is no object of options; which keys are known is said below.
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

  /** Refuses those who wait. */
  drain(): void {
    this.#limit.drain();
  }

  snapshot(): RateLimitSnapshot {
    return this.#limit.snapshot();
  }
}

/** The key function of a quota or a bulkhead. The user's own may throw; then the call counts for the whole server. */
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
 * The quotas of a server: one, or several that a call has to pass one after the other.
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

/** What the functions of a policy see of a call. */
export function quotaCall(inbound: InboundCall): QuotaCall {
  const { method, kind, peer, priority, metadata = new Metadata() } = inbound;
  // Asked for when it is wanted: grpc-js takes the certificate apart for it.
  return { method, kind, peer, priority, metadata, authContext: () => inbound.authContext() };
}

/**
 * A quota as an interceptor of its own. A call that finds no tokens waits for them, if it may, or is refused before
 * its handler runs: RESOURCE_EXHAUSTED (reason `RATE_LIMIT_EXCEEDED`) with `google.rpc.QuotaFailure`, and with pushback
 * and RetryInfo that say when there are some. Exempt: health, reflection, channelz, ORCA.
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
