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
import { callOff, channelClosed, interceptorThrew, serializationFailed } from "../status/local.js";
import type { ClientCall, ClientListener, MessageContext } from "../types.js";
import { authContextOf, peerOf } from "./foreign-call.js";
import {
  handOn,
  type KeepingCall,
  keepRequest,
  type Reach,
  reach,
  reachOf,
  startOn,
} from "./kept-request.js";
import { tellEnd } from "./response-sink.js";

/**
 * The base of the toolkit's client interceptors: a call that passes everything on to the call below
 * and everything that comes back to the listener above. It overrides all of `InterceptingCall`,
 * whose own machinery loses messages and statuses as soon as anything in it is asynchronous.
 *
 * What it adds for its subclasses:
 * - the call below is created only when it is started (one that is created and never started keeps
 *   its channel busy and a timer running);
 * - `begin` may put the start off: what is sent meanwhile is kept as it is, in order, and one message at a time;
 * - `finish` ends the call now with a status of its own. Exactly one status goes up, asynchronously, and
 *   nothing after it;
 * - a call below that cannot be created, started or written to (the channel was closed, a foreign interceptor
 *   threw) ends with a status, so that permits and timers above it are given back;
 * - what a foreign interceptor below hands up for a status is made whole before a subclass sees it, and waits for the
 *   next tick where it comes while the call is being started or written to;
 * - a cancellation ends the call, whether or not the call below has an answer to it;
 * - a single response that did not come is told as grpc-js tells it: by a message of null before the status.
 *
 * One object is both the call and the listener of the call below, to spare an allocation per layer.
 */
