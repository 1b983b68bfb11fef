import type { EventEmitter } from "node:events";
import {
  type Interceptor,
  Metadata,
  type NextCall,
  propagate,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { type CancelTask, type Clock, expireAt, heldUp } from "../../core/clock.js";
import type { RefusalReason } from "../../core/decision.js";
import { durationMs, readOptions } from "../../core/options.js";
import { refusal } from "../../core/permit.js";
import { ForwardingCall } from "../../grpc/client/forwarding-call.js";
import { interceptorOf, type Layer } from "../../grpc/client/layers.js";
import { type StandaloneOptions, splitOptions } from "../../grpc/client/policy.js";
import { type CallRecord, type OptionsWithOwn, recordKey } from "../../grpc/context/call-record.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import { CallDeadline, follows, timeIsUp, toMonotonic } from "../../grpc/deadline.js";
import { isLocal, localRejection } from "../../grpc/status/rejection.js";
import { defaultMarginMs } from "./options.js";

/** The deadline of calls, and how they follow the inbound call that they are made for. */
export interface DeadlineOptions {
  /** Deadline of calls that set none, in milliseconds from their start. 1 ms to 24 days. @defaultValue none */
  readonly defaultMs?: number;
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
    defaultMs:
      defaultMs === undefined ? undefined : durationMs(`${prefix}.defaultMs`, defaultMs, 1),
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
export function deadlineLayer(policy: ResolvedDeadlineOptions): Layer {
  return (options, nextCall) => new DeadlineCall(options, nextCall, options[recordKey], policy);
}

class DeadlineCall extends ForwardingCall<OptionsWithOwn> {
  readonly #record: CallRecord;
  readonly #policy: ResolvedDeadlineOptions;
  readonly #clock: Clock;
  #deadlineMs = Number.POSITIVE_INFINITY;
  #stopTimer: CancelTask | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    policy: ResolvedDeadlineOptions,
  ) {
    super(options, nextCall);
    this.#record = record;
    this.#policy = policy;
    this.#clock = record.clock;
  }

  protected override begin(metadata: Metadata): void {
    const record = this.#record;
    const { inbound, startedAtMs } = record;
    const nowMs = this.#clock.now();
    const { parent, ...options } = this.options;
    const given = toMonotonic(options.deadline, this.#clock, nowMs);
    if (given === undefined) {
      this.finish({
        code: Status.INTERNAL,
        details: `The deadline is not a time: ${String(options.deadline)}`,
        metadata: new Metadata(),
      });
      return;
    }
    const { defaultMs = Number.POSITIVE_INFINITY, marginMs } = this.#policy;
    const { totalMs = Number.POSITIVE_INFINITY } = this.#policy;
    const own = given === Number.POSITIVE_INFINITY ? startedAtMs + defaultMs : given;
    const asked = Math.min(own, startedAtMs + totalMs);
    const above = !follows(options, propagate.DEADLINE)
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
    if (deadlineMs === Number.POSITIVE_INFINITY) {
      this.#follow(parent);
      this.forward(metadata, parent === undefined ? this.options : options);
      return;
    }
    const remainingMs = deadlineMs - nowMs;
    if (!(remainingMs > 0)) {
      // How long ago it passed is left out: a deadline may lie years back.
      const detail = "The deadline had passed when the call started";
      this.#end("DEADLINE_EXPIRED", "reject", detail);
      return;
    }
    this.#stopTimer = expireAt(this.#clock, deadlineMs, remainingMs, (lateMs) =>
      this.#expire(lateMs),
    );
    this.#follow(parent);
    const { connection } = record;
    options.deadline = new CallDeadline(
      deadlineMs,
      remainingMs,
      this.#clock,
      connection !== undefined,
    );
    this.forward(metadata, options);
  }

  protected override released(): void {
    this.#stopTimer?.();
    this.#unsubscribe?.();
  }

  override cancelWithStatus(code: Status, details: string): void {
    // The caller's cancel comes first, though the call ends only in the next tick.
    this.#unsubscribe?.();
    super.cancelWithStatus(code, details);
  }

  protected override endedWith(received: StatusObject): void {
    const { code } = received;
    const ours = isLocal(received);
    if (!ours && timeIsUp(code, this.#clock.now(), this.#deadlineMs)) this.#expire(0);
    else super.endedWith(received);
  }

  #follow(parent: OptionsWithOwn["parent"]): void {
    if (!follows(this.options, propagate.CANCELLATION)) return;
    const { inbound } = this.#record;
    if (inbound !== undefined) {
      this.#unsubscribe = inbound.onCancelled((end) => {
        if (end === "deadline" && follows(this.options, propagate.DEADLINE)) {
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
    const { attemptCount, startedAtMs } = this.#record;
    const seconds = (this.#clock.now() - startedAtMs) / 1000;
    // 0 where no layer counts attempts.
    const tried =
      attemptCount === 0 ? "" : attemptCount === 1 ? ", 1 attempt" : `, ${attemptCount} attempts`;
    // The attempts in flight are cancelled now: what they end with must not count as an answer of the server.
    if (heldUp(lateMs)) this.#record.heldUp = true;
    const detail = `Deadline exceeded after ${seconds.toFixed(3)}s${tried}`;
    this.#end("DEADLINE_EXCEEDED", "expire", detail);
  }

  #end(reason: RefusalReason, verdict: "reject" | "expire" | "cancel", detail: string): void {
    const atMs = this.#clock.now();
    this.#record.decide({ policy: "deadline", verdict, reason, enforced: true, atMs, detail });
    const final: StatusObject = localRejection(refusal(reason, detail));
    this.finish(final);
  }
}

/**
 * The deadline policy as an interceptor of its own: {@link deadlineLayer} with the same options for all methods.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function deadline(options: DeadlineOptions & StandaloneOptions = {}): Interceptor {
  const { environment, rest } = splitOptions(options, "deadline");
  return interceptorOf(environment, deadlineLayer(resolveDeadlineOptions(rest)));
}
