import type { AsyncResource } from "node:async_hooks";
import { type Metadata, type ServerInterceptor, status as Status } from "@grpc/grpc-js";
import { type Clock, heldUp } from "../../core/clock.js";
import type { ObserveReport } from "../../core/control.js";
import type { Decision, PolicyName, Reason } from "../../core/decision.js";
import { type Due, DueList } from "../../core/due-list.js";
import { type Gate, type GateHost, GateRun } from "../../core/gate.js";
import { type Ending, type Outcome, type Refusal, refusal } from "../../core/permit.js";
import type { WaitObserver } from "../../core/wait.js";
import { captureScope, outsideClock } from "../context/async-context.js";
import {
  type CallFacts,
  callFacts,
  type KnownCall,
  knownCall,
  type TellsFacts,
  type TraceIds,
} from "../context/finished-call.js";
import type { EndedFacts } from "../context/history.js";
import {
  type AnswerKeeper,
  type CompleteAnswer,
  type InboundCall,
  runInbound,
} from "../context/inbound-call.js";
import { ranOutOfTime } from "../deadline.js";
import type { Environment } from "../environment.js";
import { withAdmission, withoutKeyMarks } from "../metadata.js";
import { markedStatus } from "../status/degraded.js";
import { receivedMetadata } from "../status/foreign-status.js";
import { outcomeOf } from "../status/outcome.js";
import { rejectionOf } from "../status/rejection.js";
import { isRefusedHere, noteCopied, passedThrough, type Relay, relayed } from "../status/relay.js";
import { serverRejection } from "../status/server-rejection.js";
import type { PartialStatus, ServerCall } from "../types.js";
import { ForwardingServerCall, intercepted } from "./forwarding-call.js";
import { EncodedMessage, type MessageBytes, readBytes } from "./message-bytes.js";
import type { PriorityReader } from "./priority.js";
import { inboundFor, inboundOf, presentInbound, type ServerMethod } from "./record.js";

/** A policy of the server as a call meets it. */
export interface ServerGate extends Gate<InboundCall> {
  /** `enter` calls functions of the user's, which find the call in AsyncLocalStorage. */
  readonly asksUser?: boolean;
  /**
   * The value of `x-weir-admission` for calls like this one; `undefined` for none. Asked for each answer, so it must be cheap
   * while there is none.
   */
  publishedAdmission?(inbound: InboundCall): string | undefined;
  /** The handler was started, and has held the event loop for `tookMs` milliseconds. */
  handlerRan?(inbound: InboundCall, tookMs: number): void;
  /**
   * Whether calls of this method need the bytes of their request, in `InboundCall.request`, or are answered with bytes. Asked
   * when a call is made.
   */
  needsBytes?(method: ServerMethod): boolean;
}

/** The part of a pipeline that makes spans. It knows OpenTelemetry, so that the pipeline need not. */
export interface ServerSpanPart {
  /** Nobody traces at present. */
  readonly idle: boolean;
  /** The metadata of a call have arrived. */
  begin(
    call: ServerCall,
    path: string,
    metadata: Metadata,
    inbound: InboundCall | undefined,
  ): ServerSpan;
}

/** The span of one call. It is told of the call's waits. */
export interface ServerSpan extends WaitObserver {
  /** Runs an event of the call with the span active. */
  run<A extends unknown[]>(event: (...args: A) => void, ...args: A): void;
  /** The request of a single message is complete. */
  requestComplete(): void;
  /** The call is answered. The first answer counts. */
  answered(status: PartialStatus): void;
  /** The call has ended. Called once. */
  ended(nowMs: number): void;
  /** The span, or where none is made that of the caller. */
  readonly ids: TraceIds | undefined;
}

/** The part of a pipeline that measures calls. */
export interface ServerMeterPart {
  /** Nobody collects the numbers at present. */
  readonly idle: boolean;
  begun(inbound: InboundCall): void;
  /** @param code What the call was answered with; without an answer, how it ended. */
  ended(inbound: InboundCall, code: Status, nowMs: number): void;
}