export class ForwardingCall<O extends InterceptorOptions = InterceptorOptions>
  extends InterceptingCall
  implements ClientListener, KeepingCall
{
  protected readonly options: O;
  /** The call below, once it is started. */
  protected next: ClientCall | undefined;
  readonly #nextCall: NextCall;
  #listener: Partial<ClientListener> | undefined;
  #writes: WriteQueue | undefined;
  #readWanted = false;
  /** A call below that was made for its target and waits to be started. */
  #made: ClientCall | undefined;
  /** What was thrown instead. */
  #unmakeable: { readonly error: unknown } | undefined;
  #started = false;
  #cancelled: StatusObject | undefined;
  /** A message was told, or the null that stands for none. */
  #answered = false;
  /** The call below is in one of its methods. */
  #calling = false;
  #ended = false;

  constructor(options: O, nextCall: NextCall) {
    // Never used: every method is overridden.
    super(undefined as never);
    this.options = options;
    this.#nextCall = nextCall;
  }

  /** The final status has been handed to the listener above, or is about to be. */
  protected get ended(): boolean {
    return this.#ended;
  }

  // ---- For subclasses.

  /** Decides whether and when the call goes on. Forwards at once unless overridden. */
  protected begin(metadata: Metadata): void {
    this.forward(metadata);
  }

  /** The call has ended, whichever way. Called once; releases what the subclass holds. */
  protected released(): void {}

  /**
   * The target of the channel, where nothing else tells it: from a call below that is made ahead, and is the one that
   * `forward` starts or that {@link unmake} does away with. `unknown` where who stands below does not tell it either.
   */
  targetBelow(): string {
    if (this.#started && this.next !== undefined) return peerOf(this.next) ?? "unknown";
    if (this.#unmakeable !== undefined) return "unknown";
    try {
      this.#made ??= callBelow(this.#nextCall, this.options);
    } catch (error) {
      // Told when it is to be started; who throws is not asked again.
      this.#unmakeable = { error };
      return "unknown";
    }
    return targetOf(this.#made);
  }

  /** Does away with a call that was made ahead: left alone, it would hold its channel and a timer. */
  protected unmake(): void {
    if (this.#made === undefined) return;
    callOff(this.#made, Status.CANCELLED, "Made for its target, and not started");
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

  /** Starts the call below and sends what has been kept for it. */
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

  /** Ends the call with a status of our own, and calls off the call below. */
  protected finish(final: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    callOff(this.next, final.code === Status.OK ? Status.CANCELLED : final.code, final.details);
    this.unmake();
    const listener = this.#listener;
    const unanswered = this.#unanswered;
    // Before the write callbacks that are still out: who is told of a write goes on writing.
    process.nextTick(() => tellEnd(listener, final, unanswered));
    this.#writes?.abandon();
    this.released();
  }

  /** The call below has ended, with a status that is whole. Passes it on unless overridden. */
  protected endedWith(received: StatusObject): void {
    this.tellStatus(received);
  }

  /** Tells the listener above, past whatever a subclass does with events from below. */
  protected tellMetadata(metadata: Metadata): void {
    if (!this.#ended) this.#listener?.onReceiveMetadata?.(metadata);
  }

  protected tellMessage(message: unknown): void {
    if (this.#ended) return;
    this.#answered = true;
    this.#listener?.onReceiveMessage?.(message);
  }

  protected tellStatus(final: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#writes?.abandon();
    this.released();
    tellEnd(this.#listener, final, this.#unanswered);
  }

  /** What a message meets that is sent now. */
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
      // After the end too, as grpc-js passes it on.
      callOff(next, code, details);
      this.#calling = outer;
      // The status of grpc-js comes in the next tick, and so before this one. Where it does not come, the caller must
      // not wait for it.
      if (!this.#ended) process.nextTick(() => this.onReceiveStatus(cancelled));
    } else if (!this.#ended) {
      // Not started yet: the status goes to the listener when there is one.
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
    this.tellMetadata(metadata);
  }

  onReceiveMessage(message: unknown): void {
    this.tellMessage(message);
  }

  /** What it is told is not whole yet. Subclasses read the status in `endedWith`. */
  onReceiveStatus(received: StatusObject): void {
    if (this.#ended) return;
    const whole = receivedStatus(received);
    if (!this.#calling) this.endedWith(whole);
    else {
      // Inside a call of the caller's, who may not be ready for an end.
      process.nextTick(() => {
        if (!this.#ended) this.endedWith(whole);
      });
    }
  }

  /** grpc-js tells a single response that does not come by a message of null. */
  get #unanswered(): boolean {
    return !this.#answered && !this.options.method_definition.responseStream;
  }

  get #queue(): WriteQueue {
    this.#writes ??= new WriteQueue(this.options.method_definition);
    return this.#writes;
  }

  /** The message has to wait, and its owner may change it meanwhile. */
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

  /** What stands below threw. Left alone, a call that it made would keep its channel and its timer. */
  #failBelow(error: unknown): void {
    const failed = channelClosed(error) ?? interceptorThrew(error);
    callOff(this.next, failed.code, failed.details);
    this.next = undefined;
    this.#writes?.abandon();
    // Through our own onReceiveStatus, so that a subclass settles as after any other end.
    process.nextTick(() => this.onReceiveStatus(failed));
  }
}

/** The target of the channel below a call that is not started; `unknown` where it does not tell. */
export function targetOf(call: ClientCall): string {
  return call instanceof ForwardingCall ? call.targetBelow() : (peerOf(call) ?? "unknown");
}

/**
 * Hands messages to a call one at a time, each after the write callback of the one before. grpc-js
 * keeps a single slot for a message that it cannot send yet, so two in a row without waiting lose
 * the first, and a half-close that overtakes a message ends the stream without it.
 */
export class WriteQueue {
  readonly #definition: InterceptorOptions["method_definition"];
  readonly #waiting: { readonly context: MessageContext; readonly message: unknown }[] = [];
  #call: ClientCall | undefined;
  #onThrow: (error: unknown) => void = () => {};
  /** The message that was handed on and whose callback is still out. */
  #writing: MessageContext | undefined;
  #halfClosed = false;

  constructor(definition: InterceptorOptions["method_definition"]) {
    this.#definition = definition;
  }

  /** Nothing is waiting and the next message may go straight to the call. */
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
   * From now on messages go to this call.
   * @param onThrow Told what the call throws: a message may be handed on from a timer or a write callback,
   *   where it would reach nobody but the process.
   */
  open(call: ClientCall, onThrow: (error: unknown) => void): void {
    this.#call = call;
    this.#onThrow = onThrow;
    this.#pump();
    this.#closeIfLast();
  }

  /** Gives up: completes the callbacks that are still out, so that no writer waits for ever. */
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
   * The half-close goes out with the last message, not after its callback: apart, they are another
   * sequence on the wire, and some servers answer it differently.
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

/** Calls a write callback later, as grpc-js does, without an error: the status tells what went wrong. */
export function completeWrite(context: MessageContext): void {
  const { callback } = context;
  if (callback !== undefined) process.nextTick(callback);
}
