import type { StatusObject } from "@grpc/grpc-js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import { Keyed } from "../../core/keyed.js";
import { optionalFunction, readOptions } from "../../core/options.js";
import { LatencyQuantile } from "../../core/stats/latency-quantile.js";
import type { StatusOrigin } from "../../core/status.js";
import type { PolicyOptions } from "../../grpc/client/policy.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import type { MethodRegistry } from "../idempotency/client-registry.js";
import { budgetSnapshots, type RetryBudget, type RetryBudgetSnapshot } from "./budget.js";
import { hedgeDelayMs } from "./hedging.js";
import type { ResolvedHedgeOptions, ResolvedRetryOptions, RetryOptions } from "./options.js";

/** What a judgement of a failed attempt has to go by. */
export interface FailedStatus extends StatusObject {
  readonly origin: StatusOrigin;
  /** 1 for the first. */
  readonly attempt: number;
}

/** How a server-streamed response is continued after a failure. */
export interface ResumeOptions {
  /** What the next request needs to know of the last message, such as its position. `undefined`: not here. */
  readonly token: (message: unknown) => unknown;
  /** The request that continues behind the token. It must not change the first request. */
  readonly request: (first: unknown, token: unknown) => unknown;
}

/** The caller's own part in decisions about retries. */
export interface RetryJudgement {
  /** Whether a status may be retried, in place of `codes`. Origin and idempotency still have to allow it. */
  readonly retryStatus?: (failed: FailedStatus) => boolean;
  /**
   * Whether an OK with this response is tried again, for methods with a single response that are known to be
   * idempotent. When no attempt is left, the caller gets the response.
   */
  readonly retryResponse?: (response: unknown) => boolean;
  /** Continues server-streamed responses; other kinds of calls are not affected. @defaultValue off */
  readonly resume?: ResumeOptions;
}

export type RetryPolicyOptions = RetryOptions & RetryJudgement & Pick<PolicyOptions, "mode">;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveJudgement(judgement: RetryJudgement, prefix: string): RetryJudgement {
  optionalFunction(`${prefix}.retryStatus`, judgement.retryStatus);
  optionalFunction(`${prefix}.retryResponse`, judgement.retryResponse);
  if (judgement.resume === undefined) return judgement;
  const resume = readOptions(`${prefix}.resume`, judgement.resume, ["token", "request"]);
  mustBeFunction(`${prefix}.resume.token`, resume.token);
  mustBeFunction(`${prefix}.resume.request`, resume.request);
  return { ...judgement, resume };
}

function mustBeFunction(option: string, value: unknown): void {
  optionalFunction(option, (value ?? null) as () => unknown);
}

/** All counts only grow. */
export interface RetrySnapshot {
  /** Attempts that were decided on after a failed one, or beside one. */
  readonly retried: number;
  /** Failures that could have been retried by their kind, and were not. */
  readonly stopped: number;
  readonly budgets: Readonly<Record<string, RetryBudgetSnapshot>>;
}

/** Extra attempts for one method or for all: one behind the other, or, with hedge options, side by side. */
export class RetryPolicy implements ControlledPolicy {
  readonly name: "retry" | "hedge";
  mode: Mode;
  readonly options: ResolvedRetryOptions;
  readonly hedge: ResolvedHedgeOptions | undefined;
  readonly judgement: RetryJudgement;
  /** How often each decision was taken, observed ones included. */
  readonly counts = { retried: 0, stopped: 0 };
  readonly #budgets: Keyed<RetryBudget> | undefined;
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

  budgetOf({ target }: CallRecord): RetryBudget | undefined {
    return this.#budgets?.get(target);
  }

  /** How long attempts of this method have taken lately. */
  latencyOf({ target, method }: CallRecord): LatencyQuantile {
    return this.#latencies.get(`${target} ${method}`);
  }

  /** When to send another attempt beside the first; `undefined` while that is not known, or not done. */
  hedgeDelayMs(record: CallRecord): number | undefined {
    const { hedge } = this;
    if (hedge === undefined) return undefined;
    const { quantile } = hedge;
    const learned = quantile === undefined ? undefined : this.latencyOf(record).quantile(quantile);
    return hedgeDelayMs(hedge, learned);
  }

  /**
   * Whether running the method twice does no harm: by a key that the server honours, by the policy, or by the
   * schema; `undefined` where nobody has said.
   */
  idempotent({ method, keyHonoured }: CallRecord): boolean | undefined {
    if (keyHonoured) return true;
    const { idempotent } = this.options;
    if (idempotent !== undefined) return idempotent;
    const level = this.#registry?.levelOf(method) ?? "unknown";
    return level === "unknown" ? undefined : true;
  }

  snapshot(): RetrySnapshot {
    return { ...this.counts, budgets: budgetSnapshots(this.#budgets) };
  }
}
