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
import type { InboundEnd } from "../../grpc/context/inbound-call.js";
import { CallDeadline, follows, timeIsUp, toMonotonic } from "../../grpc/deadline.js";
import { isLocal, localRejection } from "../../grpc/status/rejection.js";
import { defaultMarginMs } from "./options.js";

/** How long calls may take, and how they follow the inbound call they are made for. */
export interface DeadlineOptions {
  /** Deadline of calls that set none, in milliseconds from their start. 1 ms to 24 days. @defaultValue none */
  readonly defaultMs?: number;
  /**
   * How much earlier than the inbound call's deadline an outbound call must end, so that the handler can
   * still answer. 0 to 24 days. @defaultValue 5
   */
  readonly marginMs?: number;
}

export interface ResolvedDeadlineOptions {
  readonly defaultMs: number | undefined;
  /** `timeouts.totalMs`: bounds calls that set a later deadline, too. */
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
 * Gives every call its effective deadline: its own or the default, and never later than the inbound call's
 * less a margin. When it passes, the call ends with DEADLINE_EXCEEDED (reason `DEADLINE_EXCEEDED`). A call
 * whose time is over before it starts is not sent (`DEADLINE_EXPIRED`). When the inbound call is cancelled,
 * the call is cancelled too (`PARENT_CANCELLED`); when it ends well, the call goes on. `propagate_flags` say which of the
 * two a call follows, as with grpc-js; here also of the inbound call that no `parent` names.
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
          // The native `parent` option: we follow it ourselves, because grpc-js cancels a child whose parent
          // ended well, and leaves a listener on the parent for each attempt.
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
      // A deadline may be any time ago; since when says nothing that its caller can use.
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
    // The caller's own word comes first, though the call ends by it only in the next tick.
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
      this.#unsubscribe = inbound.onCancelled((end) => this.#ownCancel(end));
    } else if (parent !== undefined) {
      // Fires on every end of the parent; only `cancelled` without an answer would be worth following, and
      // grpc-js does not tell the two apart. The documented meaning of the option is kept.
      const emitter: EventEmitter = parent;
      const cancel = () => this.#ownCancel("cancelled");
      emitter.once("cancelled", cancel);
      this.#unsubscribe = () => emitter.removeListener("cancelled", cancel);
    }
  }

  #ownCancel(end: InboundEnd): void {
    if (end === "deadline" && follows(this.options, propagate.DEADLINE)) {
      // The timer of the inbound call may have been late, and does not look. What it leaves for ours is no time.
      const lateMs = this.#clock.now() - (this.#record.inbound?.deadlineMs ?? 0);
      this.#stopTimer?.();
      this.#stopTimer = this.#clock.afterPoll(() => this.#expire(lateMs));
      return;
    }
    this.#end("PARENT_CANCELLED", "cancel", "The inbound call was cancelled");
  }

  #expire(lateMs: number): void {
    const { attemptCount, startedAtMs } = this.#record;
    const seconds = (this.#clock.now() - startedAtMs) / 1000;
    // Without a layer that counts them, none is known.
    const tried =
      attemptCount === 0 ? "" : attemptCount === 1 ? ", 1 attempt" : `, ${attemptCount} attempts`;
    // What is on its way is called off now, and ends by that.
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
