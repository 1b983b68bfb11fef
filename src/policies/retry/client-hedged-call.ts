import type { Metadata } from "@grpc/grpc-js";
import type { Reason } from "../../core/decision.js";
import type { ReplayAttempt } from "../../grpc/client/replay-attempt.js";
import type { Failure } from "../../grpc/status/outcome.js";
import type { ClientListener } from "../../grpc/types.js";
import { RepeatingCall } from "./client-repeating-call.js";
import { type HedgeDecision, hedgeAfterFailure, mayHedge, withoutHedge } from "./hedging.js";
import type { ResolvedHedgeOptions } from "./options.js";
import { type FailedAttempt, isInfeasible, isTooLong } from "./rules.js";

/**
 * A call that sends another attempt when the first takes long, and takes the answer that comes first (gRFC A6,
 * hedging). The others are called off. A failure that is not fatal brings the next attempt forward.
 */
export class HedgedCall extends RepeatingCall {
  /** Why no further attempts are sent: the server has asked for none, or the budget has none. */
  #stoppedBy: Reason | undefined;
  /** An attempt is decided on and paid for, and waits for its time. */
  #pending = false;

  override start(metadata: Metadata, listener?: Partial<ClientListener>): void {
    super.start(metadata, listener);
    const delayMs = this.#delayMs;
    if (delayMs !== undefined) this.#hedgeAfter(delayMs);
  }

  protected override succeeded(attempt: ReplayAttempt): void {
    super.succeeded(attempt);
    const latency = this.policy.latencyOf(this.record);
    const nowMs = this.record.clock.now();
    const usedMs = this.#delayMs ?? 0;
    for (const { startedAtMs, number, endedAtMs } of this.record.attempts) {
      const tookMs = nowMs - startedAtMs;
      // A loser would have taken at least so long. Leaving it out would teach that calls are fast, and hedges
      // would breed hedges.
      if (number === attempt.record.number || (endedAtMs === undefined && tookMs >= usedMs)) {
        latency.record(tookMs);
      }
    }
  }

  protected override afterFailure(attempt: ReplayAttempt, failure: Failure): void {
    const { status, origin, rejection } = failure;
    if (origin === "local-policy" || origin === "local-setup") {
      // This process refused this attempt, or could not set it up. Those under way may still answer.
      this.last ??= { status, attempt };
      this.refund(attempt);
      this.#obey(withoutHedge(this.#underWay, rejection?.reason ?? "RETRY_NOT_ELIGIBLE"));
      return;
    }
    this.last = { status, attempt };
    const failed = this.judge(attempt, failure);
    if (this.closing(status)) {
      this.#obey(withoutHedge(this.#underWay, "CLOSED"));
      return;
    }
    const decision = hedgeAfterFailure({
      fatal: this.#fatal(failed),
      pushback: failed.pushback,
      started: this.record.attemptCount,
      inFlight: this.inFlight,
      maxAttempts: this.#maxAttempts,
      stopped: this.#stoppedBy !== undefined,
    });
    // What could not be sent then is not waited for.
    if (decision.kind === "launch" && this.#tooDeep) {
      this.#obey(withoutHedge(this.#underWay, "RETRY_DEPTH"));
    } else if (decision.kind === "launch" && decision.inMs >= failed.remainingMs) {
      this.#obey(withoutHedge(this.#underWay, "RETRY_PAST_DEADLINE"));
    } else if (
      decision.kind === "launch" &&
      isInfeasible(failed.usualMs, failed.remainingMs - decision.inMs)
    ) {
      this.#obey(withoutHedge(this.#underWay, "RETRY_INFEASIBLE"));
    } else if (decision.kind === "launch" && isTooLong(decision.inMs)) {
      this.#obey(withoutHedge(this.#underWay, "RETRY_WAIT_TOO_LONG"));
    } else this.#obey(decision);
  }

  protected override stopsBehind(failed: FailedAttempt): Reason {
    if (this.#fatal(failed)) return "RETRY_NOT_ELIGIBLE";
    if (failed.pushback === "stop") return "RETRY_PUSHBACK_STOP";
    return this.#tooDeep ? "RETRY_DEPTH" : "RETRY_COMMITTED";
  }

  protected override outgrown(): void {
    if (this.#delayMs === undefined || !this.#mayHedge) return;
    this.#stoppedBy = "RETRY_COMMITTED";
    this.tell("stop", { reason: "RETRY_COMMITTED", detail: "the request has outgrown its buffer" });
  }

  #obey(decision: HedgeDecision): void {
    switch (decision.kind) {
      case "launch":
        this.#hedgeIn(decision.inMs);
        return;
      case "wait":
        if (decision.stop === true) {
          this.#stoppedBy = decision.reason;
          this.released();
        }
        return;
      case "fail":
        // An earlier stop is the cause of this one.
        this.#fail(
          decision.reason === "RETRY_PUSHBACK_STOP"
            ? (this.#stoppedBy ?? decision.reason)
            : decision.reason,
        );
        return;
      default:
        decision satisfies never;
    }
  }

  #fail(reason: Reason, detail?: string): void {
    const { last } = this;
    if (last === undefined) return;
    if (reason !== "RETRY_NOT_ELIGIBLE") this.stop(reason, detail);
    this.conclude(last.status, last.attempt);
  }

