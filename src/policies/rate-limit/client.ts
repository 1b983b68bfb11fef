import type { Interceptor } from "@grpc/grpc-js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import type { Gauges } from "../../core/gauges.js";
import { InvalidOptionError, readOptions } from "../../core/options.js";
import type { GateAnswer, OnGranted } from "../../core/permit.js";
import { priorityRank } from "../../core/priority.js";
import type { ClientPassage } from "../../grpc/client/attempt.js";
import { interceptorOf } from "../../grpc/client/parts.js";
import {
  type CallKey,
  callKeys,
  gatesPart,
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

/**
 * How many attempts a client sends per second.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/rate.md
 */
export interface RateOptions extends RateLimitOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /**
   * What has a rate of its own: each `target`, each `service` or `method` of a target, or what a function returns. The
   * function runs for each attempt, so it should be cheap. @defaultValue `target`
   */
  readonly key?: CallKey | ((call: KeyedCall) => string);
  /** How many tokens an attempt takes, at least 0. An attempt that costs more than `burst` is always refused. @defaultValue 1 */
  readonly cost?: (call: KeyedCall) => number;
}

/** The options of a rate policy beside those of the rate limit. */
interface OwnRateOptions extends PolicyOptions {
  readonly costOf: CostOf<CallRecord>;
}

/** The rate limit of a client: for each target, or for each key that the user names. */
export class RatePolicy implements ControlledPolicy, Gate<ClientPassage> {
  readonly policy = "rate";
  mode: Mode;
  readonly #limit: RateLimit;
  #keyOf: (record: CallRecord) => string;
  #costOf: CostOf<CallRecord>;

  constructor(options: ResolvedRateLimitOptions, own: OwnRateOptions, environment: Environment) {
    this.mode = own.mode ?? "enforce";
    this.#keyOf = keyFunction(own, keyBy("target"), environment.report, "rate.key");
    this.#costOf = own.costOf;
    this.#limit = new RateLimit(options, environment, "rate");
  }

  reconfigure(fresh: RatePolicy): void {
    this.#keyOf = fresh.#keyOf;
    this.#costOf = fresh.#costOf;
    this.#limit.reconfigure(fresh.#limit);
  }

  modeFor(): Mode {
    return this.mode;
  }

  enter({ record }: ClientPassage, onGranted: OnGranted): GateAnswer {
    return this.#limit.enter({
      key: this.#keyOf(record),
      cost: this.#costOf(record),
      rank: priorityRank[record.priority ?? "normal"],
      deadlineMs: record.deadlineMs,
      onGranted,
    });
  }

  measure(gauges: Gauges): void {
    this.#limit.measure(gauges, "rate", "client");
  }

  snapshot(): RateLimitSnapshot {
    return this.#limit.snapshot();
  }
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function ratePolicy(
  given: RateOptions,
  environment: Environment,
  prefix: string,
): RatePolicy {
  // Refuses what is no object; unknown options are refused below.
  const options = readOptions(prefix, given);
  const { key, cost, ...others } = options;
  const { own, rest } = splitOptions({ ...others, ...keyOption(key, prefix) }, prefix);
  const costOf = costFunction(cost, environment.report, `${prefix}.cost`);
  const resolved = resolveRateLimitOptions(rest, prefix, [...policyOptionNames, "cost"]);
  return new RatePolicy(resolved, { ...own, costOf }, environment);
}

/** The key as a function. */
function keyOption(key: RateOptions["key"], prefix: string): Pick<PolicyOptions, "key"> {
  if (key === undefined) return {};
  if (typeof key === "function") return { key };
  // The key stands in refusals, where callers know a method by its path.
  if (key === "method") return { key: keyByPart((path) => path) };
  if (callKeys.includes(key)) return { key: keyBy(key) };
  throw new InvalidOptionError(`${prefix}.key`, "target, service, method or a function", key);
}

/**
 * The rate limit as an interceptor of its own. An attempt for which there are too few tokens waits for them, if it may, or
 * ends with RESOURCE_EXHAUSTED (reason `RATE_LIMIT_EXCEEDED`), with `google.rpc.QuotaFailure` and with the time until there
 * are enough in RetryInfo. Put it behind `retry`, so that it counts attempts, as the target does.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/rate.md
 */
export function rate(options: RateOptions & StandaloneOptions): Interceptor {
  const { environment, rest } = takeStandalone(options, "rate");
  const policy = ratePolicy(rest, environment, "rate");
  return interceptorOf(environment, gatesPart([policy]));
}
