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

/** The ending of a call that was answered with an error. Whether it counts as a failure is its outcome. */
const erred: Ending = { erred: true };

/** A policy of the server as a call meets it. */
export interface ServerGate extends Gate<InboundCall> {
  /**
   * The value of `x-weir-admission` for calls like this one; `undefined` for none. Asked for each answer, so it must be cheap
   * while there is none.
   */
  publishedAdmission?(inbound: InboundCall): string | undefined;
  /** The handler was started, and has held the event loop for `tookMs` milliseconds. */
  handlerRan?(inbound: InboundCall, tookMs: number): void;
}

/** How long a request of a single message may take to arrive. */
export interface RequestBound {
  /** In milliseconds, `Infinity` for no bound. */
  readonly maxMs: number;
  /** The calls whose requests have not arrived. */
  readonly waiting: DueList;
}

/** A request of a single message, which is read before the handler's side asks for it. */
interface HeldRequest {
  readonly entries: ({ readonly message: unknown } | "half-close")[];
  complete: boolean;
  /** The handler's side has asked for an entry, and gets it in the next tick. */
  asked: boolean;
}

function passNext(call: GatedServerCall, request: HeldRequest): void {
  call.passNext(request);
}

/**
 * An inbound call that passes a row of gates before its handler runs.
 *
 * The gates are asked when the metadata has arrived. A call that waits there is held back by the flow control of HTTP/2, and
 * its end is noticed while it waits. Gates that take slots are asked later where the request is a single message: when it is
 * complete, so that a caller that never sends its request takes no slot.
 */
export class GatedServerCall extends ForwardingServerCall implements GateHost, Due {
  readonly clock: Clock;
  readonly #inboundOf: (metadata: Metadata) => InboundCall;
  readonly #gates: readonly ServerGate[];
  #passage: { readonly inbound: InboundCall; readonly run: GateRun<InboundCall> } | undefined;
  #metadata: Metadata | undefined;
  #restore: RestoreContext | undefined;
  /** What the call was answered with. `refused`: by a policy behind this row, so that it is no failure of a handler. */
  #sent: Status | "refused" | undefined;
  /** The handler of a single response runs, and has not answered. */
  #handling = false;
  /** What has arrived of a single request, until the handler's side asks for it. */
  #request: HeldRequest | undefined;
  /** When the request must be complete. */
  dueMs = Number.POSITIVE_INFINITY;
  readonly #requests: RequestBound;
  #admitted = false;
  /** A policy has ended the call: what its handler still sends is dropped. */
  #stopped = false;
  #settling = false;
  /** Called when the handler answers, though its caller has left. */
  #onAnswered: Set<() => void> | undefined;

  /** @param inboundOf Makes the record of the call. Called once, with the metadata of the request. */
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
    // A streamed request is read by the handler. A single one is complete before the handler runs, and needs no slot until
    // then.
    if (inbound.kind === "unary" || inbound.kind === "server-stream") run.runToSlots();
    else run.run();
    // A queue grants a slot in the async context of the call that freed it. What runs then belongs to this one.
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

