import {
  InterceptingCall,
  type InterceptorOptions,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { callBelow } from "../deadline.js";
import { receivedStatus } from "../status/foreign-status.js";
import {
  cancelQuietly,
  channelClosed,
  interceptorThrew,
  serializationFailed,
} from "../status/local.js";
import type { ClientCall, ClientListener, MessageContext } from "../types.js";
import { authContextOf, completeWrite, emitEnd, peerOf } from "./foreign-call.js";
import {
  handOn,
  type KeepingCall,
  keepRequest,
  type Reach,
  reach,
  reachOf,
  startOn,
  targetOf,
} from "./kept-request.js";

/**
 * The base of most client layers: a call that passes everything from above to the call below, and everything from below
 * to the listener above. It overrides all of `InterceptingCall`, which loses messages and statuses as soon as something
 * in it is asynchronous.
 *
 * For its subclasses it sees to this:
 *
 * - The call below is made when it is started. A call of grpc-js that is made and never started keeps its channel busy
 *   and a timer running.
 * - `begin` may delay the start. Messages that are sent meanwhile are kept as they are, and sent later in order, one at
 *   a time.
 * - `finish` ends the call with a status of the subclass. Exactly one status goes up, asynchronously, and nothing after
 *   it.
 * - A call below that cannot be made, started or written to, because the channel was closed or a foreign interceptor
 *   threw, ends with a status, so that permits and timers above are released.
 * - A status from a foreign interceptor is completed before the subclass sees it. If it comes while the call is being
 *   started or written to, it waits for the next tick.
 * - A cancellation ends the call, even if the call below does not answer it.
 * - Before the failing status of a single response, the listener gets a message of null, as from grpc-js.
 *
 * One object is both the call and the listener of the call below, which saves an allocation per layer.
 */
export class ForwardingCall<O extends InterceptorOptions = InterceptorOptions>
  extends InterceptingCall
  implements ClientListener, KeepingCall
{
  protected readonly options: O;
  /** The call below, once it has been started. */
  protected next: ClientCall | undefined;
  readonly #nextCall: NextCall;
  #listener: Partial<ClientListener> | undefined;
  #writes: WriteQueue | undefined;
  #readWanted = false;
  /** A call below that was made to learn the target, and has not been started. */
  #made: ClientCall | undefined;
  /** The error with which making that call failed. */
  #unmakeable: { readonly error: unknown } | undefined;
  #started = false;
  #cancelled: StatusObject | undefined;
  /** A message has gone up. */
  #answered = false;
  /** A method of the call below is on the stack. */
  #calling = false;
  #ended = false;

  constructor(options: O, nextCall: NextCall) {
    // Never used: every method is overridden.
    super(undefined as never);
    this.options = options;
    this.#nextCall = nextCall;
  }

  /** The final status has gone up, or will in the next tick. */
  protected get ended(): boolean {
    return this.#ended;
  }

  // ---- For subclasses.

  /** The call starts. Unless overridden, it is forwarded at once. */
  protected begin(metadata: Metadata): void {
    this.forward(metadata);
  }

  /** The call has ended, however. Called once; a subclass releases timers and permits here. */
  protected released(): void {}

  /**
   * The target of the channel, learned from a call below, where it is not known otherwise. The call is made for that;
   * `forward` starts it, or {@link unmake} cancels it. `unknown` where the call below does not know its target.
   */
  targetBelow(): string {
    if (this.#started && this.next !== undefined) return peerOf(this.next) ?? "unknown";
    if (this.#unmakeable !== undefined) return "unknown";
    try {
      this.#made ??= callBelow(this.#nextCall, this.options);
    } catch (error) {
      // Reported when the call is started. A second try would run the interceptors below twice.
      this.#unmakeable = { error };
      return "unknown";
    }
    return targetOf(this.#made);
  }

  /**
   * Cancels a call that was made to learn the target: left alone, it would keep its channel busy and a timer running.
   */
  protected unmake(): void {
    if (this.#made === undefined) return;
    cancelQuietly(this.#made, Status.CANCELLED, "Made for its target, and not started");
    this.#made = undefined;
  }

  #taken(options: InterceptorOptions): ClientCall | undefined {
    if (this.#unmakeable !== undefined) throw this.#unmakeable.error;
    const made = this.#made;
    if (made === undefined) return undefined;
    if (options !== this.options) {
      this.unmake();
      return undefined;
    }
    this.#made = undefined;
    return made;
  }

  /** Starts the call below and sends the messages that were kept. */
  protected forward(metadata: Metadata, options: InterceptorOptions = this.options): void {
    if (this.#ended || this.next !== undefined) return;
    const outer = this.#calling;
    this.#calling = true;
    try {
      const next = this.#taken(options) ?? callBelow(this.#nextCall, options);
      this.next = next;
      startOn(next, this.options.method_definition, metadata, this);
      if (this.#readWanted) next.startRead();
      this.#writes?.open(next, (error) => this.#failBelow(error));
    } catch (error) {
      this.#failBelow(error);
    } finally {
      this.#calling = outer;
    }
  }

  /** Ends the call with this status, and cancels the call below. */
  protected finish(final: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    cancelQuietly(
      this.next,
      final.code === Status.OK ? Status.CANCELLED : final.code,
      final.details,
    );
    this.unmake();
    const listener = this.#listener;
    const unanswered = this.#unanswered;
    // Before the write callbacks that `abandon` calls: in a write callback, the caller may write again.
    process.nextTick(() => emitEnd(listener, final, unanswered));
    this.#writes?.abandon();
    this.released();
  }

  /** The call below has ended, with a complete status. Unless overridden, it goes up. */
  protected endedWith(received: StatusObject): void {
    this.emitStatus(received);
  }

  /** Passes headers to the listener above, past the overrides of a subclass. */
  protected emitMetadata(metadata: Metadata): void {
    if (!this.#ended) this.#listener?.onReceiveMetadata?.(metadata);
  }

  protected emitMessage(message: unknown): void {
    if (this.#ended) return;
    this.#answered = true;
    this.#listener?.onReceiveMessage?.(message);
  }

  protected emitStatus(final: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#writes?.abandon();
    this.released();
    emitEnd(this.#listener, final, this.#unanswered);
  }

  /** Who handles a message that is sent now. */
  [reach](): Reach {
    return reachOf(this.next, this.options.method_definition);
  }

  // ---- From above.

  override start(metadata: Metadata, listener?: Partial<ClientListener>): void {
    if (this.#started) return;
    this.#started = true;
    this.#listener = listener;
    const cancelled = this.#cancelled;
    if (cancelled !== undefined) this.finish(cancelled);
    else this.begin(metadata);
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    if (this.#ended) {
      completeWrite(context);
      return;
    }
    const next = this.next;
    const outer = this.#calling;
    this.#calling = true;
    try {
      if (next !== undefined && (this.#writes === undefined || this.#writes.idle)) {
        handOn(next, this.options.method_definition, context, message);
      } else this.#keep(context, message);
    } catch (error) {
      completeWrite(context);
      this.#failBelow(error);
    } finally {
      this.#calling = outer;
    }
  }

  override sendMessage(message: unknown): void {
    this.sendMessageWithContext({}, message);
  }

  override halfClose(): void {
    if (this.#ended) return;
    const next = this.next;
    const outer = this.#calling;
    this.#calling = true;
    try {
      if (next !== undefined && (this.#writes === undefined || this.#writes.idle)) next.halfClose();
      else this.#queue.halfClose();
    } catch (error) {
      this.#failBelow(error);
    } finally {
      this.#calling = outer;
    }
  }

  override startRead(): void {
    const next = this.next;
    if (next === undefined) {
      this.#readWanted = true;
      return;
    }
    if (this.#ended) return;
    const outer = this.#calling;
    this.#calling = true;
    try {
      next.startRead();
    } catch (error) {
      this.#failBelow(error);
    } finally {
      this.#calling = outer;
    }
  }

  override cancelWithStatus(code: Status, details: string): void {
    const next = this.next;
    const cancelled = { code, details, metadata: new Metadata() };
    if (next !== undefined) {
      const outer = this.#calling;
      this.#calling = true;
      // Also after the end, as in grpc-js.
      cancelQuietly(next, code, details);
      this.#calling = outer;
      // grpc-js answers with a status in the next tick, before this one. If no status comes, this one ends the call.
      if (!this.#ended) process.nextTick(() => this.onReceiveStatus(cancelled));
    } else if (!this.#ended) {
      // A call that has not been started has no listener yet: it ends when it is started.
      if (this.#started) this.finish(cancelled);
      else {
        this.#cancelled ??= cancelled;
        this.unmake();
      }
    }
  }

  override getPeer(): string {
    return peerOf(this.next) ?? "unknown";
  }

  override getAuthContext(): ReturnType<InterceptingCall["getAuthContext"]> {
    return authContextOf(this.next);
  }

  // ---- From below.

  onReceiveMetadata(metadata: Metadata): void {
    this.emitMetadata(metadata);
  }

  onReceiveMessage(message: unknown): void {
    this.emitMessage(message);
  }

  /** A status from below, which may be incomplete. Subclasses override `endedWith` instead. */
  onReceiveStatus(received: StatusObject): void {
    if (this.#ended) return;
    const whole = receivedStatus(received);
    if (!this.#calling) this.endedWith(whole);
    else {
      // A method of the caller is on the stack, and may not be ready for an end.
      process.nextTick(() => {
        if (!this.#ended) this.endedWith(whole);
      });
    }
  }

  /** Whether the listener must get a message of null before the status. */
  get #unanswered(): boolean {
    return !this.#answered && !this.options.method_definition.responseStream;
  }

  get #queue(): WriteQueue {
    this.#writes ??= new WriteQueue(this.options.method_definition);
    return this.#writes;
  }

  /** Keeps a message that has to wait, as it is now: the caller may change the object meanwhile. */
  #keep(context: MessageContext, message: unknown): void {
    const kept = keepRequest(this.options.method_definition, message, this);
    if (kept.failure !== undefined) {
      completeWrite(context);
      this.finish(serializationFailed(kept.failure.error));
      return;
    }
    this.#queue.push(context, kept);
    if (kept !== message) kept.settle(this);
  }

  /**
   * An interceptor below threw. Its call is cancelled: left alone, it would keep its channel busy and a timer running.
   */
  #failBelow(error: unknown): void {
    const failed = channelClosed(error) ?? interceptorThrew(error);
    cancelQuietly(this.next, failed.code, failed.details);
    this.next = undefined;
    this.#writes?.abandon();
    // Through `onReceiveStatus`, so that a subclass settles its permits as after any other end.
    process.nextTick(() => this.onReceiveStatus(failed));
  }
}

/**
 * Sends messages to a call one at a time, each after the write callback of the one before. grpc-js has one slot for a
 * message that it cannot send yet: of two messages in a row the first is lost, and a half-close that overtakes a
 * message ends the stream without it.
 */
export class WriteQueue {
  readonly #definition: InterceptorOptions["method_definition"];
  readonly #waiting: { readonly context: MessageContext; readonly message: unknown }[] = [];
  #call: ClientCall | undefined;
  #onThrow: (error: unknown) => void = () => {};
  /** The message that was sent and whose write callback has not been called. */
  #writing: MessageContext | undefined;
  #halfClosed = false;

  constructor(definition: InterceptorOptions["method_definition"]) {
    this.#definition = definition;
  }

  /** Whether the next message may go straight to the call. */
  get idle(): boolean {
    return this.#call !== undefined && this.#writing === undefined && this.#waiting.length === 0;
  }

  push(context: MessageContext, message: unknown): void {
    this.#waiting.push({ context, message });
    this.#pump();
  }

  halfClose(): void {
    this.#halfClosed = true;
    this.#closeIfLast();
  }

  /**
   * Sends the messages to this call from now on.
   *
   * @param onThrow Receives what the call throws. Messages are sent from timers and write callbacks as well, where an
   *   error would end the process.
   */
  open(call: ClientCall, onThrow: (error: unknown) => void): void {
    this.#call = call;
    this.#onThrow = onThrow;
    this.#pump();
    this.#closeIfLast();
  }

  /** Drops the messages and calls their write callbacks, so that no writer waits for ever. */
  abandon(): void {
    this.#call = undefined;
    const writing = this.#writing;
    this.#writing = undefined;
    if (writing !== undefined) completeWrite(writing);
    for (const { context } of this.#waiting.splice(0)) completeWrite(context);
  }

  #pump(): void {
    const call = this.#call;
    if (call === undefined || this.#writing !== undefined) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    const { context, message } = next;
    this.#writing = context;
    const callback: MessageContext["callback"] = (error) => {
      if (this.#writing !== context) return;
      this.#writing = undefined;
      context.callback?.(error);
      this.#pump();
      this.#closeIfLast();
    };
    try {
      handOn(call, this.#definition, { ...context, callback }, message);
    } catch (error) {
      this.#onThrow(error);
    }
  }

  /**
   * Sends the half-close right behind the last message, without waiting for its write callback. Sent later, it would be
   * an HTTP/2 frame of its own, which some servers answer differently.
   */
  #closeIfLast(): void {
    const call = this.#call;
    if (!this.#halfClosed || call === undefined || this.#waiting.length > 0) return;
    this.#halfClosed = false;
    try {
      call.halfClose();
    } catch (error) {
      this.#onThrow(error);
    }
  }
}
