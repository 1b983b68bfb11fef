import {
  InterceptingCall,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import type { StatusOrigin } from "../core/origin.js";
import {
  type AttemptRecord,
  attemptKey,
  type CallRecord,
  endAttempt,
  type OptionsWithOwn,
} from "./call-record.js";
import { toEpoch } from "./deadline.js";
import { channelClosed, interceptorThrew } from "./local-status.js";
import { previousAttemptsKey } from "./metadata-keys.js";
import { type AttemptOwner, ReplayAttempt } from "./replay-attempt.js";
import { ReplayBuffer } from "./replay-buffer.js";
import { ResponseSink } from "./response-sink.js";
import type { ClientListener, MessageContext } from "./types.js";
import { completeWrite } from "./write-queue.js";

/** How much of a streamed request is kept for another attempt. */
export interface ReplayLimits {
  readonly maxBufferBytes: number;
  readonly maxBufferMessages: number;
}

/**
 * A call that can run as several attempts, one after another or side by side. It keeps the request,
 * gives each attempt metadata of its own, and shows the caller exactly one response.
 *
 * An attempt is committed by its response headers (streamed responses), by its message or OK (single
 * responses, whose headers wait until then), or because the request has outgrown the buffer: then it
 * cannot be sent again. After that no other attempt starts. The source of these rules is gRFC A6; holding
 * back the headers of a single response is ours, and lets a failure behind headers be retried.
 *
 * What to do after a failed attempt is the subclass's decision: it launches another or concludes.
 */
export abstract class ReplayableCall extends InterceptingCall implements AttemptOwner {
  protected readonly record: CallRecord;
  protected readonly options: OptionsWithOwn;
  readonly #nextCall: NextCall;
  readonly #limits: ReplayLimits;
  readonly #buffer = new ReplayBuffer();
  readonly #streamedRequest: boolean;
  readonly #streamedResponse: boolean;
  #metadata: Metadata | undefined;
  #response: ResponseSink | undefined;
  #live: ReplayAttempt[] = [];
  #latest: ReplayAttempt | undefined;
  #committed: ReplayAttempt | undefined;
  #requestEnded = false;
  #overflowed = false;
  #cancelled: StatusObject | undefined;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    limits: ReplayLimits,
  ) {
    // Never used: every method is overridden.
    super(undefined as never);
    this.options = options;
    this.#nextCall = nextCall;
    this.record = record;
    this.#limits = limits;
    const { requestStream, responseStream } = options.method_definition;
    this.#streamedRequest = requestStream;
    this.#streamedResponse = responseStream;
  }

  // ---- For subclasses.

  /** An attempt ended, not OK and not committed. Launch another, conclude, or wait for those in flight. */
  protected abstract afterFailure(
    attempt: ReplayAttempt,
    status: StatusObject,
    origin: StatusOrigin,
  ): void;

  /** The call has ended, or is being called off. Releases timers. */
  protected abstract released(): void;

  protected get ended(): boolean {
    return this.#response?.ended === true;
  }

  /** Another attempt could send the whole request. */
  protected get replayable(): boolean {
    return this.#committed === undefined && !this.#overflowed;
  }

  /** Attempts that run. */
  protected get inFlight(): number {
    return this.#live.length;
  }

  /** Starts an attempt. Nothing happens once the call has ended or is committed. */
  protected launch(cause: AttemptRecord["cause"], delayMs: number, after?: StatusObject): void {
    const base = this.#metadata;
    if (this.ended || this.#committed !== undefined || base === undefined) return;
    const { record } = this;
    const attempt = new ReplayAttempt(
      this,
      record.startAttempt(cause, delayMs, after),
      this.#buffer,
    );
    // A clone for each attempt: what an interceptor below adds for one must not reach the next.
    const metadata = base.clone();
    const previous = attempt.record.number - 1;
    if (previous > 0) metadata.set(previousAttemptsKey, String(previous));
    this.#live.push(attempt);
    this.#latest = attempt;
    try {
      attempt.start(this.#nextCall(this.#attemptOptions(attempt)), metadata);
    } catch (error) {
      const failed = channelClosed(error) ?? interceptorThrew(error);
      process.nextTick(() => attempt.onReceiveStatus(failed));
      return;
    }
    // Before the first read the response is not flow-controlled at all, so each attempt gets one.
    if (this.#streamedResponse) attempt.read();
    if (this.#overflowed) this.#commit(attempt);
    attempt.pump(this.#requestEnded);
  }

  /** Ends the call with the status of an attempt, and shows the headers that came with it. */
  protected conclude(status: StatusObject, attempt?: ReplayAttempt): void {
    if (this.ended) return;
    if (attempt !== undefined) this.#showHeldMetadata(attempt);
    this.#response?.end(status);
  }

  /** Calls everything off and ends the call with a status of our own, asynchronously. */
  protected finish(status: StatusObject): void {
    if (this.ended) return;
    this.#response?.endLater(status);
    for (const attempt of this.#live) attempt.cancel(status.code, status.details);
  }

  // ---- From above.

  override start(metadata: Metadata, listener?: Partial<ClientListener>): void {
    this.#metadata = metadata;
    this.#response = new ResponseSink(listener, this.#streamedResponse, () => {
      this.#buffer.clear();
      this.released();
    });
    if (this.#cancelled !== undefined) this.finish(this.#cancelled);
    else this.launch("first", 0);
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    if (this.ended) {
      completeWrite(context);
      return;
    }
    const committed = this.#committed;
    if (committed?.caughtUp === true && committed.call !== undefined) {
      committed.call.sendMessageWithContext(context, message);
      return;
    }
    const bytes = this.#streamedRequest && this.replayable ? this.#measure(message) : 0;
    this.#buffer.push(context, message, bytes);
    if (this.#streamedRequest && this.replayable && this.#overfull()) this.#overflow();
    for (const attempt of this.#live) attempt.pump(this.#requestEnded);
  }

  override sendMessage(message: unknown): void {
    this.sendMessageWithContext({}, message);
  }

  override halfClose(): void {
    this.#requestEnded = true;
    for (const attempt of this.#live) attempt.pump(true);
  }

  override startRead(): void {
    if (this.#response?.read() === true) this.#committed?.read();
  }

  override cancelWithStatus(code: Status, details: string): void {
    if (this.ended) return;
    const cancelled = { code, details, metadata: new Metadata() };
    // Before the start there is no listener to tell. The status waits for it.
    if (this.#response === undefined) this.#cancelled ??= cancelled;
    else this.finish(cancelled);
  }

  override getPeer(): string {
    return (this.#committed ?? this.#latest)?.peer ?? (this.record.target || "unknown");
  }

  override getAuthContext(): ReturnType<InterceptingCall["getAuthContext"]> {
    return (this.#committed ?? this.#latest)?.call?.getAuthContext() ?? null;
  }

  // ---- From the attempts.

  attemptMetadata(attempt: ReplayAttempt, metadata: Metadata): void {
    if (this.ended) return;
    if (!this.#streamedResponse && this.#committed === undefined) attempt.heldMetadata = metadata;
    else if (this.#commit(attempt)) this.#response?.metadata(metadata);
  }

  attemptMessage(attempt: ReplayAttempt, message: unknown): void {
    if (this.ended || !this.#commit(attempt)) return;
    this.#showHeldMetadata(attempt);
    this.#response?.message(message);
  }

  attemptStatus(attempt: ReplayAttempt, status: StatusObject): void {
    this.#live = this.#live.filter((other) => other !== attempt);
    const { record } = this;
    const evidence = {
      sawHeaders: attempt.sawHeaders,
      peer: attempt.peer ?? record.target,
      target: record.target,
    };
    const origin = endAttempt(attempt.record, status, evidence, record.clock.now());
    if (this.ended) return;
    if (status.code === Status.OK) {
      if (!this.#commit(attempt)) return;
      this.#showHeldMetadata(attempt);
      if (this.#response?.holdBehindMessage(status) !== true) this.conclude(status);
    } else if (this.#committed === undefined) this.afterFailure(attempt, status, origin);
    else if (this.#committed === attempt) this.conclude(status, attempt);
  }

  attemptWrote(attempt: ReplayAttempt, number: number): void {
    if (this.ended) return;
    this.#buffer.written(number);
    if (this.#committed === attempt) this.#buffer.dropBefore(number + 1);
    attempt.pump(this.#requestEnded);
  }

  // ---- Inside.

  #attemptOptions(attempt: ReplayAttempt): OptionsWithOwn {
    const options: OptionsWithOwn = { ...this.options, [attemptKey]: attempt.record };
    // A later attempt reads the wall clock anew: it may have been set since the call began.
    if (attempt.record.number > 1 && this.record.deadlineMs !== Number.POSITIVE_INFINITY) {
      options.deadline = toEpoch(this.record.deadlineMs, this.record.clock);
    }
    return options;
  }

  /** Makes the attempt the one that the caller sees. False when another one is. */
  #commit(attempt: ReplayAttempt): boolean {
    if (this.#committed !== undefined) return this.#committed === attempt;
    this.#committed = attempt;
    this.released();
    for (const other of this.#live) {
      if (other !== attempt) other.cancel(Status.CANCELLED, "Another attempt answered first");
    }
    this.#buffer.dropBefore(attempt.writtenBefore);
    if (this.#response?.readWanted === true) attempt.read();
    return true;
  }

  #showHeldMetadata(attempt: ReplayAttempt): void {
    const metadata = attempt.heldMetadata;
    if (metadata === undefined) return;
    attempt.heldMetadata = undefined;
    this.#response?.metadata(metadata);
  }

  #measure(message: unknown): number {
    try {
      return this.options.method_definition.requestSerialize(message).length;
    } catch {
      // It will fail again where it is sent, and end the call there.
      return 0;
    }
  }

  #overfull(): boolean {
    const { maxBufferBytes, maxBufferMessages } = this.#limits;
    return this.#buffer.bytes > maxBufferBytes || this.#buffer.messages > maxBufferMessages;
  }

  /** The request cannot be kept any longer: the attempt that has sent most of it stays, alone. */
  #overflow(): void {
    this.#overflowed = true;
    let furthest = this.#live[0];
    for (const attempt of this.#live) {
      if (furthest === undefined || attempt.cursor > furthest.cursor) furthest = attempt;
    }
    // Between two attempts there is none; the next one to be launched will be the last.
    if (furthest !== undefined) this.#commit(furthest);
  }
}
