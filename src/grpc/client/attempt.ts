import {
  connectivityState,
  type InterceptorOptions,
  Metadata,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.js";
import type { ObserveReport } from "../../core/control.js";
import type { Decision, PolicyName } from "../../core/decision.js";
import { type Gate, type GateHost, GateRun } from "../../core/gate.js";
import type { Refusal } from "../../core/permit.js";
import type { WaitObserver } from "../../core/wait.js";
import {
  type AttemptRecord,
  type CallRecord,
  endAttempt,
  endWell,
  type OptionsWithOwn,
} from "../context/call-record.js";
import type { EndWaiting, PendingCalls } from "../environment.js";
import { receivedStatus } from "../status/foreign-status.js";
import {
  cancelQuietly,
  channelClosed,
  channelClosedStatus,
  interceptorThrew,
} from "../status/local.js";
import { echoes, isAddress, neverLeft } from "../status/origin.js";
import type { Failure } from "../status/outcome.js";
import { localRejection } from "../status/rejection.js";
import type { AuthContext, ClientCall, ClientListener, MessageContext } from "../types.js";
import { authContextOf, completeWrite, peerOf } from "./foreign-call.js";
import { keepMetadata } from "./kept-metadata.js";
import { countsResets, handOn, type KeptRequest, startOn } from "./kept-request.js";

/** What the gates of a client see of an attempt. */
export interface ClientPassage {
  readonly record: CallRecord;
  readonly attempt: AttemptRecord;
  /** The trailers that the server sent. Absent until then, and where something else ended the attempt. */
  readonly trailers: Metadata | undefined;
  /**
   * When the attempt came to the gates, came out of the last queue, or ended: the latest of these. The clock is read once
   * for each, for all gates.
   */
  readonly nowMs: number;
  /** Notes that a policy in mode `observe` would have refused the attempt. Its permit is held all the same. */
  wouldRefuse(refusal: Refusal, policy: PolicyName): void;
  /** The address of the server that the attempt went to; the target, or `unknown`, where none was chosen. */
  getPeer(): string;
}

/**
 * What a policy does with the attempts of a pipeline, behind all gates. Made once for each method; what it keeps of one
 * attempt is in the watch that `begin` returns.
 */
export interface AttemptPart {
  readonly at: "attempt";
  /**
   * An attempt has passed all gates, and the call below is about to be made. May change the metadata and the options that
   * it is sent with.
   *
   * @returns What is told of the rest of the attempt. `undefined` for nothing.
   */
  begin(attempt: Attempt): AttemptWatch | undefined;
}

/** What a part of a pipeline is told of one attempt. */
export interface AttemptWatch {
  /** The call below has been started. */
  started?(): void;
  /** The next message of the response has been asked for. */
  reading?(): void;
  headers?(): void;
  /** A message of the response has come. */
  message?(): void;
  /**
   * The attempt has ended. Called once; the watch of the last part is told first.
   *
   * @param failure The status, read once. `undefined` for OK.
   * @returns A status in place of this one; `undefined` leaves it.
   */
  ended?(status: StatusObject, failure: Failure | undefined): StatusObject | undefined;
  /** The call below has told its end, of an attempt that `finish` has ended before. */
  endedBelow?(): void;
}

/** What each attempt of a call passes on its way. */
export interface AttemptSteps {
  readonly gates: readonly Gate<ClientPassage>[];
  readonly attempts: readonly AttemptPart[];
  /** Gates stand here, if only an empty row: this is where attempts are cancelled with care. */
  readonly gated: boolean;
  /** Attempts are noted in the record of the call. Not where only parts of the whole call stand. */
  readonly tracked: boolean;
  readonly pendingCalls: PendingCalls;
}

/** The call that an attempt belongs to. It receives the attempt's response. */
export interface AttemptOwner {
  readonly record: CallRecord;
  readonly steps: AttemptSteps;
  readonly requests: ReplayBuffer;
  /** The time now. The clock is read once for all that happens while the call starts. */
  readonly nowMs: number;
  /** What the telemetry keeps of the call. */
  readonly trace: WaitObserver | undefined;
  /** Makes the call below, or gives the one that was made to learn the target. May throw. */
  callFor(attempt: Attempt): ClientCall;
  /** Makes the call below before the gates, so that the record knows its target. */
  learnTarget(attempt: Attempt): void;
  /** Cancels a call that was made to learn the target, and not used. */
  unmake(): void;
  attemptMetadata(attempt: Attempt, metadata: Metadata): void;
  attemptMessage(attempt: Attempt, message: unknown): void;
  attemptEnded(attempt: Attempt, status: StatusObject, failure: Failure | undefined): void;
  /** The attempt has written the message with this number. */
  attemptWrote(attempt: Attempt, number: number, error: Parameters<WriteCallback>[0]): void;
}

type WriteCallback = NonNullable<MessageContext["callback"]>;
type Definition = InterceptorOptions["method_definition"];

/** A call below that was started longer ago, in milliseconds, is past the tick of its start. */
const freshMs = 50;

/**
 * One attempt of a call: it passes the gates, is sent, and settles its permits when it ends. It knows how much of the
 * request it has sent, and what it has received and the caller has not seen. It sends one message at a time, each after
 * the write callback of the one before, because grpc-js loses messages that are sent without waiting.
 *
 * It is also the listener of the call below. grpc-js keeps that in memory for a while after the end, so an attempt that
 * has ended lets go of its call.
 */
export class Attempt implements ClientListener, GateHost, ClientPassage {
  readonly record: CallRecord;
  readonly attempt: AttemptRecord;
  readonly clock: Clock;
  /** What the attempt is sent with. A part of the pipeline may replace it. */
  metadata: Metadata;
  /** The options of the call below. A part of the pipeline may replace them by a copy. */
  options: OptionsWithOwn;
  trailers: Metadata | undefined;
  /** Response headers that the caller has not seen. */
  heldMetadata: Metadata | undefined;
  /** A single response that is not wanted: it is shown only if no other attempt follows. */
  heldMessage: { readonly message: unknown } | undefined;
  sawHeaders = false;
  ended = false;
  /** Another attempt, or another source, has decided the call: this one sends no more of the request. */
  lost = false;
  /** Takes the attempt out of the queue of those that are cancelled when their connection has resets left. */
  stopWaiting: (() => void) | undefined;
  /** The number of the next message to send. */
  cursor = 0;
  #owner: AttemptOwner | undefined;
  readonly #definition: Definition;
  readonly #requests: ReplayBuffer;
  #next: ClientCall | undefined;
  #run: GateRun<ClientPassage> | undefined;
  #watches: AttemptWatch[] | undefined;
  /** Ends the attempt when the weir or the channel is closed while it waits at a gate. */
  #closed: EndWaiting | undefined;
  /** The status with which this process ends the attempt, in the next tick. */
  #final: StatusObject | undefined;
  #ownCancel: string | undefined;
  /** The latest reading of the clock, as long as it is the time of what happens now. */
  #nowMs: number | undefined;
  /** When the call below was started. */
  #startedMs: number;
  /** The call below will be cancelled after this tick. */
  #callingOff = false;
  /** A streamed response has had its first message. */
  #delivered = false;
  #writing = false;
  #halfClosed = false;
  /** A read is outstanding: grpc-js counts several as one. */
  #reading = false;
  /** A method of the call below is on the stack. */
  #calling = false;
  /** The call below threw: none of its methods is called any more. */
  #threw = false;

  constructor(
    owner: AttemptOwner,
    attempt: AttemptRecord,
    metadata: Metadata,
    options: OptionsWithOwn,
  ) {
    this.#owner = owner;
    this.record = owner.record;
    this.clock = owner.record.clock;
    this.attempt = attempt;
    this.metadata = metadata;
    this.options = options;
    this.#definition = options.method_definition;
    this.#requests = owner.requests;
    this.#startedMs = attempt.startedAtMs;
  }

  /** When the attempt came through the gates, for its parts. The clock is read when the first of them asks. */
  get sentAtMs(): number {
    this.attempt.sentAtMs ??= this.nowMs;
    return this.attempt.sentAtMs;
  }

  get nowMs(): number {
    this.#nowMs ??= this.#owner?.nowMs ?? this.clock.now();
    return this.#nowMs;
  }

  /** The call that the attempt belongs to, until the attempt has ended. */
  get call(): AttemptOwner | undefined {
    return this.#owner;
  }

  /** The call below; `undefined` until the attempt has passed the gates. */
  get next(): ClientCall | undefined {
    return this.#next;
  }

  /** The attempt has not passed the gates yet. */
  get waiting(): boolean {
    return this.#next === undefined && !this.#threw && this.#final === undefined;
  }

  getPeer(): string {
    return peerOf(this.#next) ?? "unknown";
  }

  get authContext(): AuthContext | null {
    return authContextOf(this.#next);
  }

  // ---- On the way to the call below.

  /** Asks the gates, and starts the call below when they have admitted the attempt. */
  start(): void {
    const owner = this.#owner;
    if (owner === undefined) return;
    const { record } = this;
    const { gates, tracked, pendingCalls } = owner.steps;
    if (tracked) {
      // grpc-js reopens a channel whose name is resolved after it was closed, and would answer this call.
      if (record.connection?.closed === true) {
        this.finish(channelClosedStatus());
        return;
      }
      record.metadata = this.metadata;
    }
    if (gates.length === 0) {
      this.#startBelow(owner);
      return;
    }
    // Gates keep state by target. It is unknown where a client has the interceptors without the transformer.
    if (record.target === "") {
      owner.learnTarget(this);
      if (!this.waiting) {
        owner.unmake();
        return;
      }
    }
    const run = new GateRun<ClientPassage>(gates, this, this);
    this.#run = run;
    run.run();
    if (!run.waiting) return;
    owner.unmake();
    this.metadata = keepMetadata(this.metadata);
    record.metadata = this.metadata;
    this.#closed = (status) => this.finish(status);
    pendingCalls.enter(this.#closed, record.connection);
  }

  resumed(): void {
    this.#nowMs = undefined;
  }

  admitted(waited: boolean): void {
    const owner = this.#owner;
    if (owner === undefined || this.#final !== undefined) return;
    if (!waited) {
      this.#startBelow(owner);
      return;
    }
    this.#leavePending();
    // What another call gives back when it is closed may let this one through.
    const closed = owner.steps.pendingCalls.closing(this.record.connection);
    if (closed !== undefined) {
      this.finish(closed);
      return;
    }
    this.#startedMs = this.nowMs;
    // The turn in a queue comes in the async context of the call that left it.
    this.record.restore(() => this.#startBelow(owner));
  }

  refused(refusal: Refusal): void {
    this.finish(localRejection(refusal, { method: this.record.method }));
  }

  wouldRefuse(refusal: Refusal, policy: PolicyName): void {
    this.#run?.wouldRefuse(refusal, policy);
  }

  get observed(): ObserveReport {
    return this.record.observed;
  }

  get waits(): WaitObserver | undefined {
    return this.#owner?.trace;
  }

  decide(decision: Decision): void {
    this.record.decide(decision, this.attempt.number);
  }

  #leavePending(): void {
    if (this.#closed === undefined) return;
    this.#owner?.steps.pendingCalls.leave(this.#closed);
    this.#closed = undefined;
  }

  #startBelow(owner: AttemptOwner): void {
    const outer = this.#calling;
    this.#calling = true;
    try {
      for (const part of owner.steps.attempts) {
        const watch = part.begin(this);
        if (watch === undefined) continue;
        // A list of one takes less memory than one to which it is pushed.
        if (this.#watches === undefined) this.#watches = [watch];
        else this.#watches.push(watch);
      }
      // A part may have ended the attempt.
      if (this.#final !== undefined) return;
      const next = owner.callFor(this);
      if (!this.waiting) {
        // An interceptor below has cancelled the call above. Left alone, this one would keep its channel busy.
        cancelQuietly(next, Status.CANCELLED, "Cancelled before its start");
        return;
      }
      this.#next = next;
      startOn(next, this.#definition, this.metadata, this);
      if (this.#watches !== undefined) for (const watch of this.#watches) watch.started?.();
      if (this.#reading) next.startRead();
    } catch (error) {
      this.fail(error);
      return;
    } finally {
      this.#calling = outer;
    }
    this.pump();
  }

  // ---- The request.

  /** Sends the messages in the buffer, in order, and the half-close with the last one. */
  pump(): void {
    const next = this.#next;
    if (next === undefined || this.ended || this.lost || this.#threw) return;
    const outer = this.#calling;
    this.#calling = true;
    try {
      this.#sendOn(next);
    } catch (error) {
      this.fail(error);
    } finally {
      this.#calling = outer;
    }
  }

  /** Sends a message past the buffer, where all messages before it are written. */
  send(context: MessageContext, message: unknown): void {
    const next = this.#next;
    if (next === undefined || this.#threw) {
      completeWrite(context);
      return;
    }
    const outer = this.#calling;
    this.#calling = true;
    try {
      handOn(next, this.#definition, context, message);
    } catch (error) {
      completeWrite(context);
      this.fail(error);
    } finally {
      this.#calling = outer;
    }
  }

  /** An interceptor below threw. The attempt ends with a status, as after any other failure. */
  fail(error: unknown): void {
    this.#threw = true;
    const failed = channelClosed(error) ?? interceptorThrew(error);
    // Left alone, the call would keep its channel busy, and a timer running.
    if (!this.ended) this.#cancelQuietly(failed.code, failed.details);
    process.nextTick(() => this.onReceiveStatus(failed));
  }

  #sendOn(next: ClientCall): void {
    const requests = this.#requests;
    while (!this.#writing) {
      const number = this.cursor;
      const entry = requests.at(number);
      if (entry === undefined) break;
      this.cursor = number + 1;
      if (!this.#definition.requestStream && entry.context?.callback === undefined) {
        // The only message, and nobody asks when it is written.
        const { flags, message } = entry;
        requests.sent(number);
        handOn(next, this.#definition, flags === undefined ? {} : { flags }, message);
        continue;
      }
      this.#writing = true;
      const callback: WriteCallback = (error) => {
        // An interceptor may call back twice. That does not mean that the message after this one is written.
        if (!this.#writing || this.cursor !== number + 1) return;
        this.#writing = false;
        this.#owner?.attemptWrote(this, number, error);
      };
      const { flags, message } = entry;
      const context = flags === undefined ? { callback } : { callback, flags };
      handOn(next, this.#definition, context, message);
    }
    if (requests.requestEnded && !this.#halfClosed && this.cursor === requests.end) {
      this.#halfClosed = true;
      next.halfClose();
    }
  }

  /** Messages before this number are written. */
  get writtenBefore(): number {
    return this.#writing ? this.cursor - 1 : this.cursor;
  }

  /** Whether all messages so far are written, so that the next may go past the buffer. */
  get caughtUp(): boolean {
    return this.#next !== undefined && !this.#writing && this.cursor === this.#requests.end;
  }

  // ---- The response.

  /** Asks for the next message. Before the call below is started, that is remembered. */
  read(): void {
    if (this.#reading || this.ended || this.#threw) return;
    this.#reading = true;
    if (this.#watches !== undefined) for (const watch of this.#watches) watch.reading?.();
    const outer = this.#calling;
    this.#calling = true;
    try {
      this.#next?.startRead();
    } catch (error) {
      this.fail(error);
    } finally {
      this.#calling = outer;
    }
  }

  /** Whether a message has been asked for, and has not come. */
  get reading(): boolean {
    return this.#reading;
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.sawHeaders = true;
    if (this.ended || this.#final !== undefined) return;
    if (this.#watches !== undefined) for (const watch of this.#watches) watch.headers?.();
    if (!this.lost) this.#owner?.attemptMetadata(this, metadata);
  }

  onReceiveMessage(message: unknown): void {
    this.#reading = false;
    // grpc-js sends a message of null before the failing status of a single response.
    if (message === null || this.ended || this.#final !== undefined) return;
    if (this.#watches !== undefined) for (const watch of this.#watches) watch.message?.();
    if (!this.#delivered && this.#definition.responseStream) {
      this.#delivered = true;
      this.#run?.delivered();
    }
    if (this.lost) this.read();
    else this.#owner?.attemptMessage(this, message);
  }

  onReceiveStatus(received: StatusObject): void {
    if (this.#final !== undefined && this.#watches !== undefined) {
      for (const watch of this.#watches) watch.endedBelow?.();
    }
    if (this.ended) return;
    const status = this.#final ?? receivedStatus(received);
    if (this.#calling) {
      // A method of the caller or of the owner is on the stack, and not ready for an end.
      process.nextTick(() => this.#end(status));
    } else this.#end(status);
  }

  // ---- The end.

  /** Lets an attempt that has lost run on. Its response is read, so that it comes to its end. */
  runOut(stopWaiting: () => void): void {
    this.stopWaiting = stopWaiting;
    this.read();
  }

  /** Ends the attempt with this status in the next tick, and cancels the call below. */
  finish(final: StatusObject): void {
    if (this.ended || this.#final !== undefined) return;
    this.#final = final;
    this.#leavePending();
    const { code, details } = final;
    this.#nowMs = undefined;
    if (this.#next === undefined) this.#run?.settle("ignored");
    else this.#cancelQuietly(code === Status.OK ? Status.CANCELLED : code, details);
    process.nextTick(() => this.#end(final));
  }

  /**
   * Ends the attempt because its own time is up. That is noted before the call below is cancelled, whose status would look
   * like a cancellation by the caller.
   */
  expire(final: StatusObject): void {
    if (this.ended || this.#final !== undefined) return;
    this.#note(final);
    this.finish(final);
  }

  cancel(code: Status, details: string): void {
    if (this.ended) {
      this.#cancelQuietly(code, details);
      return;
    }
    this.#ownCancel ??= details;
    const cancelled = { code, details, metadata: new Metadata() };
    const next = this.#next;
    if (next === undefined) {
      this.finish(cancelled);
      return;
    }
    if (!this.#fresh) {
      this.#cancelQuietly(code, details);
      // grpc-js answers with a status in the next tick, before this one. If no status comes, this one ends the attempt.
      process.nextTick(() => this.onReceiveStatus(cancelled));
      return;
    }
    // A call of grpc-js that is cancelled in the tick of its start gets a status, but the request is sent and the
    // handler runs until its deadline. Cancelled a turn later, it is cancelled on the server too.
    if (this.#callingOff) return;
    this.#callingOff = true;
    process.nextTick(() => this.onReceiveStatus(cancelled));
    this.clock.afterPoll(() => cancelQuietly(next, code, details));
  }

  /** Whether grpc-js may not have begun to send the call: until then, the peer is the target. */
  get #fresh(): boolean {
    if (this.#owner?.steps.gated !== true) return false;
    if (this.sawHeaders || this.clock.now() - this.#startedMs > freshMs) return false;
    const peer = this.getPeer();
    return peer !== "unknown" && !isAddress(peer, this.record.target);
  }

  #cancelQuietly(code: Status, details: string): void {
    const outer = this.#calling;
    this.#calling = true;
    cancelQuietly(this.#next, code, details);
    this.#calling = outer;
  }

  #end(received: StatusObject): void {
    const owner = this.#owner;
    if (owner === undefined) return;
    this.ended = true;
    this.#leavePending();
    let status = received;
    let failure = owner.steps.tracked ? this.#note(status) : undefined;
    const watches = this.#watches;
    if (watches !== undefined) {
      for (let index = watches.length - 1; index >= 0; index -= 1) {
        const other = watches[index]?.ended?.(status, failure);
        if (other === undefined) continue;
        status = other;
        failure = this.#note(status);
      }
    }
    if (this.#run !== undefined) this.#settle(this.#run, status, failure);
    this.#owner = undefined;
    owner.attemptEnded(this, status, failure);
  }

  /** Notes the end in the records, and reads the status. */
  #note(status: StatusObject): Failure | undefined {
    const { record, attempt } = this;
    const nowMs = this.clock.now();
    this.#nowMs = nowMs;
    const peer = this.getPeer();
    attempt.peer = peer;
    if (status.code === Status.OK) {
      endWell(attempt, record, nowMs);
      return undefined;
    }
    record.inbound?.failedBelow(status);
    const evidence = {
      sawHeaders: this.sawHeaders,
      peer,
      target: record.target,
      ownCancel: echoes(status, this.#ownCancel),
      unknown: record.unknownTexts,
      resets: record.resets,
      countedBelow: countsResets(this.#next),
    };
    return endAttempt(attempt, status, evidence, nowMs);
  }

  #settle(run: GateRun<ClientPassage>, status: StatusObject, failure: Failure | undefined): void {
    if (failure === undefined) {
      this.trailers = status.metadata;
      run.settle(status.code === Status.OK ? "success" : "ignored");
      return;
    }
    if (failure.origin === "remote") this.trailers = status.metadata;
    const { record } = this;
    const unsent = neverLeft({
      sawHeaders: this.sawHeaders,
      peer: this.getPeer(),
      target: record.target,
    });
    const seen = {
      neverLeft: unsent,
      connected: unsent && record.connection?.state === connectivityState.READY,
      delivered: this.#delivered,
    };
    // This process was held up and ended the attempt late: the server may have answered in time.
    const held = this.attempt.heldUp === true || record.heldUp;
    if (held) run.settle("ignored");
    else run.settle(failure.outcome(seen), failure.ending(seen));
  }
}

/** One message of the request, kept until no attempt needs it. */
interface BufferedEvent {
  readonly message: KeptRequest;
  readonly flags: number | undefined;
  readonly bytes: number;
  /** The caller's write callback, until it has been called. */
  context: MessageContext | undefined;
}

/** How much of a streamed request is kept for another attempt. */
export interface ReplayLimits {
  readonly maxBufferBytes: number;
  readonly maxBufferMessages: number;
}

/**
 * The messages of a request, kept as long as an attempt may have to send them. They are numbered from 0, also when
 * messages at the front have been dropped.
 */
export class ReplayBuffer {
  #entries: BufferedEvent[] | undefined;
  readonly #limits: ReplayLimits | undefined;
  readonly #streamed: boolean;
  readonly #scope: CallRecord | undefined;
  #first = 0;
  #bytes = 0;
  #ended = false;

  /**
   * @param limits Without them, no other attempt can follow.
   * @param streamed Whether the request is streamed. A single message is in memory anyway, and has no limit.
   * @param scope The call in whose async context the caller's write callbacks are called; `undefined` for any.
   */
  constructor(limits: ReplayLimits | undefined, streamed: boolean, scope: CallRecord | undefined) {
    this.#limits = limits;
    this.#streamed = streamed;
    this.#scope = scope;
  }

  /** The caller has half-closed. */
  get requestEnded(): boolean {
    return this.#ended;
  }

  /** Whether the request is larger than its limits. */
  get overfull(): boolean {
    if (this.#limits === undefined) return false;
    const { maxBufferBytes, maxBufferMessages } = this.#limits;
    return this.#streamed && (this.#bytes > maxBufferBytes || this.#length > maxBufferMessages);
  }

  halfClose(): void {
    this.#ended = true;
  }

  /** The number of the next message to come. */
  get end(): number {
    return this.#first + this.#length;
  }

  get #length(): number {
    return this.#entries?.length ?? 0;
  }

  /** @param counts Whether another attempt may need the message. Only then its size counts. */
  push(context: MessageContext, message: KeptRequest, counts: boolean): void {
    const limited = this.#limits !== undefined && this.#streamed;
    const bytes = counts && limited ? sizeOf(message) : 0;
    const entry = { message, flags: context.flags, bytes, context };
    // Most requests are a single message.
    if (this.#entries === undefined) this.#entries = [entry];
    else this.#entries.push(entry);
    this.#bytes += bytes;
  }

  at(number: number): Readonly<BufferedEvent> | undefined {
    return this.#entries?.[number - this.#first];
  }

  /** Calls the caller's write callback, when the first attempt has written the message. */
  written(number: number, error: Parameters<WriteCallback>[0]): void {
    const entry = this.#entries?.[number - this.#first];
    const context = entry?.context;
    if (entry === undefined || context === undefined) return;
    entry.context = undefined;
    const { callback } = context;
    if (callback === undefined) return;
    if (this.#scope === undefined) callback(error);
    else this.#scope.restore(callback, error);
  }

  /** The message with this number has been sent, and nobody asks when it is written. */
  sent(number: number): void {
    if (this.#limits === undefined) this.dropBefore(number + 1);
  }

  /** Drops the messages before this one, which no attempt will need. */
  dropBefore(number: number): void {
    while (this.#first < number) {
      const entry = this.#entries?.shift();
      if (entry === undefined) return;
      this.#first += 1;
      this.#bytes -= entry.bytes;
    }
  }

  /** Replaces the request by another one, of a single message. */
  replace(message: KeptRequest): void {
    this.clear();
    this.#first = 0;
    this.#entries = [{ message, flags: undefined, bytes: 0, context: undefined }];
  }

  /** Drops all messages and calls the write callbacks that have not been called. */
  clear(): void {
    const entries = this.#entries;
    if (entries === undefined) return;
    this.#entries = undefined;
    this.#first += entries.length;
    this.#bytes = 0;
    for (const { context } of entries) {
      if (context?.callback === undefined) continue;
      if (this.#scope === undefined) completeWrite(context);
      else this.#scope.restore(completeWrite, context);
    }
  }
}

function sizeOf(message: KeptRequest): number {
  try {
    return message.bytes.length;
  } catch {
    // The serializer throws again when the message is sent, and that ends the call.
    return 0;
  }
}
