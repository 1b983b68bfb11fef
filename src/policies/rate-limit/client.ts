import type { Interceptor } from "@grpc/grpc-js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { InvalidOptionError, readOptions } from "../../core/options.js";
import type { GateAnswer, OnGranted } from "../../core/permit.js";
import { priorityRank } from "../../core/priority.js";
import type { ClientPassage } from "../../grpc/client/gated-call.js";
import { interceptorOf } from "../../grpc/client/layers.js";
import {
  type CallKey,
  callKeys,
  gatesLayer,
  type KeyedCall,
  keyBy,
  keyByPart,
  keyFunction,
  type PolicyOptions,
  policyOptionNames,
  type StandaloneOptions,
  splitOptions,
  takeStandalone,
} from "../../grpc/client/policy.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import {
  type RateLimitOptions,
  type ResolvedRateLimitOptions,
  resolveRateLimitOptions,
} from "./options.js";
import { type CostOf, costFunction, RateLimit, type RateLimitSnapshot } from "./rate-limit.js";

/** How many attempts a client may send in a time. */
export interface RateOptions extends RateLimitOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /** What has a rate of its own. A function runs for each attempt, so it should be cheap. @defaultValue `target` */
  readonly key?: CallKey | ((call: KeyedCall) => string);
  /** How many tokens an attempt takes, at least 0; more than `burst` never goes on. @defaultValue 1 */
  readonly cost?: (call: KeyedCall) => number;
}

/** What a rate policy is for its calls, beside the rate itself. */
interface OwnRateOptions extends PolicyOptions {
  readonly costOf: CostOf<CallRecord>;
}

/** A rate for each target, or for what the user names. */
export class RatePolicy implements ControlledPolicy {
  mode: Mode;
  readonly #limit: RateLimit;
  readonly #keyOf: (record: CallRecord) => string;
  readonly #costOf: CostOf<CallRecord>;

  constructor(options: ResolvedRateLimitOptions, own: OwnRateOptions, environment: Environment) {
    this.mode = own.mode ?? "enforce";
    this.#keyOf = keyFunction(own, keyBy("target"), environment.report, "rate.key");
    this.#costOf = own.costOf;
    this.#limit = new RateLimit(options, environment, "rate");
  }

  enter(record: CallRecord, onGranted: OnGranted): GateAnswer {
    return this.#limit.enter({
      key: this.#keyOf(record),
      cost: this.#costOf(record),
      rank: priorityRank[record.priority ?? "normal"],
      deadlineMs: record.deadlineMs,
      onGranted,
    });
  }

  snapshot(): RateLimitSnapshot {
    return this.#limit.snapshot();
  }
}

export function rateGate(policy: RatePolicy): Gate<ClientPassage> {
  return {
    policy: "rate",
    modeFor: () => policy.mode,
    enter: ({ record }, onGranted) => policy.enter(record, onGranted),
  };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function ratePolicy(
  given: RateOptions,
  environment: Environment,
  prefix: string,
): RatePolicy {
  // Refuses what is no object of options; which keys are known is said below.
  const options = readOptions(prefix, given);
  const { key, cost, ...others } = options;
  const { own, rest } = splitOptions({ ...others, ...keyOption(key, prefix) }, prefix);
  const costOf = costFunction(cost, environment.report, `${prefix}.cost`);
  const resolved = resolveRateLimitOptions(rest, prefix, [...policyOptionNames, "cost"]);
  return new RatePolicy(resolved, { ...own, costOf }, environment);
}

/** The key as a function, whichever way it was named. */
function keyOption(key: RateOptions["key"], prefix: string): Pick<PolicyOptions, "key"> {
  if (key === undefined) return {};
  if (typeof key === "function") return { key };
  // Refused callers are told the key, and know methods by their paths.
  if (key === "method") return { key: keyByPart((path) => path) };
  if (callKeys.includes(key)) return { key: keyBy(key) };
  throw new InvalidOptionError(`${prefix}.key`, "target, service, method or a function", key);
}

/**
 * Bounds how many attempts go to one target in a time, as an interceptor of its own. An attempt that finds no token
 * waits for it, if it may, or ends with RESOURCE_EXHAUSTED (reason `RATE_LIMIT_EXCEEDED`, with `google.rpc.QuotaFailure`
 * and with RetryInfo that says when there is one). Put it below `retry`, so that it counts attempts: that is what the
 * target counts.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function rate(options: RateOptions & StandaloneOptions): Interceptor {
  const { environment, rest } = takeStandalone(options, "rate");
  const policy = ratePolicy(rest, environment, "rate");
  return interceptorOf(environment, gatesLayer(environment, [rateGate(policy)]));
}
