import { type Metadata, status as Status } from "@grpc/grpc-js";
import type { Clock } from "../core/clock.js";
import type { Decision } from "../core/decision.js";
import { heldUp } from "../core/expiry.js";
import { type Gate, type GateHost, GateRun } from "../core/gates.js";
import type { ObserveReport } from "../core/observe-report.js";
import type { Ending, Outcome } from "../core/permit.js";
import type { Refusal } from "../core/refusal.js";
import { tellAdmission, withAdmission } from "./admission-trailer.js";
import { captureContext, type RestoreContext } from "./async-context.js";
import { ranOutOfTime } from "./deadline.js";
import { type InboundCall, runInbound } from "./inbound-call.js";
import { outcomeOf } from "./outcome.js";
import { rejectionOf } from "./rejection.js";
import { isRefusedHere, noteCopied } from "./relay.js";
import { ForwardingServerCall } from "./server-call.js";
import { serverRejection } from "./server-rejection.js";
import type { PartialStatus, ServerCall } from "./types.js";

/** Statuses that are failures as well are told by their outcome. */
const erred: Ending = { erred: true };

/** A server policy that stands in the way of a call, and may have something to say to all callers. */
export interface ServerGate extends Gate<InboundCall> {
  /**
   * The value of `x-weir-admission` that holds for calls like this one. Asked for each answer, so it is cheap while
   * there is nothing to say.
   */
  admissionToTell?(inbound: InboundCall): string | undefined;
  /** The handler of a call has held the event loop for so long, in milliseconds, when it was started. */
  handlerRan?(inbound: InboundCall, tookMs: number): void;
}

/**
 * An inbound call that passes a row of gates before its handler runs. Gates are asked when the metadata
 * arrives: a call that waits there is held back by flow control, and its end reaches us while it waits.
 */
export class GatedServerCall extends ForwardingServerCall implements GateHost {
  readonly clock: Clock;
  readonly #inboundOf: (metadata: Metadata) => InboundCall;
  readonly #gates: readonly ServerGate[];
  #passage: { readonly inbound: InboundCall; readonly run: GateRun<InboundCall> } | undefined;
  #metadata: Metadata | undefined;
  #restore: RestoreContext | undefined;
  /** `refused`: by a policy behind this one, which refused the call or ended it, so that no handler has failed. */
  #sent: Status | "refused" | undefined;
  /** A handler that answers once, by a callback, has the call and has not answered. */
  #handling = false;
  /** Who is told when it does, though the caller has left. */
  #overs: Set<() => void> | undefined;

  /** @param inboundOf The record of this call; asked once, when the metadata is there. */
  constructor(
    below: ServerCall,
    clock: Clock,
    gates: readonly ServerGate[],
    inboundOf: (metadata: Metadata) => InboundCall,
  ) {
    super(below);
    this.clock = clock;
    this.#gates = gates;
    this.#inboundOf = inboundOf;
  }

  protected override begunWith(metadata: Metadata): void {
    this.#metadata = metadata;
    const inbound = this.#inboundOf(metadata);
    this.#passage = { inbound, run: new GateRun(this.#gates, inbound, this) };
    const { run } = this.#passage;
    run.run();
    // A queue gives a turn in the context of the call that left it; what runs then is ours.
    if (run.waiting) this.#restore = captureContext();
  }

  admitted(waited: boolean): void {
    const metadata = this.#metadata;
    const inbound = this.#passage?.inbound;
    if (metadata === undefined || inbound === undefined) return;
    inbound.handlerStartedMs = waited ? this.clock.now() : inbound.startedAtMs;
    const restore = this.#restore;
    if (waited && restore !== undefined) {
      restore(() => runInbound(inbound, () => super.begunWith(metadata)));
    } else super.begunWith(metadata);
  }

  refused(refusal: Refusal): void {
    const inbound = this.#passage?.inbound;
    if (inbound !== undefined) inbound.answeredByPolicy = true;
    const priority = inbound?.priority;
    const status = serverRejection(refusal, priority === undefined ? {} : { priority });
    const admission = this.#admissionToTell();
    if (admission !== undefined) tellAdmission(status.metadata, admission);
    this.refuse(status);
  }

