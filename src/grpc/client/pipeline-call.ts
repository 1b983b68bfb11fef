import {
  InterceptingCall,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import type { WaitObserver } from "../../core/wait.js";
import {
  type AttemptRecord,
  attemptKey,
  attemptOf,
  type CallRecord,
  type OptionsWithOwn,
  type OptionsWithRecord,
  recordKey,
} from "../context/call-record.js";
import { callFacts, type KnownCall, knownCall, type TellsFacts } from "../context/finished-call.js";
import { callOfFailure, type History } from "../context/history.js";
import { CallDeadline, callBelow, toEpoch } from "../deadline.js";
import { previousAttemptsKey, retryDepthKey } from "../metadata.js";
import { cancelQuietly, serializationFailed } from "../status/local.js";
import { supersededText } from "../status/origin.js";
import type { Failure } from "../status/outcome.js";
import { isLocal } from "../status/rejection.js";
import type { ClientCall, ClientListener, MessageContext } from "../types.js";
import {
  Attempt,
  type AttemptOwner,
  type AttemptSteps,
  ReplayBuffer,
  type ReplayLimits,
} from "./attempt.js";
import { endedFacts, runningFacts } from "./ended-call.js";
import { completeWrite, emitEnd, mustBeCall, peerOf } from "./foreign-call.js";
import { asKept, copyMetadata, keepMetadata } from "./kept-metadata.js";
import {
  countsResets,
  type KeepingCall,
  keepRequest,
  type Reach,
  reach,
  reachOf,
  targetOf,
} from "./kept-request.js";

/**
 * What a policy does with the calls of a pipeline, above their attempts. Made once for each method; what it keeps of one
 * call is in the watch that `begin` returns.
 */
export interface CallPart {
  readonly at: "call";
  /** The caller's callbacks run in the caller's async context. */
  readonly restores?: boolean;
  /**
   * A call has been started. May end it, and change the metadata and options that its attempts are sent with.
   *
   * @returns What is told of the rest of the call. `undefined` for nothing.
   */
  begin(call: PipelineCall): CallWatch | undefined;
}

/** What a part of a pipeline is told of one call. */
export interface CallWatch {
  /** The caller cancels the call. */
  cancelled?(): void;
  /** The call is about to end with this status. Returns a status in place of it; `undefined` leaves it. */
  ending?(status: StatusObject): StatusObject | undefined;
  /** The call has ended, however. Called once, before the caller gets the status. */
  ended?(status: StatusObject): void;
}

/** A piece of a pipeline that one call object runs: parts of the call, then those of its attempts. */
export interface Segment extends AttemptSteps {
  readonly calls: readonly CallPart[];
  /** The caller's callbacks run in the caller's async context. */
  readonly restores: boolean;
  /** Told of the end of each call. */
  readonly history?: History | undefined;
}

/** The attempt of a call whose pipeline has parts of the whole call only. It is noted nowhere. */
const noAttempt: AttemptRecord = Object.freeze({
  number: 1,
  previous: 0,
  cause: "first",
  startedAtMs: 0,
  delayMs: 0,
  untilMs: Number.POSITIVE_INFINITY,
});

const noAttempts: readonly Attempt[] = [];

/**
 * A call that runs a pipeline. It is the call that grpc-js and the interceptors above see; its attempts are the calls
 * below. This class has one attempt, and launches it at the start. Subclasses launch it later, or answer in its place
 * (`begin`, `afterAttempt`); or they launch others, one after another or side by side: they decide after a failed
 * attempt whether to launch another, or to conclude the call.
 *
 * It keeps request and metadata as the caller gave them as long as another attempt may need them, and shows the caller
 * exactly one response. An attempt is committed when the caller sees it; then no other attempt starts. It is committed
 * by
 *
 * - its response headers, where the response is streamed;
 * - its message or its OK, where the response is a single message: the headers wait for that as long as another attempt
 *   may follow;
 * - a request that has outgrown the replay buffer, so that it cannot be sent again;
 * - its start, where no other attempt can follow.
 *
 * These are the rules of gRFC A6 (https://github.com/grpc/proposal/blob/master/A6-client-retries.md). Holding back the
 * headers of a single response goes beyond them, so that a failure behind headers can be retried.
 *
 * It sees to this on every path:
 *
 * - Exactly one status goes up, asynchronously, and nothing after it. Before the failing status of a single response, the
 *   listener gets a message of null, as from grpc-js.
 * - A call below is made when it is started, and cancelled when nobody waits for it. A call of grpc-js that is made and
 *   never started keeps its channel busy and a timer running.
 * - Messages that are sent before the call below is there are kept as they are, and sent later in order, one at a time.
 * - A call below that cannot be made, started or written to, because the channel was closed or a foreign interceptor threw,
 *   ends the attempt with a status.
 * - A cancellation ends the call, even if the call below does not answer it.
 */
export class PipelineCall
  extends InterceptingCall
  implements AttemptOwner, KeepingCall, TellsFacts
{
  readonly record: CallRecord;
  readonly steps: Segment;
  readonly requests: ReplayBuffer;
  /** What the telemetry keeps of this call. The record may be that of several calls, one of which came later. */
  trace: WaitObserver | undefined;
  /** As the call was given them, but for `parent`. Nobody writes to them. */
  options: OptionsWithRecord;
  readonly #nextCall: NextCall;
  readonly #streamedResponse: boolean;
  /** Another attempt may follow the first. */
  readonly #repeats: boolean;
  #metadata: Metadata | undefined;
  #listener: Partial<ClientListener> | undefined;
  #watches: CallWatch[] | undefined;
  /** The deadline that a part has set. */
  #deadline: CallDeadline | undefined;
  #ownMetadata = false;
  #started = false;
  #starting = false;
  #startMs: number | undefined;
  #cancelled: StatusObject | undefined;
  /** The attempts that run. */
  #live = noAttempts;
  #latest: Attempt | undefined;
  #committed: Attempt | undefined;
  #overflowed = false;
  /** A call below that was made to learn the target, and has not been started; or the error with which that failed. */
  #made: { readonly call: ClientCall; readonly options: OptionsWithOwn } | undefined;
  #unmakeable: { readonly error: unknown } | undefined;
  /** The caller has asked for a message, and none was there. */
  #readWanted = false;
  #headersShown = false;
  /** A message has gone up. */
  #answered = false;
  /** Messages that came before the caller asked for them. */
  #messages: unknown[] | undefined;
  /** The OK behind those messages. */
  #heldStatus: StatusObject | undefined;
  /** The final status has gone up, or will in the next tick. */
  #ended = false;
  #endedAtMs: number | undefined;

  /** @param limits How much of a streamed request is kept for another attempt. Without them, none can follow. */
  constructor(
    options: OptionsWithRecord,
    nextCall: NextCall,
    segment: Segment,
    limits?: ReplayLimits,
  ) {
    // Never used: every method is overridden.
    super(undefined as never);
    this.options = options;
    this.#nextCall = nextCall;
    this.steps = segment;
    this.record = options[recordKey];
    const { requestStream, responseStream } = options.method_definition;
    this.#streamedResponse = responseStream;
    this.#repeats = limits !== undefined;
    const scope = segment.restores ? this.record : undefined;
    this.requests = new ReplayBuffer(limits, requestStream, scope);
  }

  // ---- Decisions of subclasses.

  /** The parts of the call have begun. Launches the first attempt. A subclass may do so later, or not at all. */
  protected begin(): void {
    this.launch("first", 0);
  }

  /** An attempt that has not lost has ended. */
  protected afterAttempt(
    attempt: Attempt,
    status: StatusObject,
    failure: Failure | undefined,
  ): void {
    if (status.code === Status.OK) {
      this.succeeded(attempt);
      if (attempt.heldMessage !== undefined && this.#committed === undefined) {
        this.afterUnwanted(attempt, status);
        return;
      }
      if (!this.#commit(attempt)) return;
      if (this.#messages !== undefined && this.#messages.length > 0) this.#heldStatus = status;
      else this.conclude(status, attempt);
    } else if (failure === undefined) this.conclude(status, attempt);
    else if (this.#committed === undefined) this.afterFailure(attempt, failure);
    else if (!this.afterCommittedFailure(attempt, failure)) this.conclude(status, attempt);
  }

  /** An uncommitted attempt has failed. Launch another, conclude the call, or wait for the attempts in flight. */
  protected afterFailure(attempt: Attempt, failure: Failure): void {
    this.conclude(failure.status, attempt);
  }

  /**
   * The attempt that the caller sees has failed. True when the subclass has given another request to `resumeWith`, and
   * will launch an attempt that continues the response.
   */
  protected afterCommittedFailure(_attempt: Attempt, _failure: Failure): boolean {
    return false;
  }

  /**
   * Whether a single response is what the caller wants. Any other is held back until its attempt has ended OK; then
   * `afterUnwanted` is called.
   */
  protected wants(_message: unknown): boolean {
    return true;
  }

  /** An attempt has ended OK with a response that is not wanted. Launch another, or accept this one. */
  protected afterUnwanted(attempt: Attempt, status: StatusObject): void {
    this.accept(attempt, status);
  }

  /**
   * What to do with the headers of a single response:
   *
   * - `held`: wait for the message, because another attempt may follow a failure behind the headers;
   * - `final`: show them, because no other attempt can follow; this attempt is the one that the caller sees;
   * - `shown`: show them, because retries and hedges are only observed.
   */
  protected singleHeaders(): "held" | "final" | "shown" {
    return "held";
  }

  /** An attempt has ended OK. */
  protected succeeded(_attempt: Attempt): void {}

  /** An attempt that has lost is not cancelled, because its connection has no stream resets left. */
  protected leftToRun(_attempt: Attempt): void {}

  /** A message of a streamed response is about to be shown. */
  protected streamed(_message: unknown): void {}

  /** The request has outgrown its buffer: the attempt that has sent most of it, or else the next one, is the last. */
  protected outgrown(): void {}

  /** The call has ended, or an attempt has been committed. Cancels timers. */
  protected released(): void {}

  // ---- For parts of the pipeline.

  /** The final status has gone up, or will in the next tick. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The time now. The clock is read once for all that happens while the call starts. */
  get nowMs(): number {
    const { clock } = this.record;
    if (!this.#starting) return clock.now();
    this.#startMs ??= clock.now();
    return this.#startMs;
  }

  /** When the call ended, for its watches. The clock is read when the first of them asks. */
  get endedAtMs(): number {
    this.#endedAtMs ??= this.record.clock.now();
    return this.#endedAtMs;
  }

  /** The metadata of the call, for reading only. */
  get metadata(): Metadata {
    this.#metadata ??= new Metadata();
    return this.#metadata;
  }

  /** The metadata of the call, for a part that adds to them while the call begins. The caller's object is copied. */
  writableMetadata(): Metadata {
    if (this.#ownMetadata) return this.metadata;
    this.#ownMetadata = true;
    const own = asKept(copyMetadata(this.metadata));
    this.#metadata = own;
    return own;
  }

  /** Sends the attempts with this deadline, for a part that sets it while the call begins. */
  limit(deadline: CallDeadline): void {
    this.unmake();
    this.#deadline = deadline;
  }

  /** Takes the option `parent` out of those of the attempts. */
  dropParent(): void {
    this.unmake();
    const { parent: _, ...options } = this.options;
    this.options = options;
  }

  /** Cancels all attempts and ends the call with this status, asynchronously. */
  finish(status: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    this.cancelAttempts(cancelCode(status), status.details);
    // Before the write callbacks that follow: in a write callback, the caller may write again.
    process.nextTick(() => this.#emit(status));
    this.#close();
  }

  // ---- For subclasses.

  /** Keeps the metadata as they are now, for whoever needs them later. */
  protected keepMetadata(): void {
    this.#metadata = keepMetadata(this.metadata);
  }

  /** The caller has asked for a message, and none was there. */
  protected get readWanted(): boolean {
    return this.#readWanted;
  }

  /** Whether another attempt could send the whole request. */
  protected get replayable(): boolean {
    return this.#committed === undefined && !this.#overflowed;
  }

  /** How many attempts run. */
  protected get inFlight(): number {
    return this.#live.length;
  }

  /** Starts an attempt. Nothing happens once the call has ended or is committed. */
  protected launch(cause: AttemptRecord["cause"], delayMs: number, after?: StatusObject): void {
    if (this.#ended || this.#committed !== undefined) return;
    const attempt = this.#repeats
      ? this.#repeated(this.record.startAttempt(cause, this.nowMs, delayMs, after))
      : this.#onlyAttempt();
    this.#live = this.#live.length === 0 ? [attempt] : [...this.#live, attempt];
    this.#latest = attempt;
    if (!this.#repeats) this.#committed = attempt;
    if (this.#repeats ? this.#streamedResponse : this.#readWanted) attempt.read();
    attempt.start();
    if (this.#overflowed) this.#commit(attempt);
  }

  #onlyAttempt(): Attempt {
    const options = this.#deadline === undefined ? this.options : this.#ownOptions();
    const { tracked } = this.steps;
    const record = tracked ? attemptOf(options, this.record, this.nowMs) : noAttempt;
    return new Attempt(this, record, this.metadata, options);
  }

  /** For one attempt: calls below read them later, too, and interceptors below may write to them. */
  #ownOptions(): OptionsWithOwn {
    const deadline = this.#deadline;
    return deadline === undefined ? { ...this.options } : { ...this.options, deadline };
  }

  #repeated(attempt: AttemptRecord): Attempt {
    const metadata = attemptMetadata(this.metadata, this.record, attempt);
    // The first attempt is sent with the call below that a call above had made to learn the target.
    const made = attempt.number === 1 ? this.#made : undefined;
    const options = made?.options ?? this.#ownOptions();
    // Without the key, calls below take the first attempt of the record.
    if (attempt.number > 1 || options[attemptKey] !== undefined) options[attemptKey] = attempt;
    if (attempt.number > 1) limitAgain(options, this.record);
    return new Attempt(this, attempt, metadata, options);
  }

  /** Shows a response that was held back as unwanted. */
  protected accept(attempt: Attempt, status: StatusObject): void {
    const held = attempt.heldMessage;
    if (this.#ended || !this.#commit(attempt)) return;
    // If a listener above throws, the call still ends.
    try {
      this.#showHeldMetadata(attempt);
    } finally {
      try {
        if (held !== undefined) this.showMessage(held.message);
      } finally {
        this.conclude(status);
      }
    }
  }

  /** Cancels the attempts in flight. What they end with is judged as ever. */
  protected cancelAttempts(code: Status, details: string): void {
    for (const attempt of this.#live) attempt.cancel(code, details);
  }

  /** Cancels the attempts in flight, because the answer comes from elsewhere. Nothing more of theirs is shown. */
  protected abandonAttempts(code: Status, details: string): void {
    const live = this.#live;
    this.#live = noAttempts;
    for (const attempt of live) {
      attempt.lost = true;
      attempt.cancel(code, details);
    }
  }

  /** Lets the next attempt continue the response, with this request instead of the first. */
  protected resumeWith(request: unknown): void {
    const kept = keepRequest(this.options.method_definition, request, this);
    kept.settle(this);
    this.#committed = undefined;
    this.requests.replace(kept);
  }

  /**
   * Ends the call with the status of an attempt, behind the headers of that attempt, and cancels the other attempts.
   */
  protected conclude(status: StatusObject, attempt?: Attempt): void {
    if (this.#ended) return;
    try {
      if (attempt !== undefined) this.#showHeldMetadata(attempt);
    } finally {
      for (const other of this.#live) this.#lose(other);
      this.#conclude(status);
    }
  }

  // ---- From above.

  override start(metadata: Metadata, listener?: Partial<ClientListener>): void {
    if (this.#started) return;
    this.#started = true;
    this.#listener = listener;
    this.#metadata = metadata;
    if (this.#cancelled !== undefined) {
      this.finish(this.#cancelled);
      return;
    }
    this.#starting = true;
    try {
      if (!this.#beginParts()) return;
      this.trace = this.record.trace;
      if (this.#repeats) this.keepMetadata();
      this.begin();
    } finally {
      this.#starting = false;
    }
  }

  /** False when a part has ended the call. */
  #beginParts(): boolean {
    for (const part of this.steps.calls) {
      const watch = part.begin(this);
      if (watch !== undefined) {
        // A list of one takes less memory than one to which it is pushed.
        if (this.#watches === undefined) this.#watches = [watch];
        else this.#watches.push(watch);
      }
      if (this.#ended) return false;
    }
    return true;
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    if (this.#ended) {
      completeWrite(context);
      return;
    }
    const committed = this.#committed;
    if (committed?.caughtUp === true) {
      committed.send(this.steps.restores ? this.#restored(context) : context, message);
      return;
    }
    const { requests } = this;
    const kept = keepRequest(this.options.method_definition, message, this);
    requests.push(context, kept, this.replayable);
    if (this.replayable && requests.overfull) this.#overflow();
    if (kept.failure !== undefined && this.#waits) {
      this.finish(serializationFailed(kept.failure.error));
      return;
    }
    for (const attempt of this.#live) attempt.pump();
    if (kept !== message) kept.settle(this);
  }

  override sendMessage(message: unknown): void {
    this.sendMessageWithContext({}, message);
  }

  override halfClose(): void {
    if (this.#ended) return;
    this.requests.halfClose();
    for (const attempt of this.#live) attempt.pump();
  }

  override startRead(): void {
    if (this.#ended) return;
    const messages = this.#messages;
    if (messages === undefined || messages.length === 0) {
      this.#readWanted = true;
      this.#committed?.read();
      return;
    }
    // The message stays in the list until it is shown, so that an OK that comes in between waits behind it.
    process.nextTick(() => this.#showKept(messages));
  }

  override cancelWithStatus(code: Status, details: string): void {
    if (this.#ended) {
      // Also after the end, as in grpc-js: an interceptor may have ended the call while the one below it still runs.
      this.#committed?.cancel(code, details);
      return;
    }
    const cancelled = { code, details, metadata: new Metadata() };
    // Before the start there is no listener to tell. The status waits for it.
    if (!this.#started) {
      this.#cancelled ??= cancelled;
      this.unmake();
      return;
    }
    this.#cancelled = cancelled;
    if (this.#watches !== undefined) for (const watch of this.#watches) watch.cancelled?.();
    this.finish(cancelled);
  }

  override getPeer(): string {
    const told = peerOf((this.#committed ?? this.#latest)?.next);
    return told ?? (this.record.target || "unknown");
  }

  override getAuthContext(): ReturnType<InterceptingCall["getAuthContext"]> {
    return (this.#committed ?? this.#latest)?.authContext ?? null;
  }

  // ---- For the attempts.

  callFor({ options }: Attempt): ClientCall {
    if (this.#unmakeable !== undefined) {
      const { error } = this.#unmakeable;
      this.#unmakeable = undefined;
      throw error;
    }
    const made = this.#made;
    if (made?.options === options) {
      this.#made = undefined;
      return made.call;
    }
    this.unmake();
    const call = callBelow(this.#nextCall, options);
    mustBeCall(call);
    // A call of the toolkit makes the calls below it to learn the target: only for who needs it now.
    if (this.record.target === "" && (this.#repeats || !(reach in call))) {
      this.record.learnTarget(targetOf(call));
    }
    return call;
  }

  learnTarget({ options }: Attempt): void {
    const { record } = this;
    record.learnTarget(this.#targetBelow(options));
    if (record.target !== "") return;
    record.warnOnce(
      "target",
      "is not known: calls to all servers share the state of each policy. Give the client all of weir.client(), or the interceptor the option target",
    );
  }

  /** The target of the channel, for a call above that has to know it before the start. */
  targetBelow(): string {
    const next = this.#latest?.next;
    if (next !== undefined) return peerOf(next) ?? "unknown";
    return this.#targetBelow(this.#repeats ? this.#ownOptions() : this.options);
  }

  get countsResets(): boolean {
    return this.steps.tracked || countsResets(this.#latest?.next);
  }

  #targetBelow(options: OptionsWithOwn): string {
    if (this.#unmakeable !== undefined) return "unknown";
    if (this.#made === undefined) {
      try {
        const call = callBelow(this.#nextCall, options);
        mustBeCall(call);
        this.#made = { call, options };
      } catch (error) {
        // Reported when the call is started. A second try would run the interceptors below twice.
        this.#unmakeable = { error };
        return "unknown";
      }
    }
    return targetOf(this.#made.call);
  }

  unmake(): void {
    if (this.#made === undefined) return;
    cancelQuietly(this.#made.call, Status.CANCELLED, "Made for its target, and not started");
    this.#made = undefined;
  }

  attemptMetadata(attempt: Attempt, metadata: Metadata): void {
    if (this.#ended) return;
    const uncommitted = this.#committed === undefined;
    const headers = this.#streamedResponse || !uncommitted ? "final" : this.singleHeaders();
    if (headers === "held") attempt.heldMetadata = metadata;
    else if (headers === "shown") this.showMetadata(metadata);
    else if (this.#commit(attempt)) this.showMetadata(metadata);
  }

  attemptMessage(attempt: Attempt, message: unknown): void {
    if (this.#ended) return;
    if (!this.#streamedResponse && this.replayable && !this.wants(message)) {
      attempt.heldMessage = { message };
      return;
    }
    if (!this.#commit(attempt)) return;
    const { heldMetadata } = attempt;
    if (heldMetadata === undefined) {
      if (this.#streamedResponse) this.streamed(message);
      this.showMessage(message);
      return;
    }
    attempt.heldMetadata = undefined;
    // In one scope, which costs as much as what runs in it.
    if (this.steps.restores) {
      this.record.restoreWith(PipelineCall.#showResponse, this, heldMetadata, message);
    } else PipelineCall.#showResponse(this, heldMetadata, message);
  }

  attemptEnded(attempt: Attempt, status: StatusObject, failure: Failure | undefined): void {
    this.#live =
      this.#live.length === 1 ? noAttempts : this.#live.filter((other) => other !== attempt);
    attempt.stopWaiting?.();
    // The end of an attempt that has lost is not the end of the call.
    if (!this.#ended && !attempt.lost) this.afterAttempt(attempt, status, failure);
  }

  attemptWrote(attempt: Attempt, number: number, error: Parameters<Completion>[0]): void {
    const committed = this.#committed;
    // An attempt that has lost may be ahead. The caller writes at the pace of the one that goes on.
    if (this.#ended || (committed !== undefined && committed !== attempt)) return;
    this.requests.written(number, error);
    if (this.#committed === attempt) this.requests.dropBefore(number + 1);
    attempt.pump();
  }

  // ---- Inside.

  /** Who handles a message that is sent now. Between two attempts, the next is expected to be like the last. */
  [reach](): Reach {
    const { method_definition: definition } = this.options;
    for (const { next } of this.#live) {
      const below = reachOf(next, definition);
      if (below !== "open") return below;
    }
    return reachOf((this.#committed ?? this.#latest)?.next, definition);
  }

  /** Whether the call has begun and no call below is there, or about to end, that says what is wrong with a message. */
  get #waits(): boolean {
    return this.#started && this.#live.every((attempt) => attempt.waiting);
  }

  /** Makes the attempt the one that the caller sees. False when another one is already. */
  #commit(attempt: Attempt): boolean {
    if (this.#committed !== undefined) return this.#committed === attempt;
    this.#committed = attempt;
    for (const other of this.#live) {
      if (other !== attempt) this.#lose(other);
    }
    this.released();
    this.requests.dropBefore(attempt.writtenBefore);
    if (this.#readWanted) attempt.read();
    return true;
  }

  /**
   * Gives up an attempt. Cancelling it resets a stream, and servers limit resets. So it is cancelled only if its
   * connection has resets left. Otherwise it runs on, its response is dropped, and it is cancelled when there are
   * resets again.
   */
  #lose(attempt: Attempt): void {
    if (attempt.lost) return;
    attempt.lost = true;
    attempt.attempt.superseded = true;
    const { resets, target, priority } = this.record;
    const cancel = () => attempt.cancel(Status.CANCELLED, supersededText);
    // One that waits at a gate has no stream that would be reset.
    const unsent = attempt.next === undefined;
    if (unsent || resets === undefined || resets.take(target, "loser", attempt.attempt)) {
      cancel();
      return;
    }
    attempt.runOut(resets.later(target, "loser", attempt.attempt, cancel, priority));
    this.leftToRun(attempt);
  }

  /** The request cannot be kept any longer: the attempt that has sent most of it is the only one from now on. */
  #overflow(): void {
    this.#overflowed = true;
    this.outgrown();
    let furthest: Attempt | undefined;
    for (const attempt of this.#live) {
      if (furthest === undefined || attempt.cursor > furthest.cursor) furthest = attempt;
    }
    // Between two attempts there is none: then the next one is the last.
    if (furthest !== undefined) this.#commit(furthest);
  }

  /** The context of a write, with its callback in the caller's async context. */
  #restored(context: MessageContext): MessageContext {
    const { callback } = context;
    if (callback === undefined) return context;
    const { record } = this;
    let called = false;
    const restored: Completion = (error) => {
      // A writable stream of Node that is called back twice throws an uncaught error.
      if (called) return;
      called = true;
      record.restore(callback, error);
    };
    const { flags } = context;
    return flags === undefined ? { callback: restored } : { callback: restored, flags };
  }

  /** Keeps what is known of the call for who asks later. The result is the status for the caller. */
  #keep(received: StatusObject, history: History): StatusObject {
    const { record } = this;
    const facts = endedFacts(this, received, received === this.#cancelled);
    record.ended = facts;
    let status = received;
    // grpc-js gives the metadata of one failed connect to all calls that it fails. Each call has its own, to be known by.
    if (facts.code !== Status.OK && callOfFailure(status.metadata) !== undefined) {
      if (!isLocal(status)) status = { ...status, metadata: copyMetadata(status.metadata) };
    }
    const slow = facts.endedAtMs - facts.startedAtMs >= history.leastSlowMs;
    history.ended(facts, slow ? record.usual?.quantile(0.5) : undefined, status.metadata);
    if (history.onCall !== undefined) record.restore(() => history.tell(facts));
    return status;
  }

  [callFacts](): KnownCall {
    const { record, trace } = this;
    return knownCall(record.ended ?? runningFacts(record, trace), record.clock);
  }

  // ---- The response, as the caller sees it.

  /** Shows response headers, once. A response that is resumed has headers with each of its parts. */
  protected showMetadata(metadata: Metadata): void {
    if (this.#ended || this.#headersShown) return;
    this.#headersShown = true;
    const listener = this.#listener;
    if (listener?.onReceiveMetadata === undefined) return;
    if (this.steps.restores) this.record.restoreWith(emitMetadata, listener, metadata, undefined);
    else emitMetadata(listener, metadata);
  }

  /** Shows a single response whose headers were held back. Called in the caller's async context. */
  static readonly #showResponse = (
    call: PipelineCall,
    metadata: Metadata,
    message: unknown,
  ): void => {
    const listener = call.#listener;
    try {
      if (!call.#headersShown) {
        call.#headersShown = true;
        listener?.onReceiveMetadata?.(metadata);
      }
    } finally {
      if (!call.#ended) {
        call.#readWanted = false;
        call.#answered = true;
        listener?.onReceiveMessage?.(message);
      }
    }
  };

  #showHeldMetadata(attempt: Attempt): void {
    const metadata = attempt.heldMetadata;
    if (metadata === undefined) return;
    attempt.heldMetadata = undefined;
    this.showMetadata(metadata);
  }

  /**
   * Messages of a streamed response are shown when the caller has asked for one. Where another attempt may follow, an
   * attempt reads its first message before that, because grpc-js applies flow control only from the first read on.
   */
  protected showMessage(message: unknown): void {
    if (this.#ended) return;
    if (this.#streamedResponse && this.#repeats && !this.#readWanted) {
      this.#messages ??= [];
      this.#messages.push(message);
      return;
    }
    this.#readWanted = false;
    this.#answered = true;
    this.#emitMessage(message);
  }

  #showKept(messages: unknown[]): void {
    if (this.#ended || messages.length === 0) return;
    try {
      this.#emitMessage(messages.shift());
    } finally {
      if (this.#heldStatus !== undefined && messages.length === 0) this.#conclude(this.#heldStatus);
    }
  }

  #emitMessage(message: unknown): void {
    const listener = this.#listener;
    if (listener?.onReceiveMessage === undefined) return;
    if (this.steps.restores) this.record.restoreWith(emitMessage, listener, message, undefined);
    else emitMessage(listener, message);
  }

  /** Ends the call now, with a status from below. */
  #conclude(received: StatusObject): void {
    if (this.#ended) return;
    let status = received;
    if (this.#watches !== undefined) {
      for (let index = this.#watches.length - 1; index >= 0; index -= 1) {
        status = this.#watches[index]?.ending?.(status) ?? status;
      }
    }
    this.#ended = true;
    this.#close();
    this.#emit(status);
  }

  #close(): void {
    this.#messages = undefined;
    this.unmake();
    this.requests.clear();
    this.released();
  }

  #emit(received: StatusObject): void {
    const { record } = this;
    const { history } = this.steps;
    const listener = this.#listener;
    const unanswered = !this.#streamedResponse && !this.#answered;
    if (this.#watches !== undefined) for (const watch of this.#watches) watch.ended?.(received);
    const status = history === undefined ? received : this.#keep(received, history);
    // What holds on to the call after its end must not hold its response, its listener and its span.
    this.#watches = undefined;
    this.#listener = undefined;
    if (!this.steps.restores) {
      emitEnd(listener, status, unanswered);
      return;
    }
    // In case the handler passes the failure on.
    if (status.code !== Status.OK) record.inbound?.failedBelow(status);
    record.restore(emitEnd, listener, status, unanswered);
  }
}

type Completion = NonNullable<MessageContext["callback"]>;

function emitMetadata(listener: Partial<ClientListener>, metadata: Metadata): void {
  listener.onReceiveMetadata?.(metadata);
}

function emitMessage(listener: Partial<ClientListener>, message: unknown): void {
  listener.onReceiveMessage?.(message);
}

function cancelCode({ code }: StatusObject): Status {
  return code === Status.OK ? Status.CANCELLED : code;
}

/** The wall clock may have been set since the call began. A `CallDeadline` considers that itself. */
function limitAgain(options: OptionsWithOwn, { deadlineMs, clock }: CallRecord): void {
  if (deadlineMs === Number.POSITIVE_INFINITY || options.deadline instanceof CallDeadline) return;
  options.deadline = toEpoch(deadlineMs, clock);
}

/**
 * The metadata of one attempt, with the number of attempts before it (gRFC A6), and with the number of services that
 * are retrying, this one included.
 *
 * @param base The metadata of the call. It is not written to.
 */
function attemptMetadata(
  base: Metadata,
  { inbound }: CallRecord,
  { previous }: AttemptRecord,
): Metadata {
  const depth = (inbound?.retryDepth ?? 0) + (previous > 0 ? 1 : 0);
  if (depth === 0) return base;
  const metadata = copyMetadata(base);
  if (previous > 0) metadata.set(previousAttemptsKey, String(previous));
  metadata.set(retryDepthKey, String(depth));
  return metadata;
}
