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

/** What a call with several attempts is asked while they run. The answers are the policy's, not the machinery's. */
abstract class AttemptDecisions extends InterceptingCall {
  /** An attempt ended, not OK and not committed. Launch another, conclude, or wait for those in flight. */
  protected abstract afterFailure(attempt: ReplayAttempt, failure: Failure): void;

  /**
   * Whether a single response is what the caller wants. One that is not is held back: when its attempt has ended
   * OK, `afterUnwanted` launches another or accepts it after all.
   */
  protected wants(_message: unknown): boolean {
    return true;
  }

  /**
   * What becomes of the headers of a single response. `held`: another attempt may follow a failure behind them, so they
   * wait for the message. `final`: none can, so they are shown, and the attempt is the one that the caller sees. `shown`:
   * none will, because attempts are only observed.
   */
  protected singleHeaders(): "held" | "final" | "shown" {
    return "held";
  }

  protected abstract afterUnwanted(attempt: ReplayAttempt, status: StatusObject): void;

  /** An attempt ended OK. */
  protected succeeded(_attempt: ReplayAttempt): void {}

  /** An attempt that has lost is left to run: its connection bears no further reset now. */
  protected leftToRun(_attempt: ReplayAttempt): void {}

  /** A message of a streamed response came in. */
  protected streamed(_message: unknown): void {}

  /** The request is no longer kept: the attempt that has sent most of it, or the next one, is the last. */
  protected outgrown(): void {}

  /**
   * The attempt that the caller sees has failed. True when the subclass goes on with another request, which it
   * has said with `resumeWith`.
   */
  protected afterCommittedFailure(_attempt: ReplayAttempt, _failure: Failure): boolean {
    return false;
  }

  /** The call has ended, or is being called off. Releases timers. */
  protected abstract released(): void;
}

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
      ownCancel: attempt.cancelledBy(status),
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

/** The attempts of one call: those that run, and the one that the caller sees once it is decided. */
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

  /** The one to ask about the peer: the committed, or the youngest. */
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

  /** The caller sees this one from now on. */
  commit(attempt: ReplayAttempt): void {
    this.#committed = attempt;
  }

  /** The committed attempt has failed, and another is going to continue its response. */
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
  // Before the copying and again after it: see the record's own key.
  const own: OptionsWithOwn = { [attemptKey]: attempt, ...options };
  own[attemptKey] = attempt;
  // A later attempt reads the wall clock anew: it may have been set since the call began. A deadline that the toolkit
  // watches does so by itself.
  const again = attempt.number > 1 && deadlineMs !== Number.POSITIVE_INFINITY;
  if (again && !(own.deadline instanceof CallDeadline)) own.deadline = toEpoch(deadlineMs, clock);
  return own;
}

/**
 * The metadata of one attempt. It says how many attempts came before (gRFC A6), and how many services are retrying, this
 * one included.
 *
 * @param base Kept, so that what an interceptor below adds for one attempt does not reach the next.
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
