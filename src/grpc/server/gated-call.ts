import { type Metadata, status as Status } from "@grpc/grpc-js";
import { type Clock, heldUp } from "../../core/clock.js";
import type { ObserveReport } from "../../core/control.js";
import type { Decision, PolicyName } from "../../core/decision.js";
import type { Due, DueList } from "../../core/due-list.js";
import { type Gate, type GateHost, GateRun } from "../../core/gate.js";
import { type Ending, type Outcome, type Refusal, refusal } from "../../core/permit.js";
import { captureContext, type RestoreContext } from "../context/async-context.js";
import { type InboundCall, runInbound } from "../context/inbound-call.js";
import { ranOutOfTime } from "../deadline.js";
import { setAdmission, withAdmission } from "../metadata.js";
import { outcomeOf } from "../status/outcome.js";
import { rejectionOf } from "../status/rejection.js";
import { isRefusedHere, noteCopied } from "../status/relay.js";
import { serverRejection } from "../status/server-rejection.js";
import type { PartialStatus, ServerCall } from "../types.js";
import { ForwardingServerCall } from "./forwarding-call.js";

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

/** How long a single request may take to be complete, and the calls whose requests are not. */
export interface RequestBound {
  /** In milliseconds, `Infinity` for no bound. */
  readonly maxMs: number;
  readonly waiting: DueList;
}

/** A single request that is read before it is asked for. */
interface HeldRequest {
  readonly entries: ({ readonly message: unknown } | "half-close")[];
  complete: boolean;
  /** The handler's side has asked, and is about to be told. */
  asked: boolean;
}

function tellNext(call: GatedServerCall, request: HeldRequest): void {
  call.tellNext(request);
}

/**
 * An inbound call that passes a row of gates before its handler runs. Gates are asked when the metadata
 * arrives: a call that waits there is held back by flow control, and its end reaches us while it waits. Gates that take
 * slots are asked when the call can use one: where the request is a single message, once that is complete.
 */
export class GatedServerCall extends ForwardingServerCall implements GateHost, Due {
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
  /** What has been read of a single request, until it is asked for. */
  #request: HeldRequest | undefined;
  dueMs = Number.POSITIVE_INFINITY;
  readonly #requests: RequestBound;
  #admitted = false;
  /** A policy has ended it: what its handler still sends goes nowhere. */
  #stopped = false;
  #settling = false;
  /** Who is told when it does, though the caller has left. */
  #overs: Set<() => void> | undefined;

  /** @param inboundOf The record of this call; asked once, when the metadata is there. */
  constructor(
    below: ServerCall,
    clock: Clock,
    gates: readonly ServerGate[],
    requests: RequestBound,
    inboundOf: (metadata: Metadata) => InboundCall,
  ) {
    super(below);
    this.clock = clock;
    this.#gates = gates;
    this.#requests = requests;
    this.#inboundOf = inboundOf;
  }

