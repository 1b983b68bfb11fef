import {
  InterceptingCall,
  type InterceptorOptions,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { callBelow } from "./deadline.js";
import {
  handOn,
  type KeepingCall,
  keepRequest,
  type Reach,
  reach,
  reachOf,
  startOn,
} from "./kept-request.js";
import { callOff, channelClosed, interceptorThrew, serializationFailed } from "./local-status.js";
import type { ClientCall, ClientListener, MessageContext } from "./types.js";
import { completeWrite, WriteQueue } from "./write-queue.js";

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
 *   threw) ends with a status, so that permits and timers above it are given back.
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
  #cancelled: StatusObject | undefined;
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

  /** Starts the call below and sends what has been kept for it. */
  protected forward(metadata: Metadata, options: InterceptorOptions = this.options): void {
    if (this.#ended || this.next !== undefined) return;
    let next: ClientCall;
    try {
      next = callBelow(this.#nextCall, options);
      this.next = next;
      startOn(next, this.options.method_definition, metadata, this);
    } catch (error) {
      this.#failBelow(error);
      return;
    }
    if (this.#readWanted) next.startRead();
    this.#writes?.open(next, (error) => this.#failBelow(error));
  }

  /** Ends the call with a status of our own, and calls off the call below. */
  protected finish(final: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    callOff(this.next, final.code === Status.OK ? Status.CANCELLED : final.code, final.details);
    this.#writes?.abandon();
    this.released();
    const listener = this.#listener;
    process.nextTick(() => listener?.onReceiveStatus?.(final));
  }

  /** What a message meets that is sent now. */
  [reach](): Reach {
    return reachOf(this.next, this.options.method_definition);
  }

  // ---- From above.

  override start(metadata: Metadata, listener?: Partial<ClientListener>): void {
    this.#listener = listener;
    const cancelled = this.#cancelled;
    if (cancelled !== undefined) this.finish(cancelled);
    else this.begin(metadata);
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    const next = this.next;
    if (this.#ended) completeWrite(context);
    else if (next !== undefined && (this.#writes === undefined || this.#writes.idle)) {
      try {
        handOn(next, this.options.method_definition, context, message);
      } catch (error) {
        completeWrite(context);
        this.#failBelow(error);
      }
    } else this.#keep(context, message);
  }

  override sendMessage(message: unknown): void {
    this.sendMessageWithContext({}, message);
  }

  override halfClose(): void {
    if (this.#ended) return;
    const next = this.next;
    if (next !== undefined && (this.#writes === undefined || this.#writes.idle)) {
      try {
        next.halfClose();
      } catch (error) {
        this.#failBelow(error);
      }
    } else {
      this.#queue.halfClose();
    }
  }

  override startRead(): void {
    if (this.next === undefined) this.#readWanted = true;
    else if (!this.#ended) this.next.startRead();
  }

  override cancelWithStatus(code: Status, details: string): void {
    // After the end too: grpc-js may have to be told again, and takes it for nothing otherwise.
    if (this.next !== undefined) {
      this.next.cancelWithStatus(code, details);
      return;
    }
    if (this.#ended) return;
    const cancelled = { code, details, metadata: new Metadata() };
    if (this.#listener === undefined) {
      // Not started yet. The status goes to the listener when there is one.
      this.#cancelled ??= cancelled;
      return;
    }
    this.finish(cancelled);
  }

  override getPeer(): string {
    return this.next?.getPeer() ?? "unknown";
  }

  override getAuthContext(): ReturnType<InterceptingCall["getAuthContext"]> {
    return this.next?.getAuthContext() ?? null;
  }

  // ---- From below.

  onReceiveMetadata(metadata: Metadata): void {
    if (!this.#ended) this.#listener?.onReceiveMetadata?.(metadata);
  }

  onReceiveMessage(message: unknown): void {
    if (!this.#ended) this.#listener?.onReceiveMessage?.(message);
  }

  onReceiveStatus(received: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#writes?.abandon();
    this.released();
    this.#listener?.onReceiveStatus?.(received);
  }

  get #queue(): WriteQueue {
    this.#writes ??= new WriteQueue(this.options.method_definition);
    return this.#writes;
  }

  /** The message has to wait, and its owner may change it meanwhile. */
  #keep(context: MessageContext, message: unknown): void {
    const kept = keepRequest(this.options.method_definition, message, this[reach]());
    if (kept.failure !== undefined) {
      completeWrite(context);
      this.finish(serializationFailed(kept.failure.error));
      return;
    }
    this.#queue.push(context, kept);
    if (kept !== message) kept.settle(this[reach]());
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
