import type { StatusObject } from "@grpc/grpc-js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gauges } from "../../core/gauges.js";
import { Keyed } from "../../core/keyed.js";
import { InvalidOptionError, optionalFunction, readOptions } from "../../core/options.js";
import { LatencyQuantile } from "../../core/stats/latency-quantile.js";
import type { StatusOrigin } from "../../core/status.js";
import type { PolicyOptions } from "../../grpc/client/policy.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import type { MethodRegistry } from "../idempotency/client-registry.js";
import { budgetSnapshots, type RetryBudget, type RetryBudgetSnapshot } from "./budget.js";
import { hedgeDelayMs } from "./hedging.js";
import type { ResolvedHedgeOptions, ResolvedRetryOptions, RetryOptions } from "./options.js";

/**
 * A failed attempt, as `retryStatus` sees it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export interface FailedStatus extends StatusObject {
  readonly origin: StatusOrigin;
  /** 1 for the first. */
  readonly attempt: number;
}

/**
 * How a server-streamed response is continued after a failure.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export interface ResumeOptions {
  /** Returns the position of a message, for the next request. `undefined` where the response cannot be continued. */
  readonly token: (message: unknown) => unknown;
  /** Returns the request that continues behind the token. It must not change the first request. */
  readonly request: (first: unknown, token: unknown) => unknown;
}

/**
 * Functions of yours that take part in decisions about retries.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export interface RetryJudgement {
  /** Whether a status may be retried. Replaces `codes`; the origin and idempotency must still allow the retry. */
  readonly retryStatus?: (failed: FailedStatus) => boolean;
  /**
   * Whether a call that ended OK with this response is retried, for methods with a single response that are known to be
   * idempotent. When no attempt is left, the caller gets the response.
   */
  readonly retryResponse?: (response: unknown) => boolean;
  /** Continues server-streamed responses; other kinds of calls are not affected. @defaultValue off */
  readonly resume?: ResumeOptions;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md */
export type RetryPolicyOptions = RetryOptions & RetryJudgement & Pick<PolicyOptions, "mode">;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveJudgement(judgement: RetryJudgement, prefix: string): RetryJudgement {
  optionalFunction(`${prefix}.retryStatus`, judgement.retryStatus);
  optionalFunction(`${prefix}.retryResponse`, judgement.retryResponse);
  if (judgement.resume === undefined) return judgement;
  const resume = readOptions(`${prefix}.resume`, judgement.resume, ["token", "request"]);
  for (const name of ["token", "request"] as const) {
    if (typeof resume[name] === "function") continue;
    throw new InvalidOptionError(`${prefix}.resume.${name}`, "a function", resume[name]);
  }
  return { ...judgement, resume };
}

/**
 * The numbers of a retry or hedge policy at one moment. Counts only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export interface RetrySnapshot {
  /** Decisions to make an extra attempt, after a failed one or beside one. */
  readonly retried: number;
  /** Decisions to make no further attempt after a failure that may be retried by its code. */
  readonly stopped: number;
  /** By target. */
  readonly budgets: Readonly<Record<string, RetryBudgetSnapshot>>;
}

/** The extra attempts of a method, or of all methods: retries, or, with hedge options, hedges. */
export class RetryPolicy implements ControlledPolicy {
  readonly name: "retry" | "hedge";
  mode: Mode;
  options: ResolvedRetryOptions;
  hedge: ResolvedHedgeOptions | undefined;
  judgement: RetryJudgement;
  /** How often each decision was taken, observed ones included. */
  readonly counts = { retried: 0, stopped: 0 };
  #budgets: Keyed<RetryBudget> | undefined;
  readonly #latencies: Keyed<LatencyQuantile>;
  readonly #registry: MethodRegistry | undefined;

  constructor(
    init: {
      readonly options: ResolvedRetryOptions;
      readonly mode: Mode;
      readonly judgement?: RetryJudgement;
      readonly hedge?: ResolvedHedgeOptions;
      readonly registry?: MethodRegistry | undefined;
    },
    { budgets, clock }: Environment,
  ) {
    this.options = init.options;
    this.mode = init.mode;
    this.judgement = init.judgement ?? {};
    this.hedge = init.hedge;
    this.name = init.hedge === undefined ? "retry" : "hedge";
    this.#registry = init.registry;
    const { budget } = init.options;
    this.#budgets = budget === undefined ? undefined : budgets.of(budget);
    this.#latencies = new Keyed(() => new LatencyQuantile({ windowMs: 60_000 }, clock));
  }

  /** A budget whose numbers are others is another budget: it may be shared with methods whose numbers stay. */
  reconfigure(fresh: RetryPolicy): void {
    this.options = fresh.options;
    this.hedge = fresh.hedge;
    this.judgement = fresh.judgement;
    this.#budgets = fresh.#budgets;
  }

  budgetOf({ target }: CallRecord): RetryBudget | undefined {
    return this.#budgets?.get(target);
  }

  /** The time that attempts of this method took in the last minute. */
  latencyOf({ target, method }: CallRecord): LatencyQuantile {
    return this.#latencies.get(`${target} ${method}`);
  }

  /**
   * How long to wait before another attempt beside the first; `undefined` without hedges, or while that is not known.
   */
  hedgeDelayMs(record: CallRecord): number | undefined {
    const { hedge } = this;
    if (hedge === undefined) return undefined;
    const { quantile } = hedge;
    const learned = quantile === undefined ? undefined : this.latencyOf(record).quantile(quantile);
    return hedgeDelayMs(hedge, learned);
  }

  /**
   * Whether the method may run twice, as known from an idempotency key that the server honours, from the options, or
   * from the schema. `undefined` where it is not known.
   */
  idempotent({ method, keyHonoured }: CallRecord): boolean | undefined {
    if (keyHonoured) return true;
    const { idempotent } = this.options;
    if (idempotent !== undefined) return idempotent;
    const level = this.#registry?.levelOf(method) ?? "unknown";
    return level === "unknown" ? undefined : true;
  }

  measure(gauges: Gauges): void {
    for (const [target, budget] of this.#budgets?.entries() ?? []) {
      budget.measure(gauges, { side: "client", target });
    }
  }

  snapshot(): RetrySnapshot {
    return { ...this.counts, budgets: budgetSnapshots(this.#budgets) };
  }
}