  /** Behind a failure: the budget is asked now, as gRFC A6 wants, and not after the wait. */
  #hedgeIn(delayMs: number): void {
    const withdrawnMs = this.record.clock.now();
    if (this.#refused()) return;
    if (!this.enforced) {
      this.#send(delayMs);
      return;
    }
    this.waitThen(
      delayMs,
      (waitedMs) => this.#send(waitedMs),
      (reason) => this.#unconnected(reason),
      withdrawnMs,
    );
    this.#pending = !this.ended;
  }

  protected override released(): void {
    super.released();
    this.#pending = false;
  }

  /** Attempts that may still answer: those that run, and the one that is on its way. */
  get #underWay(): number {
    return this.inFlight + (this.#pending ? 1 : 0);
  }

  /** No connection came in time for the attempt that waited for one. */
  #unconnected(reason: Reason): void {
    this.#pending = false;
    if (this.inFlight === 0) this.#fail(reason);
    else this.tell("stop", { reason });
  }

  /** Beside the attempts under way, when they take long. */
  #hedgeAfter(delayMs: number): void {
    if (this.ended || !this.replayable || !this.#mayHedge) return;
    this.waitThen(
      delayMs,
      (waitedMs) => {
        if (!this.#unbearable() && !this.#infeasible() && !this.#refused()) this.#send(waitedMs);
      },
      (reason) => this.#unconnected(reason),
    );
  }

  /** The connection bears no attempt that may have to be reset. Those in flight may still answer. */
  #unbearable(): boolean {
    const { resets, target } = this.record;
    if (resets?.low(target, "timeout") !== true) return false;
    this.#hedgeNoMore("RESET_BUDGET");
    return true;
  }

  /** Those in flight may still answer. */
  #hedgeNoMore(reason: Reason): void {
    this.#stoppedBy = reason;
    this.released();
    this.tell("stop", { reason });
  }

  /** It could not end in time. Those in flight may still answer, and no later one would end sooner. */
  #infeasible(): boolean {
    const { deadlineMs, clock, usual } = this.record;
    if (!isInfeasible(usual?.quantile(0.5), deadlineMs - clock.now())) return false;
    this.#hedgeNoMore("RETRY_INFEASIBLE");
    return true;
  }

  /** Asks the budget for an attempt. Without one, those in flight may still answer. */
  #refused(): boolean {
    const refused = this.budget?.tryWithdraw();
    if (refused === undefined) return false;
    // Asked no more for this call: the budget will not have grown by the next delay.
    this.#stoppedBy = "RETRY_BUDGET";
    this.released();
    if (this.inFlight === 0) this.#fail("RETRY_BUDGET", refused.detail);
    else this.tell("stop", { reason: "RETRY_BUDGET", detail: refused.detail });
    return true;
  }

  #send(delayMs: number): void {
    this.#pending = false;
    this.policy.counts.retried += 1;
    this.tell("hedge", { waitMs: delayMs });
    if (!this.enforced) {
      if (this.inFlight === 0) this.#fail("RETRY_ATTEMPTS_SPENT");
      return;
    }
    this.launch("hedge", delayMs, this.last?.status);
    const nextMs = this.#delayMs;
    if (nextMs !== undefined) this.#hedgeAfter(nextMs);
  }

  protected override singleHeaders(): "held" | "final" | "shown" {
    if (!this.enforced) return "shown";
    return this.#underWay > 1 || (this.replayable && this.#mayHedge) ? "held" : "final";
  }

  get #mayHedge(): boolean {
    const progress = {
      started: this.record.attemptCount,
      inFlight: this.inFlight,
      maxAttempts: this.#maxAttempts,
      stopped: this.#stoppedBy !== undefined,
    };
    return !this.#tooDeep && mayHedge(progress);
  }

  /** Layers above retry the inbound call already. */
  get #tooDeep(): boolean {
    const { record, policy } = this;
    return (record.inbound?.retryDepth ?? 0) >= policy.options.maxDepth;
  }

  #fatal({ code, origin, handlerNotRun, relayed, wanted }: FailedAttempt): boolean {
    switch (origin) {
      case "never-sent":
      case "refused":
      case "attempt-timeout":
        return false;
      case "remote":
      case "transport":
        if (relayed === true) return true;
        return !(handlerNotRun || (wanted ?? this.#rules.nonFatalCodes.has(code)));
      case "local-policy":
      case "local-limit":
      case "local-setup":
      case "caller":
      case "deadline":
        return true;
      default:
        return origin satisfies never;
    }
  }

  get #maxAttempts(): number {
    return this.#rules.maxAttempts;
  }

  get #delayMs(): number | undefined {
    return this.policy.hedgeDelayMs(this.record);
  }

  get #rules(): ResolvedHedgeOptions {
    const { hedge } = this.policy;
    if (hedge === undefined) throw new Error("a hedged call needs hedge options");
    return hedge;
  }
}
