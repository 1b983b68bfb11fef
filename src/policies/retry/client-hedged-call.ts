import type { Reason } from "../../core/decision.js";
import { inMs } from "../../core/rounded.js";
import type { Attempt } from "../../grpc/client/attempt.js";
import type { Failure } from "../../grpc/status/outcome.js";
import type { AttemptKind } from "./budget-counts.js";
import { endText, RepeatingCall } from "./client-repeating-call.js";
import { type HedgeDecision, hedgeAfterFailure, mayHedge, withoutHedge } from "./hedging.js";
import type { ResolvedHedgeOptions } from "./options.js";
import {
  type FailedAttempt,
  isInfeasible,
  isTooLong,
  kindAfter,
  notAfter,
  stopText,
} from "./rules.js";

/** The detail of the decision to send an attempt beside one that has not answered. */
export function unanswered(delayMs: number): string {
  return `hedge after ${inMs(delayMs)} without an answer`;
}

/**
 * A call that sends another attempt when the first takes long, and uses the first answer (gRFC A6, hedging). The other
 * attempts are cancelled. After a failure that is not fatal, the next attempt is sent at once.
 */
export class HedgedCall extends RepeatingCall {
  /** Why no further attempt is sent, once that is decided. */
  #stoppedBy: Reason | undefined;
  /** The numbers of the attempts in the place of ones that were not sent. */
  #replacements: Set<number> | undefined;
  /** An attempt has been decided on and taken from the budget, and waits to be sent. */
  #pending = false;
  /** The last attempt that was sent and has failed, in words and for the rules. */
  #failed: { readonly ended: string; readonly known: FailedAttempt } | undefined;

  protected override begin(): void {
    super.begin();
    const delayMs = this.#delayMs;
    if (delayMs !== undefined) this.#hedgeAfter(delayMs);
  }

  protected override succeeded(attempt: Attempt): void {
    super.succeeded(attempt);
    const latency = this.policy.latencyOf(this.record);
    const nowMs = this.record.clock.now();
    const usedMs = this.#delayMs ?? 0;
    for (const { startedAtMs, number, endedAtMs, superseded } of this.record.attempts) {
      const tookMs = nowMs - startedAtMs;
      // An attempt that lost would have taken longer than it has so far, whether it was cancelled or runs on. Without it,
      // the learned wait would become shorter with each hedge, and cause more hedges.
      const lost = superseded === true || endedAtMs === undefined;
      if (number === attempt.attempt.number || (lost && tookMs >= usedMs)) latency.record(tookMs);
    }
  }

  protected override afterFailure(attempt: Attempt, failure: Failure): void {
    const { status, origin, rejection } = failure;
    if (origin === "local-policy" || origin === "local-setup") {
      // A policy below refused the attempt, or it could not be set up. Attempts in flight may still answer.
      this.last ??= { status, attempt };
      const replaced = this.#replacements?.has(attempt.attempt.number) === true;
      this.refund(attempt, replaced ? "replacement" : "extra");
      this.#obey(withoutHedge(this.#underWay, rejection?.reason ?? "RETRY_NOT_ELIGIBLE"));
      return;
    }
    this.last = { status, attempt };
    const failed = this.judge(attempt, failure);
    this.#failed = { ended: endText(failure), known: failed };
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
    const reason = decision.kind === "launch" ? this.#notSentIn(decision.inMs, failed) : undefined;
    this.#obey(reason === undefined ? decision : withoutHedge(this.#underWay, reason));
  }

  /** Why an attempt could not be sent after this wait: then the call does not wait for it. */
  #notSentIn(waitMs: number, { remainingMs, usualMs }: FailedAttempt): Reason | undefined {
    if (this.#tooDeep) return "RETRY_DEPTH";
    if (waitMs >= remainingMs) return "RETRY_PAST_DEADLINE";
    if (isInfeasible(usualMs, remainingMs - waitMs)) return "RETRY_INFEASIBLE";
    return isTooLong(waitMs) ? "RETRY_WAIT_TOO_LONG" : undefined;
  }