  /** The request is not complete in time. */
  due(): void {
    const passage = this.#passage;
    if (passage === undefined || this.#request?.complete !== false) return;
    const detail = `the request was not complete within ${this.#requests.maxMs} ms`;
    const refused = refusal("REQUEST_TIMEOUT", detail);
    // The bound protects slots. Where gates that take slots only observe, it only observes, too.
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
    // A second message is an error, which the handler's side finds.
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
   * Passes what has arrived already, one entry for each read, in its order, and in the next tick as grpc-js does. An interceptor
   * may hold back the metadata until it has the message, and pass both together.
   */
  override startRead(): void {
    // An interceptor may read before the call is admitted. The handler reads again when it gets the call.
    if (!this.#admitted) return;
    const request = this.#request;
    if (request === undefined || request.entries.length === 0) {
      this.#request = undefined;
      super.startRead();
    } else if (!request.asked) {
      request.asked = true;
      process.nextTick(passNext, this, request);
    }
  }

  /** For `startRead` alone. */
  passNext(request: HeldRequest): void {
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
    const admission = this.#publishedAdmission();
    if (admission !== undefined) setAdmission(status.metadata, admission);
    this.refuse(status);
  }

  /**
   * Ends the call while its handler runs, and cancels the handler. Not `enforced`, it is only recorded that the policy would
   * end it.
   */
  stop(refused: Refusal, policy: PolicyName, enforced: boolean): void {
    const passage = this.#passage;
    if (passage === undefined) return;
    const { inbound, run } = passage;
    const { reason, detail } = refused;
    // Before an observer of the decision can make the handler answer.
    if (enforced) this.#stopped = true;
    this.decide({ policy, verdict: "stop", reason, enforced, atMs: this.clock.now(), detail });
    if (!enforced) {
      run.spare(policy, reason);
      return;
    }
    inbound.answeredByPolicy = true;
    // The calls that the handler made for this one are cancelled, too.
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

  // Handlers of a single request start here. What they compute before they wait for something runs before this returns.
  #startHandler(): void {
    const inbound = this.#passage?.inbound;
    if (inbound?.handlerStartedMs === undefined) {
      super.onReceiveHalfClose();
      return;
    }
    this.#handling = this.#answersOnce;
    const sinceMs = this.clock.now();
    // The time in which the request arrived is not the handler's.
    inbound.handlerStartedMs = sinceMs;
    super.onReceiveHalfClose();
    const tookMs = this.clock.now() - sinceMs;
    for (const gate of this.#gates) gate.handlerRan?.(inbound, tookMs);
  }

  /** The response is a single message. */
  get #answersOnce(): boolean {
    const kind = this.#passage?.inbound.kind;
    return kind === "unary" || kind === "client-stream";
  }

  // A single response counts as an answer here, because its status may never follow: after the end of the call grpc-js drops
  // both, and with a caller that does not read the status waits until the message is written.
  override sendMessage(message: unknown, callback: () => void): void {
    if (this.#stopped) {
      // The handler must not wait for a message that is dropped.
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
    const metadata = withAdmission(given, this.#publishedAdmission());
    if (metadata === undefined || metadata === given) {
      super.answerWith(status);
      return;
    }
    if (given !== undefined) noteCopied(metadata, given);
    super.answerWith({ ...status, metadata });
  }

  override onCancel(): void {
    this.#requests.waiting.delete(this);
    // What was sent before the end counts. A handler may answer later.
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
   * Gives slots back when the handler has answered, though its caller may not read the answer yet. In the next tick, because
   * the next call in the queue would otherwise run inside this handler.
   */
  #settleSoon(outcome: Outcome, ending?: Ending): void {
    if (this.#settling) return;
    this.#settling = true;
    process.nextTick(() => this.#passage?.run.answered(outcome, ending));
  }

  /** The status is the refusal of a policy behind this row. An interceptor between the two may have copied its metadata. */
  #isRefusal(given: Metadata | undefined): boolean {
    if (given === undefined) return false;
    if (isRefusedHere(given)) return true;
    const answered = this.#passage?.inbound.answeredByPolicy === true;
    return answered && rejectionOf({ metadata: given }) !== undefined;
  }

  #publishedAdmission(): string | undefined {
    const inbound = this.#passage?.inbound;
    if (inbound === undefined) return undefined;
    for (const gate of this.#gates) {
      const published = gate.publishedAdmission?.(inbound);
      if (published !== undefined) return published;
    }
    return undefined;
  }

  /** The ending of a call whose caller has left while the handler goes on. */
  #worksOn(): Ending | undefined {
    if (!this.#handling) return undefined;
    return { worksOn: (maxMs, over) => this.#whenAnswered(maxMs, over) };
  }

  /** Calls `over` once: with true when the handler answers, with false when it has not in `maxMs` milliseconds. */
  #whenAnswered(maxMs: number, over: (ended: boolean) => void): void {
    this.#onAnswered ??= new Set();
    const onAnswered = this.#onAnswered;
    const giveUp = () => {
      onAnswered.delete(answered);
      over(false);
    };
    const stop = this.clock.schedule(maxMs, giveUp, { ref: false });
    const answered = () => {
      stop();
      over(true);
    };
    onAnswered.add(answered);
  }

  #handlerAnswered(): void {
    this.#handling = false;
    const onAnswered = this.#onAnswered;
    if (onAnswered === undefined) return;
    this.#onAnswered = undefined;
    for (const answered of onAnswered) answered();
  }

  /** A call that ran out of its deadline is a failure of this server. A caller that cancels is not. */
  #outcomeOfCancel({ deadlineMs }: InboundCall): Outcome {
    const nowMs = this.clock.now();
    // Not when the whole process was held up: that is no failure of the handler.
    return ranOutOfTime(nowMs, deadlineMs) && !heldUp(nowMs - deadlineMs) ? "failure" : "ignored";
  }
}
