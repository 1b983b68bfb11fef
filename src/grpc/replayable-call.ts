import {
  type InterceptingCall,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { AttemptDecisions } from "./attempt-decisions.js";
import { attemptMetadata, attemptOptions } from "./attempt-options.js";
import { AttemptSet } from "./attempt-set.js";
import {
  type AttemptRecord,
  type CallRecord,
  endAttempt,
  type OptionsWithOwn,
} from "./call-record.js";
import { callBelow } from "./deadline.js";
import { targetOf } from "./forwarding-call.js";
import { keepMetadata } from "./kept-metadata.js";
import { type KeepingCall, keepRequest, type Reach, reach, reachOf } from "./kept-request.js";
import { serializationFailed } from "./local-status.js";
import { type AttemptOwner, ReplayAttempt } from "./replay-attempt.js";
import { ReplayBuffer, type ReplayLimits } from "./replay-buffer.js";
import { ResponseSink } from "./response-sink.js";
import { supersededText } from "./status-origin.js";
import type { ClientListener, MessageContext } from "./types.js";
import { completeWrite } from "./write-queue.js";

/**
 * A call that can run as several attempts, one after another or side by side. It keeps request and metadata
 * as they were given, sends them with each attempt, and shows the caller exactly one response.
 *
 * An attempt is committed by its response headers (streamed responses), by its message or OK (single
 * responses, whose headers wait until then where another attempt may follow), or because the request has outgrown the buffer: then it
 * cannot be sent again. After that no other attempt starts. The source of these rules is gRFC A6; holding
 * back the headers of a single response is ours, and lets a failure behind headers be retried.
 *
 * What to do after a failed attempt is the subclass's decision: it launches another or concludes.
 */
export abstract class ReplayableCall extends AttemptDecisions implements AttemptOwner, KeepingCall {
  protected readonly record: CallRecord;
  protected readonly options: OptionsWithOwn;
  readonly #nextCall: NextCall;
  readonly #buffer: ReplayBuffer;
  readonly #streamedResponse: boolean;
  #metadata: Metadata | undefined;
  #response: ResponseSink | undefined;
  readonly #attempts = new AttemptSet();
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
    const { requestStream, responseStream } = options.method_definition;
    this.#streamedResponse = responseStream;
    this.#buffer = new ReplayBuffer(limits, requestStream);
  }

  // ---- For subclasses.

  protected override afterUnwanted(attempt: ReplayAttempt, status: StatusObject): void {
    this.accept(attempt, status);
  }

  protected get ended(): boolean {
    return this.#response?.ended === true;
  }

  /** Another attempt could send the whole request. */
  protected get replayable(): boolean {
    return this.#attempts.committed === undefined && !this.#overflowed;
  }

  /** Attempts that run. */
  protected get inFlight(): number {
    return this.#attempts.live.length;
  }

  /** Starts an attempt. Nothing happens once the call has ended or is committed. */
  protected launch(cause: AttemptRecord["cause"], delayMs: number, after?: StatusObject): void {
    const base = this.#metadata;
    if (this.ended || this.#attempts.committed !== undefined || base === undefined) return;
    const { record } = this;
    const attempt = new ReplayAttempt(
      this,
      record.startAttempt(cause, delayMs, after),
      this.#buffer,
      this.options.method_definition,
    );
    this.#attempts.add(attempt);
    try {
      const options = attemptOptions(this.options, record, attempt.record);
      const call = callBelow(this.#nextCall, options);
      if (record.target === "") record.learnTarget(targetOf(call));
      attempt.start(call, attemptMetadata(base, record, attempt.record));
    } catch (error) {
      attempt.fail(error);
      return;
    }
    // Before the first read the response is not flow-controlled at all, so each attempt gets one.
    if (this.#streamedResponse) attempt.read();
    if (this.#overflowed) this.#commit(attempt);
    attempt.pump();
  }

  /** Shows a held response after all. */
  protected accept(attempt: ReplayAttempt, status: StatusObject): void {
    const held = attempt.heldMessage;
    if (this.ended || !this.#commit(attempt)) return;
    // Whatever a listener above throws, the end is told.
    try {
      this.#showHeldMetadata(attempt);
    } finally {
      try {
        if (held !== undefined) this.#response?.message(held.message);
      } finally {
        this.conclude(status);
      }
    }
  }

  /** The next attempt continues the response, with this request instead of the first. */
  protected resumeWith(request: unknown): void {
    const kept = keepRequest(this.options.method_definition, request, this);
    kept.settle(this);
    this.#attempts.reopen();
    this.#buffer.replace(kept);
  }

  /** Ends the call with the status of an attempt, shows the headers that came with it, and calls off the others. */
  protected conclude(status: StatusObject, attempt?: ReplayAttempt): void {
    if (this.ended) return;
    try {
      if (attempt !== undefined) this.#showHeldMetadata(attempt);
    } finally {
      for (const other of this.#attempts.live) this.#lose(other);
      this.#response?.end(status);
    }
  }

  /** Calls everything off and ends the call with a status of our own, asynchronously. */
  protected finish(status: StatusObject): void {
    if (this.ended) return;
    this.#response?.endLater(status);
    this.#attempts.cancelAll(status.code, status.details);
  }

  // ---- From above.

  override start(metadata: Metadata, listener?: Partial<ClientListener>): void {
    if (this.#response !== undefined) return;
    this.#metadata = keepMetadata(metadata);
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
    const committed = this.#attempts.committed;
    if (committed?.caughtUp === true) {
      committed.send(context, message);
      return;
    }
    const kept = keepRequest(this.options.method_definition, message, this);
    this.#buffer.push(context, kept, this.replayable);
    if (this.replayable && this.#buffer.overfull) this.#overflow();
    if (kept.failure !== undefined && this.inFlight === 0) {
      this.finish(serializationFailed(kept.failure.error));
      return;
    }
    this.#attempts.pump();
    if (kept !== message) kept.settle(this);
  }

  override sendMessage(message: unknown): void {
    this.sendMessageWithContext({}, message);
  }

  override halfClose(): void {
    this.#buffer.halfClose();
    this.#attempts.pump();
  }

  override startRead(): void {
    if (this.#response?.read() === true) this.#attempts.committed?.read();
  }

  override cancelWithStatus(code: Status, details: string): void {
    if (this.ended) return;
    const cancelled = { code, details, metadata: new Metadata() };
    // Before the start there is no listener to tell. The status waits for it.
    if (this.#response === undefined) this.#cancelled ??= cancelled;
    else this.finish(cancelled);
  }

  override getPeer(): string {
    return this.#attempts.telling?.peer ?? (this.record.target || "unknown");
  }

  override getAuthContext(): ReturnType<InterceptingCall["getAuthContext"]> {
    return this.#attempts.telling?.authContext ?? null;
  }

  // ---- From the attempts.

  attemptMetadata(attempt: ReplayAttempt, metadata: Metadata): void {
    if (this.ended) return;
    const uncommitted = this.#attempts.committed === undefined;
    const headers = this.#streamedResponse || !uncommitted ? "final" : this.singleHeaders();
    if (headers === "held") attempt.heldMetadata = metadata;
    else if (headers === "shown") this.#response?.metadata(metadata);
    else if (this.#commit(attempt)) this.#response?.metadata(metadata);
  }

  attemptMessage(attempt: ReplayAttempt, message: unknown): void {
    if (this.ended) return;
    if (!this.#streamedResponse && this.replayable && !this.wants(message)) {
      attempt.heldMessage = { message };
      return;
    }
    if (!this.#commit(attempt)) return;
    try {
      this.#showHeldMetadata(attempt);
    } finally {
      if (this.#streamedResponse) this.streamed(message);
      this.#response?.message(message);
    }
  }

  attemptStatus(attempt: ReplayAttempt, status: StatusObject): void {
    this.#attempts.remove(attempt);
    const { record } = this;
    const evidence = {
      sawHeaders: attempt.sawHeaders,
      peer: attempt.peer ?? record.target,
      target: record.target,
      calledOff: attempt.calledOffBy(status),
      unknown: record.unknownTexts,
      resets: record.resets,
    };
    const failure = endAttempt(attempt.record, status, evidence, record.clock.now());
    attempt.stopWaiting?.();
    // One that has lost may run out. However it ends, it is not the call's end.
    const { committed } = this.#attempts;
    if (this.ended || (committed !== undefined && committed !== attempt)) return;
    if (failure === undefined) {
      this.succeeded(attempt);
      if (attempt.heldMessage !== undefined && this.#attempts.committed === undefined) {
        this.afterUnwanted(attempt, status);
        return;
      }
      if (!this.#commit(attempt)) return;
      if (this.#response?.holdBehindMessage(status) !== true) this.conclude(status, attempt);
    } else if (this.#attempts.committed === undefined) this.afterFailure(attempt, failure);
    else if (
      this.#attempts.committed === attempt &&
      !this.afterCommittedFailure(attempt, failure)
    ) {
      this.conclude(status, attempt);
    }
  }

  attemptWrote(attempt: ReplayAttempt, number: number): void {
    const { committed } = this.#attempts;
    // One that has lost may have written more: it must not pull the caller on ahead of the one that goes on.
    if (this.ended || (committed !== undefined && committed !== attempt)) return;
    this.#buffer.written(number);
    if (this.#attempts.committed === attempt) this.#buffer.dropBefore(number + 1);
    attempt.pump();
  }

  // ---- Inside.

  /** What a message meets that is sent now. Between two attempts, the next is expected to be like the last. */
  [reach](): Reach {
    const { method_definition: definition } = this.options;
    const { live, telling } = this.#attempts;
    for (const { call } of live) {
      const below = reachOf(call, definition);
      if (below !== "open") return below;
    }
    return reachOf(telling?.call, definition);
  }

  /** Makes the attempt the one that the caller sees. False when another one is. */
  #commit(attempt: ReplayAttempt): boolean {
    if (this.#attempts.committed !== undefined) return this.#attempts.committed === attempt;
    this.#attempts.commit(attempt);
    for (const other of this.#attempts.live) {
      if (other === attempt) continue;
      other.record.superseded = true;
      this.#lose(other);
    }
    this.released();
    this.#buffer.dropBefore(attempt.writtenBefore);
    if (this.#response?.readWanted === true) attempt.read();
    return true;
  }

  /**
   * The attempt is not the call's any longer. It is called off, at the cost of a reset, as long as its connection bears
   * that; else it runs out, and what comes of it is dropped. One that does not end by itself is called off in its turn.
   */
  #lose(attempt: ReplayAttempt): void {
    if (attempt.lost) return;
    attempt.lost = true;
    const { record } = this;
    const { resets, target } = record;
    const cancel = () => attempt.cancel(Status.CANCELLED, supersededText);
    if (resets === undefined || resets.take(target, "loser", attempt.record)) {
      cancel();
      return;
    }
    attempt.runOut(resets.later(target, "loser", attempt.record, cancel));
    this.leftToRun(attempt);
  }

  #showHeldMetadata(attempt: ReplayAttempt): void {
    const metadata = attempt.heldMetadata;
    if (metadata === undefined) return;
    attempt.heldMetadata = undefined;
    this.#response?.metadata(metadata);
  }

  /** The request cannot be kept any longer: the attempt that has sent most of it stays, alone. */
  #overflow(): void {
    this.#overflowed = true;
    this.outgrown();
    const { furthest } = this.#attempts;
    // Between two attempts there is none; the next one to be launched will be the last.
    if (furthest !== undefined) this.#commit(furthest);
  }
}