/** What a server does with each call, from the wire to the handler. Parts that are absent cost nothing. */
export interface ServerParts {
  /**
   * Reads priorities into the record of the call. Without it, a call has the record that a context interceptor nearer the
   * wire has made, or none.
   */
  readonly priority?: PriorityReader;
  /** With it, the record of the call is the current one in all of its events. What becomes of statuses from below. */
  readonly relay?: Relay;
  readonly spans?: ServerSpanPart | undefined;
  /** Measures the calls that have a record. */
  readonly meter?: ServerMeterPart | undefined;
  /** The policies that each call passes, in their order. Those that are `undefined` are left out. */
  readonly gates?: readonly (ServerGate | undefined)[];
  /** How long a request of a single message may take to arrive, in milliseconds; `Infinity` for no bound. */
  readonly requestMs?: number;
  /** Watches the times of all calls. */
  readonly due?: DueList;
}

/** How long a request of a single message may take to arrive, in milliseconds. */
export const defaultRequestMs = 60_000;

/** The interceptor that runs some parts, in one call object. */
export function serverPipeline(environment: Environment, parts: ServerParts): ServerInterceptor {
  const pipeline = new ServerPipeline(environment, parts);
  return (method, call) => intercepted(new ServerPipelineCall(pipeline, method, call));
}

/** The parts, put together once for all calls of a server. */
class ServerPipeline {
  readonly environment: Environment;
  readonly priority: PriorityReader | undefined;
  readonly relay: Relay | undefined;
  readonly spans: ServerSpanPart | undefined;
  readonly meter: ServerMeterPart | undefined;
  readonly gates: readonly ServerGate[];
  readonly requestMs: number;
  readonly due: DueList;
  readonly asksUser: boolean;
  /** The gates that are told how long handlers held the event loop, those that publish a level, and those that read bytes. */
  readonly timing: readonly ServerGate[];
  readonly publishing: readonly ServerGate[];
  readonly reading: readonly ServerGate[];

  constructor(environment: Environment, parts: ServerParts) {
    this.environment = environment;
    this.priority = parts.priority;
    this.relay = parts.relay;
    this.spans = parts.spans;
    this.meter = parts.meter;
    this.gates = (parts.gates ?? []).filter((gate) => gate !== undefined);
    this.requestMs = parts.requestMs ?? defaultRequestMs;
    this.due = parts.due ?? new DueList(outsideClock(environment.clock));
    this.asksUser = this.gates.some(({ asksUser }) => asksUser === true);
    this.timing = this.gates.filter((gate) => "handlerRan" in gate);
    this.publishing = this.gates.filter((gate) => "publishedAdmission" in gate);
    this.reading = this.gates.filter((gate) => "needsBytes" in gate);
  }
}

/** An event of a call, run in the async context of the call. */
type CallEvent<T> = (call: ServerPipelineCall, given: T) => void;

/** The ending of a call that was answered with an error. Whether it counts as a failure is its outcome. */
const erred: Ending = { erred: true };
/** How long after the deadline the call is cancelled here, in milliseconds. grpc-js's own timer comes first where it works. */
const laterMs = 20;

/** What stands in the place of a message: none has arrived, or no further one comes. */
const nothing = Symbol("nothing");
const halfClose = Symbol("half-close");

/**
 * An inbound call that runs the pipeline of its server: it is the call that the handler's side sees, and what listens to the
 * call of grpc-js.
 *
 * 1. The record of the call is made (deadline, priority, cancellation), and its span.
 * 2. The gates are asked when the metadata has arrived. A call that waits there is held back by the flow control of HTTP/2,
 *    and its end is noticed while it waits. Gates that take slots are asked later where the request is a single message: when
 *    it is complete, so that a caller that never sends its request takes no slot.
 * 3. An admitted call is passed on. From here on each event runs with the record, and the span, in AsyncLocalStorage: grpc-js
 *    starts handlers from different events, and what is stored for one event is gone at the next. A refused call is answered
 *    before any of that is made.
 * 4. When the handler answers, and when the call has ended, the permits of the gates are settled. Where a policy keeps the
 *    answer, it gets the whole of it first, and the caller gets it when the policy says so. The caller may have left by then,
 *    or while the handler runs: then the handler's side is told of the end only when it has answered.
 */
