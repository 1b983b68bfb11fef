import {
  InterceptingCall,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import {
  type AttemptRecord,
  attemptKey,
  type CallRecord,
  endAttempt,
  type OptionsWithOwn,
} from "../context/call-record.js";
import { CallDeadline, callBelow, toEpoch } from "../deadline.js";
import { previousAttemptsKey, retryDepthKey } from "../metadata.js";
import { serializationFailed } from "../status/local.js";
import { supersededText } from "../status/origin.js";
import type { Failure } from "../status/outcome.js";
import type { ClientListener, MessageContext } from "../types.js";
import { completeWrite, targetOf } from "./forwarding-call.js";
import { copyMetadata, keepMetadata } from "./kept-metadata.js";
import { type KeepingCall, keepRequest, type Reach, reach, reachOf } from "./kept-request.js";
import {
  type AttemptOwner,
  ReplayAttempt,
  ReplayBuffer,
  type ReplayLimits,
} from "./replay-attempt.js";
import { ResponseSink } from "./response-sink.js";

/**
 * A call that can run as several attempts, one after another or side by side. It keeps request and metadata as the
 * caller gave them, sends them with each attempt, and shows the caller exactly one response.
 *
 * An attempt is committed when the caller sees it; then no other attempt starts. It is committed by
 *
 * - its response headers, where the response is streamed;
 * - its message or its OK, where the response is a single message: the headers wait for that as long as another attempt
 *   may follow;
 * - a request that has outgrown the replay buffer, so that it cannot be sent again.
 *
 * These are the rules of gRFC A6 (https://github.com/grpc/proposal/blob/master/A6-client-retries.md). Holding back the
 * headers of a single response goes beyond them, so that a failure behind headers can be retried.
 *
 * The subclass decides after a failed attempt: it launches another, or concludes the call.
 */
export abstract class ReplayableCall extends InterceptingCall implements AttemptOwner, KeepingCall {
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

  // ---- Decisions of the subclass.

  /** An uncommitted attempt has failed. Launch another, conclude the call, or wait for the attempts in flight. */
  protected abstract afterFailure(attempt: ReplayAttempt, failure: Failure): void;

  /**
   * The attempt that the caller sees has failed. True when the subclass has given another request to `resumeWith`, and
   * will launch an attempt that continues the response.
   */
  protected afterCommittedFailure(_attempt: ReplayAttempt, _failure: Failure): boolean {
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
  protected afterUnwanted(attempt: ReplayAttempt, status: StatusObject): void {
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
  protected succeeded(_attempt: ReplayAttempt): void {}

  /** An attempt that has lost is not cancelled, because its connection has no stream resets left. */
  protected leftToRun(_attempt: ReplayAttempt): void {}

  /** A message of a streamed response is about to be shown. */
  protected streamed(_message: unknown): void {}

  /** The request has outgrown its buffer: the attempt that has sent most of it, or else the next one, is the last. */
  protected outgrown(): void {}

  /** The call has ended, or an attempt has been committed. Cancels timers. */
  protected abstract released(): void;

  // ---- For subclasses.

  protected get ended(): boolean {
    return this.#response?.ended === true;
  }

  /** Whether another attempt could send the whole request. */
  protected get replayable(): boolean {
    return this.#attempts.committed === undefined && !this.#overflowed;
  }

  /** How many attempts run. */
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
    // grpc-js applies flow control to a response only from the first read on.
    if (this.#streamedResponse) attempt.read();
    if (this.#overflowed) this.#commit(attempt);
    attempt.pump();
  }

  /** Shows a response that was held back as unwanted. */
  protected accept(attempt: ReplayAttempt, status: StatusObject): void {
    const held = attempt.heldMessage;
    if (this.ended || !this.#commit(attempt)) return;
    // If a listener above throws, the call still ends.
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

  /** Lets the next attempt continue the response, with this request instead of the first. */
  protected resumeWith(request: unknown): void {
    const kept = keepRequest(this.options.method_definition, request, this);
    kept.settle(this);
    this.#attempts.reopen();
    this.#buffer.replace(kept);
  }

  /**
   * Ends the call with the status of an attempt, behind the headers of that attempt, and cancels the other attempts.
   */
  protected conclude(status: StatusObject, attempt?: ReplayAttempt): void {
    if (this.ended) return;
    try {
      if (attempt !== undefined) this.#showHeldMetadata(attempt);
    } finally {
      for (const other of this.#attempts.live) this.#lose(other);
      this.#response?.end(status);
    }
  }

  /** Cancels all attempts and ends the call with this status, asynchronously. */
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
      ownCancel: attempt.cancelledBy(status),
      unknown: record.unknownTexts,
      resets: record.resets,
    };
    const failure = endAttempt(attempt.record, status, evidence, record.clock.now());
    attempt.stopWaiting?.();
    // The end of an attempt that has lost is not the end of the call.
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
    // An attempt that has lost may be ahead. The caller writes at the pace of the one that goes on.
    if (this.ended || (committed !== undefined && committed !== attempt)) return;
    this.#buffer.written(number);
    if (this.#attempts.committed === attempt) this.#buffer.dropBefore(number + 1);
    attempt.pump();
  }

  // ---- Inside.

  /** Who handles a message that is sent now. Between two attempts, the next is expected to be like the last. */
  [reach](): Reach {
    const { method_definition: definition } = this.options;
    const { live, telling } = this.#attempts;
    for (const { call } of live) {
      const below = reachOf(call, definition);
      if (below !== "open") return below;
    }
    return reachOf(telling?.call, definition);
  }

  /** Makes the attempt the one that the caller sees. False when another one is already. */
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
   * Gives up an attempt. Cancelling it resets a stream, and servers limit resets. So it is cancelled only if its
   * connection has resets left. Otherwise it runs on, its response is dropped, and it is cancelled when there are
   * resets again.
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

  /** The request cannot be kept any longer: the attempt that has sent most of it is the only one from now on. */
  #overflow(): void {
    this.#overflowed = true;
    this.outgrown();
    const { furthest } = this.#attempts;
    // Between two attempts there is none: then the next one is the last.
    if (furthest !== undefined) this.#commit(furthest);
  }
}

/** The attempts of one call that run, and the committed one. */
class AttemptSet {
  #live: readonly ReplayAttempt[] = [];
  #latest: ReplayAttempt | undefined;
  #committed: ReplayAttempt | undefined;

  /** Attempts that run. */
  get live(): readonly ReplayAttempt[] {
    return this.#live;
  }

  get committed(): ReplayAttempt | undefined {
    return this.#committed;
  }

  /** The attempt whose peer is the call's: the committed one, or else the latest. */
  get telling(): ReplayAttempt | undefined {
    return this.#committed ?? this.#latest;
  }

  /** The one that has sent most of the request. */
  get furthest(): ReplayAttempt | undefined {
    let furthest: ReplayAttempt | undefined;
    for (const attempt of this.#live) {
      if (furthest === undefined || attempt.cursor > furthest.cursor) furthest = attempt;
    }
    return furthest;
  }

  add(attempt: ReplayAttempt): void {
    this.#live = [...this.#live, attempt];
    this.#latest = attempt;
  }

  remove(attempt: ReplayAttempt): void {
    this.#live = this.#live.filter((other) => other !== attempt);
  }

  /** The caller sees this attempt from now on. */
  commit(attempt: ReplayAttempt): void {
    this.#committed = attempt;
  }

  /** The committed attempt has failed, and another will continue its response. */
  reopen(): void {
    this.#committed = undefined;
  }

  cancelAll(code: Status, details: string): void {
    for (const attempt of this.#live) attempt.cancel(code, details);
  }

  pump(): void {
    for (const attempt of this.#live) attempt.pump();
  }
}

/** The call options of one attempt. */
function attemptOptions(
  options: OptionsWithOwn,
  { deadlineMs, clock }: CallRecord,
  attempt: AttemptRecord,
): OptionsWithOwn {
  // Set before the copying and again after it, as in `recordTransformer`.
  const own: OptionsWithOwn = { [attemptKey]: attempt, ...options };
  own[attemptKey] = attempt;
  // The wall clock may have been set since the call began. A `CallDeadline` considers that itself.
  const again = attempt.number > 1 && deadlineMs !== Number.POSITIVE_INFINITY;
  if (again && !(own.deadline instanceof CallDeadline)) own.deadline = toEpoch(deadlineMs, clock);
  return own;
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