  get observed(): ObserveReport | undefined {
    return this.#passage?.inbound.observed;
  }

  decide(decision: Decision): void {
    this.#passage?.inbound.decide(decision);
  }

  // Unary and server-streaming handlers start here, and what they compute they compute before this returns.
  override onReceiveHalfClose(): void {
    const inbound = this.#passage?.inbound;
    if (inbound?.handlerStartedMs === undefined) {
      super.onReceiveHalfClose();
      return;
    }
    this.#handling = inbound.kind === "unary";
    const sinceMs = this.clock.now();
    super.onReceiveHalfClose();
    const tookMs = this.clock.now() - sinceMs;
    for (const gate of this.#gates) gate.handlerRan?.(inbound, tookMs);
  }

  // Of an OK that comes after the end this is all that is seen: grpc-js drops the message, and its status with it.
  override sendMessage(message: unknown, callback: () => void): void {
    this.#handlerAnswered();
    super.sendMessage(message, callback);
  }

  protected override answerWith(status: PartialStatus): void {
    this.#handlerAnswered();
    const given = status.metadata ?? undefined;
    this.#sent ??= this.#isRefusal(given) ? "refused" : status.code;
    const told = withAdmission(given, this.#admissionToTell());
    if (told === undefined || told === given) {
      super.answerWith(status);
      return;
    }
    if (given !== undefined) noteCopied(told, given);
    super.answerWith({ ...status, metadata: told });
  }

  override onCancel(): void {
    // A handler may answer late, after the end. What was sent before it is what counts.
    const sent = this.#sent;
    const passage = this.#passage;
    if (sent === undefined) {
      passage?.run.settle(this.#calledOff(passage.inbound), this.#worksOn());
    } else if (sent === "refused") passage?.run.settle("ignored");
    else passage?.run.settle(outcomeOf(sent, "remote"), sent === Status.OK ? undefined : erred);
    super.onCancel();
  }

  /** A policy behind this one has refused the call; an interceptor between them may have copied what it says. */
  #isRefusal(given: Metadata | undefined): boolean {
    if (given === undefined) return false;
    if (isRefusedHere(given)) return true;
    const answered = this.#passage?.inbound.answeredByPolicy === true;
    return answered && rejectionOf({ metadata: given }) !== undefined;
  }

  #admissionToTell(): string | undefined {
    const inbound = this.#passage?.inbound;
    if (inbound === undefined) return undefined;
    for (const gate of this.#gates) {
      const told = gate.admissionToTell?.(inbound);
      if (told !== undefined) return told;
    }
    return undefined;
  }

  /** The caller has left: what is known of the handler. */
  #worksOn(): Ending | undefined {
    if (!this.#handling) return undefined;
    return { worksOn: (maxMs, over) => this.#tellWhenAnswered(maxMs, over) };
  }

  #tellWhenAnswered(maxMs: number, over: (ended: boolean) => void): void {
    this.#overs ??= new Set();
    const overs = this.#overs;
    const giveUp = () => {
      overs.delete(ended);
      over(false);
    };
    const stop = this.clock.schedule(maxMs, giveUp, { ref: false });
    const ended = () => {
      stop();
      over(true);
    };
    overs.add(ended);
  }

  #handlerAnswered(): void {
    this.#handling = false;
    const overs = this.#overs;
    if (overs === undefined) return;
    this.#overs = undefined;
    for (const ended of overs) ended();
  }

  /** The caller left, or ran out of time: only the second says something about this server. */
  #calledOff({ deadlineMs }: InboundCall): Outcome {
    const nowMs = this.clock.now();
    // The end of a call that was held up with its process says nothing of the handler.
    return ranOutOfTime(nowMs, deadlineMs) && !heldUp(nowMs - deadlineMs) ? "failure" : "ignored";
  }
}