class ServerPipelineCall extends ForwardingServerCall implements GateHost, Due, TellsFacts {
  readonly clock: Clock;
  readonly #pipeline: ServerPipeline;
  readonly #method: ServerMethod;
  #inbound: InboundCall | undefined;
  #span: ServerSpan | undefined;
  #run: GateRun<InboundCall> | undefined;
  #metadata: Metadata | undefined;
  /** The async context that events run in. Until the call has `#entered` its own, that of the wire, where that was kept. */
  #scope: AsyncResource | undefined;
  #entered = false;
  #admitted = false;
  /** `open`: it is read here before the handler's side asks for it. `complete`: it has arrived, and is passed on by each read. */
  #request: "streamed" | "open" | "complete" = "streamed";
  /** What has arrived of an open request: a message, its end, or by mistake two messages. */
  #first: unknown = nothing;
  #second: unknown = nothing;
  /** When an open request must be complete. */
  #requestDueMs = Number.POSITIVE_INFINITY;
  /** The handler's side has asked for what is held, and gets it as soon as nothing else is being passed on. */
  #asked = false;
  #passing = false;
  #admitting = false;
  place = -1;
  /** What the call was answered with. */
  #code: Status | undefined;
  /** The same for the gates. `refused`: by a policy behind them, so that it is no failure of a handler. */
  #sent: Status | "refused" | undefined;
  #details = "";
  /** The policy that refused the call, if one of these gates did, and the reason of the refusal. */
  #refusedBy: PolicyName | undefined;
  #reason: Reason | undefined;
  #ended: CallFacts | undefined;
  #answered = false;
  /** The handler of a single response runs, and has not answered. */
  #handling = false;
  /** A policy has ended the call: what its handler still sends is dropped. */
  #stopped = false;
  #settling = false;
  /** Those of the messages, where a gate needs them. */
  #bytes: MessageBytes | undefined;
  /** Keeps the answer. */
  #keeper: AnswerKeeper | undefined;
  /** What the handler has answered so far, for the keeper. */
  #headers: Metadata | undefined;
  #response: unknown = nothing;
  /** The caller has left, and the handler's side is told when it has answered. */
  #endHeld: InboundCall | undefined;
  /** Called when the handler answers, though its caller has left. */
  #onAnswered: Set<() => void> | undefined;

  constructor(pipeline: ServerPipeline, method: ServerMethod, below: ServerCall) {
    super(below);
    this.clock = pipeline.environment.clock;
    this.#pipeline = pipeline;
    this.#method = method;
    const { reading } = pipeline;
    if (reading.some((gate) => gate.needsBytes?.(method) === true)) {
      this.#bytes = readBytes(below, method);
    }
  }

  // ---- The call arrives.

  protected override begunWith(metadata: Metadata): void {
    const { spans, meter, gates } = this.#pipeline;
    const inbound = this.#recordWith(metadata);
    this.#inbound = inbound;
    if (spans !== undefined && !spans.idle) {
      this.#span = spans.begin(this.below, this.#method.path, metadata, inbound);
    }
    if (inbound !== undefined && meter?.idle === false) meter.begun(inbound);
    this.#metadata = metadata;
    if (inbound === undefined || gates.length === 0) {
      this.#admitted = true;
      if (inbound !== undefined) this.#watchTime(inbound.startedAtMs);
      this.#enter(passOn, undefined);
      return;
    }
    inbound.row = this;
    this.#run = new GateRun(gates, inbound, this);
    inbound.arriving = this.#pipeline.relay !== undefined;
    this.#askGates();
    inbound.arriving = false;
  }