  protected override begunWith(metadata: Metadata): void {
    this.#metadata = metadata;
    const inbound = this.#inboundOf(metadata);
    const run = new GateRun(this.#gates, inbound, this);
    this.#passage = { inbound, run };
    inbound.row = this;
    // A request that is a stream is the handler's to read. A single one is complete before its handler runs, so until
    // then it needs no slot: a caller that never sends it would hold one for nothing.
    if (inbound.kind === "unary" || inbound.kind === "server-stream") run.runToSlots();
    else run.run();
    // A queue gives a turn in the context of the call that left it; what runs then is ours.
    if (run.waiting) this.#restore = captureContext();
  }

  ready(waited: boolean): void {
    const inbound = this.#passage?.inbound;
    if (inbound === undefined) return;
    this.#request = { entries: [], complete: false, asked: false };
    this.dueMs = (waited ? this.clock.now() : inbound.startedAtMs) + this.#requests.maxMs;
    if (this.dueMs !== Number.POSITIVE_INFINITY) {
      this.#requests.waiting.add(this, inbound.startedAtMs);
    }
    super.startRead();
  }

  /** The request has taken too long. */
  due(): void {
    const passage = this.#passage;
    if (passage === undefined || this.#request?.complete !== false) return;
    const detail = `the request was not complete within ${this.#requests.maxMs} ms`;
    const refused = refusal("REQUEST_TIMEOUT", detail);
    // The bound is there for the slots. Where nobody is refused for want of one, it only watches as they do.
    if (!passage.run.slotsEnforced) {
      passage.run.wouldRefuse(refused, "deadline-guard");
      return;
    }
    this.#request = undefined;
    const { reason } = refused;
    const atMs = this.clock.now();
    this.decide({
      policy: "deadline-guard",
      verdict: "reject",
      reason,
      enforced: true,
      atMs,
      detail,
    });
    passage.run.settle("ignored");
    this.refused(refused);
  }

  override onReceiveMessage(message: unknown): void {
    const request = this.#request;
    if (request === undefined) {
      super.onReceiveMessage(message);
      return;
    }
    request.entries.push({ message });
    // A second message is one too many, which the handler's side says.
    if (request.entries.length > 1) this.#requestComplete(request);
    else super.startRead();
  }

  #requestComplete(request: HeldRequest): void {
    if (request.complete) return;
    request.complete = true;
    this.#requests.waiting.delete(this);
    const run = this.#passage?.run;
    run?.run();
    if (run?.waiting === true) this.#restore ??= captureContext();
  }

  /**
   * What has been read already is told when it is asked for, in its order, and as grpc-js tells what has yet to arrive: not
   * inside the question. An interceptor may hold the metadata until it has the message, and tells both in one go.
   */
  override startRead(): void {
    // An interceptor reads ahead. The handler asks once more, when it is told of the call.
    if (!this.#admitted) return;
    const request = this.#request;
    if (request === undefined || request.entries.length === 0) {
      this.#request = undefined;
      super.startRead();
    } else if (!request.asked) {
      request.asked = true;
      process.nextTick(tellNext, this, request);
    }
  }

  /** For `startRead` alone. */
  tellNext(request: HeldRequest): void {
    request.asked = false;
    const next = request.entries.shift();
    if (next === undefined) return;
    if (next === "half-close") this.#startHandler();
    else super.onReceiveMessage(next.message);
  }

  admitted(waited: boolean): void {
    const metadata = this.#metadata;
    const inbound = this.#passage?.inbound;
    if (metadata === undefined || inbound === undefined) return;
    const later = waited || this.#request !== undefined;
    this.#admitted = true;
    inbound.handlerStartedMs = later ? this.clock.now() : inbound.startedAtMs;
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
    if (admission !== undefined) setAdmission(status.metadata, admission);
    this.refuse(status);
  }

  /** A policy that the call has passed ends it while its handler runs, or would end it. The handler is told that it is cancelled. */
  stop(refused: Refusal, policy: PolicyName, enforced: boolean): void {
    const passage = this.#passage;
    if (passage === undefined) return;
    const { inbound, run } = passage;
    const { reason, detail } = refused;
    this.decide({ policy, verdict: "stop", reason, enforced, atMs: this.clock.now(), detail });
    if (!enforced) {
      run.spare(policy, reason);
      return;
    }
    this.#stopped = true;
    inbound.answeredByPolicy = true;
    // What the handler has under way for this call is cancelled with it.
    runInbound(inbound, () => inbound.finish("cancelled"));
    this.#answer(serverRejection(refused));
  }

  get observed(): ObserveReport | undefined {
    return this.#passage?.inbound.observed;
  }

  decide(decision: Decision): void {
    this.#passage?.inbound.decide(decision);
  }

  override onReceiveHalfClose(): void {
    const request = this.#request;
    if (request === undefined) {
      this.#startHandler();
      return;
    }
    request.entries.push("half-close");
    this.#requestComplete(request);
  }

  // Unary and server-streaming handlers start here, and what they compute they compute before this returns.
  #startHandler(): void {
    const inbound = this.#passage?.inbound;
    if (inbound?.handlerStartedMs === undefined) {
      super.onReceiveHalfClose();
      return;
    }
    this.#handling = this.#answersOnce;
    const sinceMs = this.clock.now();
    // What the caller took to send its request is not the handler's time.
    inbound.handlerStartedMs = sinceMs;
    super.onReceiveHalfClose();
    const tookMs = this.clock.now() - sinceMs;
    for (const gate of this.#gates) gate.handlerRan?.(inbound, tookMs);
  }

  /** The handler answers by a callback, once. */
  get #answersOnce(): boolean {
    const kind = this.#passage?.inbound.kind;
    return kind === "unary" || kind === "client-stream";
  }

  // Of an OK that comes after the end this is all that is seen: grpc-js drops the message, and its status with it. And of
  // one whose caller reads nothing, too: the status follows when the message is written.
  override sendMessage(message: unknown, callback: () => void): void {
    if (this.#stopped) {
      // A handler that writes on must not wait for it.
      process.nextTick(callback);
      return;
    }
    this.#handlerAnswered();
    if (this.#answersOnce) this.#settleSoon("success");
    super.sendMessage(message, callback);
  }

  protected override answerWith(status: PartialStatus): void {
    if (!this.#stopped) this.#answer(status);
  }

  #answer(status: PartialStatus): void {
    this.#handlerAnswered();
    const given = status.metadata ?? undefined;
    this.#sent ??= this.#isRefusal(given) ? "refused" : status.code;
    this.#settleSoon(...this.#outcomeOf(this.#sent));
    const told = withAdmission(given, this.#admissionToTell());
    if (told === undefined || told === given) {
      super.answerWith(status);
      return;
    }
    if (given !== undefined) noteCopied(told, given);
    super.answerWith({ ...status, metadata: told });
  }

  override onCancel(): void {
    this.#requests.waiting.delete(this);
    // A handler may answer late, after the end. What was sent before it is what counts.
    const sent = this.#sent;
    const passage = this.#passage;
    if (sent !== undefined) passage?.run.settle(...this.#outcomeOf(sent));
    else passage?.run.settle(this.#outcomeOfCancel(passage.inbound), this.#worksOn());
    super.onCancel();
  }

  #outcomeOf(sent: Status | "refused"): [Outcome, Ending?] {
    if (sent === "refused") return ["ignored"];
    return sent === Status.OK ? ["success"] : [outcomeOf(sent), erred];
  }

  /**
   * The work is done, and what it took is free, though the answer may lie in front of a caller that does not read. Not from
   * inside the handler: the next one in the queue would run before it has returned.
   */
  #settleSoon(outcome: Outcome, ending?: Ending): void {
    if (this.#settling) return;
    this.#settling = true;
    process.nextTick(() => this.#passage?.run.answered(outcome, ending));
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
  #outcomeOfCancel({ deadlineMs }: InboundCall): Outcome {
    const nowMs = this.clock.now();
    // The end of a call that was held up with its process says nothing of the handler.
    return ranOutOfTime(nowMs, deadlineMs) && !heldUp(nowMs - deadlineMs) ? "failure" : "ignored";
  }
}
