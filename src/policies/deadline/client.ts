import type { EventEmitter } from "node:events";
import {
  type Interceptor,
  Metadata,
  propagate,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { type CancelTask, type Clock, expireAt, heldUp } from "../../core/clock.js";
import type { RefusalReason } from "../../core/decision.js";
import { durationMs, readOptions, unlessOff } from "../../core/options.js";
import { refusal } from "../../core/permit.js";
import { interceptorOf } from "../../grpc/client/parts.js";
import type { CallPart, CallWatch, PipelineCall } from "../../grpc/client/pipeline-call.js";
import { type StandaloneOptions, splitOptions } from "../../grpc/client/policy.js";
import type { CallRecord, OptionsWithOwn } from "../../grpc/context/call-record.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import { CallDeadline, follows, toMonotonic } from "../../grpc/deadline.js";
import { isLocal, localRejection } from "../../grpc/status/rejection.js";
import { defaultMarginMs } from "./options.js";

/**
 * The deadline of calls, and how they follow the inbound call that they are made for.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/deadlines.md
 */
export interface DeadlineOptions {
  /**
   * Deadline of calls that set none, in milliseconds from their start. 1 ms to 24 days; `false` for none, where a service or
   * the client has one. @defaultValue none
   */
  readonly defaultMs?: number | false;
  /**
   * How much earlier than the deadline of its inbound call a call ends, in milliseconds, so that the handler can still
   * answer. 0 to 24 days. @defaultValue 5
   */
  readonly marginMs?: number;
}

export interface ResolvedDeadlineOptions {
  readonly defaultMs: number | undefined;
  /** `timeouts.totalMs`: also bounds calls that set a later deadline. */
  readonly totalMs: number | undefined;
  readonly marginMs: number;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveDeadlineOptions(
  given: DeadlineOptions = {},
  prefix = "deadline",
  totalMs?: number,
): ResolvedDeadlineOptions {
  const options = readOptions(prefix, given, ["defaultMs", "marginMs"]);
  const { defaultMs, marginMs = defaultMarginMs } = options;
  return Object.freeze({
    defaultMs: unlessOff(`${prefix}.defaultMs`, defaultMs, (ms, option) =>
      durationMs(option, ms, 1),
    ),
    totalMs,
    marginMs: durationMs(`${prefix}.marginMs`, marginMs),
  });
}

/**
 * Gives each call its effective deadline: its own or the default one, but at the latest the deadline of the inbound call less
 * a margin.
 *
 * - When it passes, the call ends with DEADLINE_EXCEEDED (reason `DEADLINE_EXCEEDED`).
 * - A call whose deadline has passed before it starts is not sent (`DEADLINE_EXPIRED`).
 * - When the inbound call is cancelled, the call is cancelled (`PARENT_CANCELLED`). When the inbound call ends well, the call
 *   goes on.
 *
 * The call option `propagate_flags` says which of deadline and cancellation a call follows, as in grpc-js. Here it holds for
 * the inbound call whose handler makes the call, too, and not only for one that `parent` names.
 */
export function deadlinePart(policy: ResolvedDeadlineOptions): CallPart {
  return {
    at: "call",
    begin: (call) =>
      isUnbounded(call, policy) ? undefined : new DeadlineWatch(call, policy).begin(),
  };
}

/** Whether nothing but its own ends limits a call: it has no deadline, and is made for no other call. */
function isUnbounded(
  { options, record }: PipelineCall,
  { defaultMs, totalMs }: ResolvedDeadlineOptions,
): boolean {
  const { deadline, parent } = options;
  const given = deadline === undefined || deadline === Number.POSITIVE_INFINITY;
  const bounded = defaultMs !== undefined || totalMs !== undefined;
  return given && !bounded && record.inbound === undefined && parent === undefined;
}

/** Follows one call until it ends. */
class DeadlineWatch implements CallWatch {
  readonly #call: PipelineCall;
  readonly #policy: ResolvedDeadlineOptions;
  readonly #record: CallRecord;
  readonly #clock: Clock;
  /** The record has another one while a fallback keeps a part of the time. */
  #deadlineMs = Number.POSITIVE_INFINITY;
  #stopTimer: CancelTask | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(call: PipelineCall, policy: ResolvedDeadlineOptions) {
    this.#call = call;
    this.#policy = policy;
    this.#record = call.record;
    this.#clock = call.record.clock;
  }

  begin(): CallWatch | undefined {
    const call = this.#call;
    const record = this.#record;
    const { inbound, startedAtMs } = record;
    const { parent, deadline: asGiven } = call.options;
    const { nowMs } = call;
    const given = toMonotonic(asGiven, this.#clock, nowMs);
    if (given === undefined) {
      call.finish({
        code: Status.INTERNAL,
        details: `The deadline is not a time: ${String(asGiven)}`,
        metadata: new Metadata(),
      });
      return undefined;
    }
    const { defaultMs = Number.POSITIVE_INFINITY, marginMs } = this.#policy;
    const { totalMs = Number.POSITIVE_INFINITY } = this.#policy;
    const own = given === Number.POSITIVE_INFINITY ? startedAtMs + defaultMs : given;
    const asked = Math.min(own, startedAtMs + totalMs);
    const above = !follows(call.options, propagate.DEADLINE)
      ? Number.POSITIVE_INFINITY
      : Math.min(
          inbound?.deadlineMs ?? Number.POSITIVE_INFINITY,
          // grpc-js is not given the `parent` option: it would cancel the call of a parent that ended well, and leave a
          // listener on the parent for each attempt.
          toMonotonic(parent?.getDeadline(), this.#clock, nowMs) ?? Number.POSITIVE_INFINITY,
        );
    const deadlineMs = Math.min(asked, above - marginMs);
    record.deadlineMs = deadlineMs;
    this.#deadlineMs = deadlineMs;
    const remainingMs = deadlineMs - nowMs;
    if (!(remainingMs > 0)) {
      // How long ago it passed is left out: a deadline may lie years back.
      const detail = "The deadline had passed when the call started";
      this.#end("DEADLINE_EXPIRED", "reject", detail);
      return undefined;
    }
    if (deadlineMs !== Number.POSITIVE_INFINITY) this.#limit(deadlineMs, remainingMs);
    this.#follow(parent);
    if (parent !== undefined) call.dropParent();
    return this.#stopTimer === undefined && this.#unsubscribe === undefined ? undefined : this;
  }

  cancelled(): void {
    // The caller's cancel comes first, though the call ends only in the next tick.
    this.#unsubscribe?.();
  }

  ending(received: StatusObject): StatusObject | undefined {
    if (received.code !== Status.DEADLINE_EXCEEDED || isLocal(received)) return undefined;
    return this.#clock.now() >= this.#deadlineMs ? this.#expired(0) : undefined;
  }

  ended(): void {
    this.#stopTimer?.();
    this.#unsubscribe?.();
  }

  #limit(deadlineMs: number, remainingMs: number): void {
    this.#stopTimer = expireAt(this.#clock, deadlineMs, remainingMs, (lateMs) =>
      this.#expire(lateMs),
    );
    const byChannel = this.#record.connection !== undefined;
    const deadline = new CallDeadline(deadlineMs, remainingMs, this.#clock, byChannel);
    this.#call.limit(deadline);
  }

  #follow(parent: OptionsWithOwn["parent"]): void {
    if (!follows(this.#call.options, propagate.CANCELLATION)) return;
    const { inbound } = this.#record;
    if (inbound !== undefined) {
      this.#unsubscribe = inbound.onCancelled((end) => {
        if (end === "deadline" && follows(this.#call.options, propagate.DEADLINE)) {
          this.#expireWith(inbound);
        } else this.#cancel();
      });
    } else if (parent !== undefined) {
      // grpc-js emits `cancelled` for every end of the parent, also after an answer, and does not tell them apart. The call
      // is cancelled for all of them, as the option is documented.
      const emitter: EventEmitter = parent;
      const cancel = () => this.#cancel();
      emitter.once("cancelled", cancel);
      this.#unsubscribe = () => emitter.removeListener("cancelled", cancel);
    }
  }

  #expireWith({ deadlineMs }: InboundCall): void {
    // The timer of the inbound call may have fired late, before the sockets were read: they are read first.
    const lateMs = this.#clock.now() - deadlineMs;
    this.#stopTimer?.();
    this.#stopTimer = this.#clock.afterPoll(() => this.#expire(lateMs));
  }

  #cancel(): void {
    this.#end("PARENT_CANCELLED", "cancel", "The inbound call was cancelled");
  }

  #expire(lateMs: number): void {
    if (!this.#call.ended) this.#call.finish(this.#expired(lateMs));
  }

  /** The status of a call whose time is up. */
  #expired(lateMs: number): StatusObject {
    const { attemptCount, startedAtMs } = this.#record;
    const seconds = (this.#clock.now() - startedAtMs) / 1000;
    // 0 where no part of the pipeline counts attempts.
    const tried =
      attemptCount === 0 ? "" : attemptCount === 1 ? ", 1 attempt" : `, ${attemptCount} attempts`;
    // The attempts in flight are cancelled now: what they end with must not count as an answer of the server.
    if (heldUp(lateMs)) this.#record.heldUp = true;
    const detail = `Deadline exceeded after ${seconds.toFixed(3)}s${tried}`;
    return this.#refused("DEADLINE_EXCEEDED", "expire", detail);
  }

  #end(reason: RefusalReason, verdict: "reject" | "cancel", detail: string): void {
    if (!this.#call.ended) this.#call.finish(this.#refused(reason, verdict, detail));
  }

  #refused(
    reason: RefusalReason,
    verdict: "reject" | "expire" | "cancel",
    detail: string,
  ): StatusObject {
    const atMs = this.#clock.now();
    this.#record.decide({ policy: "deadline", verdict, reason, enforced: true, atMs, detail });
    return localRejection(refusal(reason, detail));
  }
}

/**
 * The deadline policy as an interceptor of its own: {@link deadlinePart} with the same options for all methods.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/deadlines.md
 */
export function deadline(options: DeadlineOptions & StandaloneOptions = {}): Interceptor {
  const { environment, rest } = splitOptions(options, "deadline");
  return interceptorOf(environment, deadlinePart(resolveDeadlineOptions(rest)));
}