  #recordWith(metadata: Metadata): InboundCall | undefined {
    const { environment, priority, relay } = this.#pipeline;
    if (priority === undefined) return presentInbound(metadata);
    return relay === undefined
      ? inboundFor(this.#method, this.below, metadata, environment, priority)
      : inboundOf(this.#method, this.below, metadata, environment, priority);
  }

  #askGates(): void {
    if (this.#pipeline.asksUser) this.#enter(goThrough, undefined);
    else this.goThrough();
    if (this.#run?.waiting !== true) return;
    // A queue grants a slot in the async context of the call that freed it. What runs then belongs to this one.
    this.#scope ??= captureScope();
    this.#watchTime(this.#inbound?.startedAtMs ?? this.clock.now());
  }

  /** For `#askGates` alone. A single request is complete before the handler runs, and needs no slot until then. */
  goThrough(): void {
    if (this.#request === "complete" || this.#method.requestStream) this.#run?.run();
    else this.#run?.runToRequest();
  }

  // ---- The request, and its times.

  ready(waited: boolean): void {
    const inbound = this.#inbound;
    if (inbound === undefined) return;
    this.#request = "open";
    const nowMs = waited ? this.clock.now() : inbound.startedAtMs;
    if (this.#run?.slotsAsked === true) this.#requestDueMs = nowMs + this.#pipeline.requestMs;
    this.#watchTime(nowMs);
    super.startRead();
  }

  override onReceiveMessage(message: unknown): void {
    if (this.#request === "streamed") this.#enter(passMessage, message);
    else if (this.#request === "complete") return;
    else if (this.#first === nothing) {
      this.#first = message;
      super.startRead();
    } else {
      // A second message is an error, which the handler's side finds.
      this.#second = message;
      this.#requestComplete();
    }
  }

  override onReceiveHalfClose(): void {
    if (this.#request === "streamed") {
      if (!this.#method.requestStream) this.#span?.requestComplete();
      this.#enter(passHalfClose, undefined);
      return;
    }
    if (this.#request === "complete") return;
    if (this.#first === nothing) this.#first = halfClose;
    else this.#second = halfClose;
    this.#requestComplete();
  }

  #requestComplete(): void {
    this.#request = "complete";
    this.#span?.requestComplete();
    const inbound = this.#inbound;
    const message = this.#first;
    if (inbound !== undefined && this.#pipeline.reading.length > 0) {
      const whole = message !== halfClose && this.#second === halfClose;
      if (whole) inbound.request = { message, bytes: this.#bytes?.request };
    }
    this.#askGates();
  }

  get dueMs(): number {
    const ownMs = this.#pipeline.relay === undefined ? undefined : this.#inbound?.deadlineMs;
    const endMs = ownMs === undefined ? Number.POSITIVE_INFINITY : ownMs + laterMs;
    return this.#request === "open" ? Math.min(endMs, this.#requestDueMs) : endMs;
  }

  #watchTime(nowMs: number): void {
    if (this.place < 0 && this.dueMs < Number.POSITIVE_INFINITY) {
      this.#pipeline.due.add(this, nowMs);
    }
  }

  /** The request is late, or the deadline has passed and grpc-js did not notice. */
  due(): void {
    const nowMs = this.clock.now();
    if (this.#request === "open" && this.#requestDueMs <= nowMs) this.#requestLate(nowMs);
    // Cancels the policies and the handler.
    else this.onCancel();
  }

  #requestLate(nowMs: number): void {
    const run = this.#run;
    const detail = `the request was not complete within ${this.#pipeline.requestMs} ms`;
    const refused = refusal("REQUEST_TIMEOUT", detail);
    const policy = "deadline-guard";
    // The bound protects slots. Where gates that take slots only observe, it only observes, too.
    if (run?.slotsEnforced !== true) {
      this.#requestDueMs = Number.POSITIVE_INFINITY;
      this.#watchTime(nowMs);
      run?.wouldRefuse(refused, policy);
      return;
    }
    const { reason } = refused;
    this.decide({ policy, verdict: "reject", reason, enforced: true, atMs: nowMs, detail });
    run.settle("ignored");
    this.refused(refused, policy);
  }

  // ---- The call is refused.

  refused(refusal: Refusal, policy: PolicyName): void {
    const inbound = this.#inbound;
    if (inbound !== undefined) inbound.answeredByPolicy = true;
    this.#refusedBy = policy;
    this.#reason = refusal.reason;
    const status = serverRejection(refusal, {
      priority: inbound?.priority,
      admission: this.#publishedAdmission(),
    });
    this.#noteAnswer(status);
    this.#sent = "refused";
    this.#answered = true;
    this.#span?.answered(status);
    this.refuse(status);
  }

  /** A policy answers the call. */
  replay({ headers, message, status }: CompleteAnswer): void {
    const inbound = this.#inbound;
    if (inbound === undefined) return;
    inbound.answeredByPolicy = true;
    this.#answered = true;
    const sent = this.#sending(status);
    this.#sent = status.code;
    this.#settleSoon(outcomeSent(status.code), endingSent(status.code));
    this.reply(headers, message && new EncodedMessage(message), sent);
  }

  /** Notes what the call is answered with. The result has the level that the server publishes. */
  #sending(status: PartialStatus): PartialStatus {
    this.#noteAnswer(status);
    this.#span?.answered(status);
    const given = status.metadata ?? undefined;
    const metadata = withAdmission(given, this.#publishedAdmission());
    return metadata === undefined || metadata === given ? status : { ...status, metadata };
  }

  // ---- The call is admitted.

  admitted(waited: boolean): void {
    const inbound = this.#inbound;
    if (inbound === undefined) return;
    this.#admitted = true;
    const held = this.#request !== "streamed";
    inbound.handlerStartedMs = inbound.nowMs;
    inbound.arriving = false;
    this.#keeper = this.#keeperNow;
    this.#watchTime(inbound.startedAtMs);
    // A call that waited runs inside the call that freed its slot, which must not run the handler as well.
    this.#admitting = held && !waited;
    this.#passing = this.#admitting;
    this.#enter(passOn, undefined);
    this.#admitting = false;
  }

  /** For `#enter` alone. Passes on the metadata, and what the handler's side has read by then. */
  passOn(): void {
    const metadata = this.#metadata;
    if (metadata === undefined) return;
    super.begunWith(metadata);
    if (!this.#passing) return;
    this.#passing = false;
    if (this.#asked) this.passHeld();
  }

  /**
   * Passes on what is held, one entry for each read, in its order, and never inside the read or another event: an interceptor
   * may hold back the metadata until it has the message, and pass both together.
   */
  override startRead(): void {
    // An interceptor may read before the call is admitted. The handler reads again when it gets the call.
    if (!this.#admitted) return;
    if (this.#first === nothing) {
      this.#request = "streamed";
      super.startRead();
    } else if (!this.#asked) {
      this.#asked = true;
      if (!this.#passing) process.nextTick(passHeldNext, this);
    }
  }

  /** For `startRead` alone. */
  passHeld(): void {
    this.#passing = true;
    while (this.#asked) {
      this.#asked = false;
      const entry = this.#first;
      this.#first = this.#second;
      this.#second = nothing;
      if (entry === halfClose) this.passHalfClose();
      else super.onReceiveMessage(entry);
    }
    this.#passing = false;
  }

  /** For `#enter` alone. */
  passMessage(message: unknown): void {
    super.onReceiveMessage(message);
  }

  /**
   * For `#enter` alone. Handlers of a single request start here. What they compute before they wait for something runs before
   * this returns.
   */
  passHalfClose(): void {
    const inbound = this.#inbound;
    if (this.#run === undefined || inbound?.handlerStartedMs === undefined) {
      super.onReceiveHalfClose();
      return;
    }
    this.#handling = !this.#method.responseStream;
    // The time in which the request arrived is not the handler's. In the event that admits the call it was read just now.
    const sinceMs = this.#admitting ? inbound.handlerStartedMs : this.clock.now();
    inbound.handlerStartedMs = sinceMs;
    super.onReceiveHalfClose();
    const { timing } = this.#pipeline;
    if (timing.length === 0) return;
    const tookMs = this.clock.now() - sinceMs;
    for (const gate of timing) gate.handlerRan?.(inbound, tookMs);
  }

  /**
   * Runs an event in the async context of the call. The context is entered once and kept: on newer versions of Node,
   * `AsyncLocalStorage.run` costs forty times as much as going back to a context that is kept.
   */
  #enter<T>(event: CallEvent<T>, given: T): void {
    const scope = this.#scope;
    if (scope === undefined) this.enter(event, given);
    else if (this.#entered) scope.runInAsyncScope(resume<T>, undefined, this, event, given);
    else scope.runInAsyncScope(enter<T>, undefined, this, event, given);
  }

  /** For `#enter` alone. */
  enter<T>(event: CallEvent<T>, given: T): void {
    const inbound = this.#inbound;
    if (inbound !== undefined && this.#pipeline.relay !== undefined) {
      this.#entered = true;
      runInbound(inbound, keepScope<T>, this, event, given);
    } else if (this.#span !== undefined) {
      this.#entered = true;
      this.keepScope(event, given);
    } else event(this, given);
  }

  /** For `enter` alone. */
  keepScope<T>(event: CallEvent<T>, given: T): void {
    this.#scope = captureScope();
    this.resume(event, given);
  }

  /** For `#enter` alone. */
  resume<T>(event: CallEvent<T>, given: T): void {
    if (this.#span === undefined) event(this, given);
    else this.#span.run(event, this, given);
  }

  // ---- The call is answered.

  override sendMetadata(metadata: Metadata): void {
    const keeper = this.#keeperNow;
    if (keeper !== undefined) this.#headers ??= receivedMetadata(metadata);
    if (keeper?.enforced !== true) super.sendMetadata(metadata);
  }

  // A single response counts as an answer here, because its status may never follow: after the end of the call grpc-js drops
  // both, and with a caller that does not read the status waits until the message is written.
  override sendMessage(message: unknown, callback: () => void): void {
    const keeper = this.#keeperNow;
    if (keeper !== undefined && this.#response === nothing) this.#response = message;
    if (this.#stopped || keeper?.enforced === true) {
      // The handler must not wait for a message that is dropped, and sends the status to a keeper after its message.
      process.nextTick(callback);
      return;
    }
    this.#handlerAnswered();
    if (!this.#method.responseStream) this.#settleSoon("success");
    super.sendMessage(message, callback);
  }

  protected override answerWith(status: PartialStatus): void {
    if (this.#stopped) return;
    const keeper = this.#keeperNow;
    if (keeper === undefined) this.#answer(status);
    else this.#keep(keeper, status);
  }

  #answer(given: PartialStatus): void {
    const { relay } = this.#pipeline;
    const inbound = this.#inbound;
    this.#handlerAnswered();
    this.#noteAnswer(given);
    const status = this.#run === undefined ? given : this.#judged(given);
    this.#span?.answered(status);
    if (relay === undefined || inbound === undefined) {
      super.answerWith(status);
      return;
    }
    this.#answered = true;
    super.answerWith(passedOn(status, relay, inbound));
  }

  // ---- A policy keeps the answer.

  /**
   * One that observes may come to the call while its handler runs. That of another pipeline, which has the same record, is
   * none of this one.
   */
  get #keeperNow(): AnswerKeeper | undefined {
    if (this.#pipeline.reading.length === 0) return undefined;
    return this.#keeper ?? this.#inbound?.keeper;
  }

  #keep(keeper: AnswerKeeper, given: PartialStatus): void {
    const { relay } = this.#pipeline;
    const trailers = given.metadata ?? undefined;
    const isRefusal = trailers !== undefined && this.#isRefusal(trailers);
    // The caller may have left.
    const status = relay === undefined ? given : passedOn(given, relay, keeper.inbound);
    const answer = this.#encoded(status);
    if (!keeper.enforced) {
      this.#answer(given);
      keeper.keep(answer, !isRefusal, nothingToSend);
      return;
    }
    const sent = isRefusal ? "refused" : answer.status.code;
    this.#sent ??= sent;
    this.#settleSoon(outcomeSent(sent), endingSent(sent));
    keeper.keep(answer, !isRefusal, (kept) => this.#sendKept(kept));
    this.#handlerAnswered();
  }

  /** A response that cannot be serialized is a failure, as in grpc-js. */
  #encoded(status: PartialStatus): CompleteAnswer {
    const headers = this.#headers;
    if (this.#response === nothing) return { headers, message: undefined, status };
    try {
      return { headers, message: this.#method.responseSerialize(this.#response), status };
    } catch {
      const failed = { code: Status.INTERNAL, details: "Error serializing response" };
      return { headers, message: undefined, status: failed };
    }
  }

  #sendKept(kept: CompleteAnswer | Refusal): void {
    const inbound = this.#inbound;
    // The caller has left, or a policy has answered meanwhile.
    if (inbound === undefined || this.#stopped) return;
    if ("kind" in kept) {
      const { reason, detail } = kept;
      const [policy, atMs] = ["idempotency", this.clock.now()] as const;
      this.decide({ policy, verdict: "reject", reason, enforced: true, atMs, detail });
      this.refused(kept, policy);
      return;
    }
    this.#answered = true;
    const { headers, message, status } = kept;
    const sent = this.#sending(status);
    if (headers !== undefined) super.sendMetadata(headers);
    if (message === undefined) super.answerWith(sent);
    else super.sendMessage(new EncodedMessage(message), () => super.answerWith(sent));
  }

  /** Only the first answer counts. */
  #noteAnswer(status: PartialStatus): void {
    if (this.#code !== undefined) return;
    this.#code = status.code;
    if (status.code === Status.OK) return;
    this.#details = status.details ?? "";
    if (this.#pipeline.environment.history !== undefined) this.#reason ??= reasonOf(status);
  }

  /** What the gates make of an answer. The result is the status with the level that the server publishes. */
  #judged(status: PartialStatus): PartialStatus {
    const given = status.metadata ?? undefined;
    this.#sent ??= given !== undefined && this.#isRefusal(given) ? "refused" : status.code;
    this.#settleSoon(outcomeSent(this.#sent), endingSent(this.#sent));
    const metadata = withAdmission(given, this.#publishedAdmission());
    if (metadata === undefined || metadata === given) return status;
    if (given !== undefined) noteCopied(metadata, given);
    return { ...status, metadata };
  }

  /** The status is the refusal of a policy behind these gates. An interceptor between the two may have copied its metadata. */
  #isRefusal(metadata: Metadata): boolean {
    if (isRefusedHere(metadata)) return true;
    return this.#inbound?.answeredByPolicy === true && rejectionOf({ metadata }) !== undefined;
  }

  #publishedAdmission(): string | undefined {
    const inbound = this.#inbound;
    if (inbound === undefined) return undefined;
    for (const gate of this.#pipeline.publishing) {
      const published = gate.publishedAdmission?.(inbound);
      if (published !== undefined) return published;
    }
    return undefined;
  }

  /**
   * Gives slots back when the handler has answered, though its caller may not read the answer yet. In the next tick, because
   * the next call in the queue would otherwise run inside this handler.
   */
  #settleSoon(outcome: Outcome, ending?: Ending): void {
    if (this.#settling || this.#run === undefined) return;
    this.#settling = true;
    process.nextTick(settleAnswered, this.#run, outcome, ending);
  }

  /**
   * Ends the call while its handler runs, and cancels the handler. Not `enforced`, it is only recorded that the policy would
   * end it.
   */
  stop(refused: Refusal, policy: PolicyName, enforced: boolean): void {
    const inbound = this.#inbound;
    if (inbound === undefined) return;
    const { reason, detail } = refused;
    // Before an observer of the decision can make the handler answer.
    if (enforced) this.#stopped = true;
    this.decide({ policy, verdict: "stop", reason, enforced, atMs: this.clock.now(), detail });
    if (!enforced) {
      this.#run?.spare(policy, reason);
      return;
    }
    inbound.answeredByPolicy = true;
    // The calls that the handler made for this one are cancelled, too.
    runInbound(inbound, () => inbound.finish("cancelled"));
    this.#refusedBy = policy;
    this.#reason = reason;
    this.#answer(serverRejection(refused));
  }

  // ---- The call has ended.

  protected override endedNow(): void {
    this.#pipeline.due.delete(this);
    const inbound = this.#inbound;
    const endHeld = inbound !== undefined && this.#holdsEnd(inbound);
    if (inbound !== undefined && this.#pipeline.relay !== undefined && !endHeld) {
      inbound.finish(this.#answered ? "finished" : this.#lateOrCancelled(inbound));
    }
    this.#tellEnd(inbound);
    // What was sent before the end counts. A handler may answer later.
    const sent = this.#sent;
    if (sent !== undefined) this.#run?.settle(outcomeSent(sent), endingSent(sent));
    else if (inbound !== undefined)
      this.#run?.settle(this.#outcomeOfCancel(inbound), this.#worksOn());
    if (endHeld) this.#endHeld = inbound;
    else if (this.#admitted) this.#enter(passEnd, undefined);
    else super.endedNow();
    this.#letGo();
  }

  /** The caller has left, and the answer of the handler is kept all the same: the handler's side goes on. */
  #holdsEnd(inbound: InboundCall): boolean {
    if (!this.#handling || this.#stopped || this.#keeperNow?.enforced !== true) return false;
    return this.#lateOrCancelled(inbound) === "cancelled";
  }

  /** Tells who listens that the call has ended. */
  #tellEnd(inbound: InboundCall | undefined): void {
    const { meter, environment } = this.#pipeline;
    const { history } = environment;
    const measured = meter?.idle === false ? inbound : undefined;
    if (this.#span !== undefined || measured !== undefined) {
      const nowMs = this.clock.now();
      this.#span?.ended(nowMs);
      if (measured !== undefined) meter?.ended(measured, this.#code ?? ownEnd(measured), nowMs);
    }
    if (history === undefined || inbound === undefined) return;
    const facts = this.#factsOf(inbound, inbound.doneAtMs, this.#code ?? ownEnd(inbound));
    this.#ended = facts;
    inbound.ended = facts;
    history.ended(facts, undefined, undefined);
    if (history.onCall !== undefined) this.#enter(tell, facts);
  }

  #factsOf<C extends Status | undefined>(
    inbound: InboundCall,
    endedAtMs: number,
    code: C,
  ): CallFacts & { readonly code: C } {
    return {
      side: "server",
      method: inbound.method,
      kind: inbound.kind,
      target: "",
      priority: inbound.priority,
      startedAtMs: inbound.startedAtMs,
      endedAtMs,
      deadlineMs: inbound.deadlineMs,
      handlerStartedMs: inbound.handlerStartedMs,
      code,
      details: this.#details,
      error: undefined,
      origin: undefined,
      decidedBy: undefined,
      reason: this.#reason,
      refusedBy: this.#refusedBy,
      attemptCount: 0,
      attempts: noAttempts,
      decisions: inbound.decisions,
      degraded: inbound.degradations,
      ids: this.#span?.ids,
    };
  }

  [callFacts](): KnownCall | undefined {
    const inbound = this.#inbound;
    const { clock } = this;
    const facts = this.#ended ?? (inbound && this.#factsOf(inbound, clock.now(), undefined));
    return facts && knownCall(facts, clock);
  }

  /** Lets go of all that an ended call has no use for. A handler that answers later is not heard any more. */
  #letGo(): void {
    if (this.#inbound?.row === this) this.#inbound.row = undefined;
    this.#inbound = undefined;
    this.#span = undefined;
    this.#run = undefined;
    this.#metadata = undefined;
    this.#scope = undefined;
    this.#first = nothing;
    this.#second = nothing;
  }

  /** For `#enter` alone. */
  tell(facts: EndedFacts): void {
    this.#pipeline.environment.history?.tell(facts);
  }

  /** For `#enter` alone. */
  passEnd(): void {
    super.endedNow();
  }

  #lateOrCancelled({ deadlineMs }: InboundCall): "deadline" | "cancelled" {
    return ranOutOfTime(this.clock.now(), deadlineMs) ? "deadline" : "cancelled";
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
    const endHeld = this.#endHeld;
    if (endHeld !== undefined) {
      this.#endHeld = undefined;
      endHeld.finish("finished");
      super.endedNow();
    }
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

  // ---- Decisions.

  get silent(): boolean {
    return this.#inbound?.silent === true;
  }

  get observed(): ObserveReport | undefined {
    return this.#inbound?.observed;
  }

  get waits(): WaitObserver | undefined {
    return this.#span;
  }

  decide(decision: Decision): void {
    // Only a function of the user's needs the context of the call.
    if (this.#inbound?.hasObserver === true) this.#enter(noteDecision, decision);
    else this.note(decision);
  }

  /** For `decide` alone. */
  note(decision: Decision): void {
    this.#inbound?.decide(decision);
  }
}

// The events of calls, as functions that are made once and not for each call.

const goThrough = (call: ServerPipelineCall): void => call.goThrough();
const passOn = (call: ServerPipelineCall): void => call.passOn();
const passHeldNext = (call: ServerPipelineCall): void => call.passHeld();
const passMessage = (call: ServerPipelineCall, message: unknown): void => call.passMessage(message);
const passHalfClose = (call: ServerPipelineCall): void => call.passHalfClose();
const passEnd = (call: ServerPipelineCall): void => call.passEnd();
const tell = (call: ServerPipelineCall, facts: EndedFacts): void => call.tell(facts);
const noteDecision = (call: ServerPipelineCall, decision: Decision): void => call.note(decision);

function enter<T>(call: ServerPipelineCall, event: CallEvent<T>, given: T): void {
  call.enter(event, given);
}

function keepScope<T>(call: ServerPipelineCall, event: CallEvent<T>, given: T): void {
  call.keepScope(event, given);
}

function resume<T>(call: ServerPipelineCall, event: CallEvent<T>, given: T): void {
  call.resume(event, given);
}

/** A status that the handler has sent, as its caller gets it. */
function passedOn(status: PartialStatus, relay: Relay, inbound: InboundCall): PartialStatus {
  const own = withoutKeyMarks(status);
  const sent = relay === "mark" ? relayed(own, inbound) : passedThrough(own);
  return markedStatus(sent, inbound.degradations);
}

function nothingToSend(): void {}

function settleAnswered(run: GateRun<InboundCall>, outcome: Outcome, ending?: Ending): void {
  run.answered(outcome, ending);
}

/** The code of a call that was not answered: its deadline has passed, or its caller has left. */
function ownEnd({ end }: InboundCall): Status {
  return end === "deadline" ? Status.DEADLINE_EXCEEDED : Status.CANCELLED;
}

const noAttempts: readonly never[] = [];

/** The reason in a failure that a handler, or a policy behind these gates, answers with. */
function reasonOf({ code, metadata }: PartialStatus): Reason | undefined {
  if (code === Status.OK || metadata === undefined || metadata === null) return undefined;
  return rejectionOf({ metadata })?.reason;
}

function outcomeSent(sent: Status | "refused"): Outcome {
  if (sent === "refused") return "ignored";
  return sent === Status.OK ? "success" : outcomeOf(sent);
}

function endingSent(sent: Status | "refused"): Ending | undefined {
  return sent === "refused" || sent === Status.OK ? undefined : erred;
}