  protected override stopsBehind(failed: FailedAttempt): Reason {
    if (this.#fatal(failed)) return "RETRY_NOT_ELIGIBLE";
    if (failed.pushback === "stop") return "RETRY_PUSHBACK_STOP";
    return this.#tooDeep ? "RETRY_DEPTH" : "RETRY_COMMITTED";
  }

  protected override outgrown(): void {
    if (this.#delayMs === undefined || !this.#mayHedge) return;
    this.#stoppedBy = "RETRY_COMMITTED";
    this.decide("stop", {
      reason: "RETRY_COMMITTED",
      detail: "the request has outgrown its buffer",
    });
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
        // The reason for which hedging was stopped before.
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

  /** Ends the call with the attempt that failed last. Nothing happens if none has failed. */
  #fail(reason: Reason, detail?: string): void {
    const { last } = this;
    if (last === undefined) return;
    if (reason !== "RETRY_NOT_ELIGIBLE") this.stop(reason, this.#why(reason, detail));
    this.conclude(last.status, last.attempt);
  }

  /** Why no further attempt is sent, in words. */
  #why(reason: Reason, detail?: string): string | undefined {
    const failed = this.#failed;
    if (failed === undefined) return detail;
    return notAfter(failed.ended, detail ?? stopText(reason, failed.known));
  }

  /** Notes that no further attempt is sent, while others may still answer. */
  #noteStop(reason: Reason, given?: string): void {
    const detail = this.#why(reason, given);
    this.decide("stop", detail === undefined ? { reason } : { reason, detail });
  }

  /** Sends an attempt after a failure. The budget is asked before the wait, as gRFC A6 requires. */
  #hedgeIn(delayMs: number): void {
    const kind = this.#failed === undefined ? "extra" : kindAfter(this.#failed.known);
    const atMs = this.record.clock.now();
    if (this.#refused(kind)) return;
    if (this.enforced) {
      this.waitThen(
        delayMs,
        (waitedMs) => {
          if (kind === "replacement") {
            this.#replacements ??= new Set();
            this.#replacements.add(this.record.attemptCount + 1);
          }
          this.#send(waitedMs, this.#failed?.ended);
        },
        (reason) => this.#unconnected(reason),
        { atMs, kind },
      );
      this.#pending = !this.ended;
    } else this.#send(delayMs, this.#failed?.ended);
  }

  protected override released(): void {
    super.released();
    this.#pending = false;
  }

  /** How many attempts may still answer: those in flight, and the one that waits to be sent. */
  get #underWay(): number {
    return this.inFlight + (this.#pending ? 1 : 0);
  }

  /** The attempt that waited for a connection got none in time. */
  #unconnected(reason: Reason): void {
    this.#pending = false;
    const detail = "no connection came in time";
    if (this.inFlight === 0) this.#fail(reason, detail);
    else this.#noteStop(reason, detail);
  }

  /** Sends an attempt when those in flight take longer than this. */
  #hedgeAfter(delayMs: number): void {
    if (this.ended || !this.replayable || !this.#mayHedge) return;
    this.waitThen(
      delayMs,
      (waitedMs) => {
        if (!this.#outOfResets() && !this.#infeasible() && !this.#refused()) this.#send(waitedMs);
      },
      (reason) => this.#unconnected(reason),
    );
  }

  /** Stops hedging if the connection has no stream resets left, because one of two attempts will have to be reset. */
  #outOfResets(): boolean {
    const { resets, target } = this.record;
    if (resets?.low(target, "timeout") !== true) return false;
    this.#hedgeNoMore("RESET_BUDGET");
    return true;
  }

  /** Stops hedging. Attempts in flight may still answer. */
  #hedgeNoMore(reason: Reason): void {
    this.#stoppedBy = reason;
    this.released();
    this.#noteStop(reason);
  }

  /** Stops hedging if another attempt could not end before the deadline. */
  #infeasible(): boolean {
    const { deadlineMs, clock, usual } = this.record;
    if (!isInfeasible(usual?.quantile(0.5), deadlineMs - clock.now())) return false;
    this.#hedgeNoMore("RETRY_INFEASIBLE");
    return true;
  }

  /** Takes an attempt from the budget. True, and hedging stops, if the budget refuses. */
  #refused(kind: AttemptKind = "extra"): boolean {
    const refused = this.budget?.tryWithdraw(this.record.priority, kind);
    if (refused === undefined) return false;
    // The budget is not asked again for this call: it will hardly have grown by then.
    this.#stoppedBy = "RETRY_BUDGET";
    this.released();
    if (this.inFlight === 0) this.#fail("RETRY_BUDGET", refused.detail);
    else this.#noteStop("RETRY_BUDGET", refused.detail);
    return true;
  }

  /** @param after How the attempt ended that it follows. Without it, it is sent beside those in flight. */
  #send(delayMs: number, after?: string): void {
    this.#pending = false;
    this.policy.counts.retried += 1;
    const detail =
      after === undefined ? unanswered(delayMs) : `hedge after ${after}, ${inMs(delayMs)}`;
    this.decide("hedge", { waitMs: delayMs, detail, ...this.budget?.reason });
    if (!this.enforced) {
      this.#fail("RETRY_ATTEMPTS_SPENT");
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

  /** Whether services above are retrying the inbound call already. */
  get #tooDeep(): boolean {
    return this.depth >= this.policy.options.maxDepth;
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
