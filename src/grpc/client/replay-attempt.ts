import type { InterceptorOptions, Metadata, StatusObject } from "@grpc/grpc-js";
import type { AttemptRecord } from "../context/call-record.js";
import { receivedStatus } from "../status/foreign-status.js";
import { callOff, channelClosed, interceptorThrew } from "../status/local.js";
import { echoes } from "../status/origin.js";
import type { AuthContext, ClientCall, ClientListener, MessageContext } from "../types.js";
import { authContextOf, mustBeCall, peerOf } from "./foreign-call.js";
import { completeWrite } from "./forwarding-call.js";
import { handOn, type KeptRequest, startOn } from "./kept-request.js";

type Definition = InterceptorOptions["method_definition"];

/** Told what comes back of an attempt. */
export interface AttemptOwner {
  attemptMetadata(attempt: ReplayAttempt, metadata: Metadata): void;
  attemptMessage(attempt: ReplayAttempt, message: unknown): void;
  attemptStatus(attempt: ReplayAttempt, status: StatusObject): void;
  /** The message with this number has been written by this attempt. */
  attemptWrote(attempt: ReplayAttempt, number: number): void;
}

/**
 * One attempt of a replayable call: how far it has sent the request, and what it received and nobody
 * has been shown yet. It sends one message at a time, each after the write callback of the one before,
 * because grpc-js loses messages that are sent without waiting.
 */
export class ReplayAttempt implements ClientListener {
  readonly record: AttemptRecord;
  /** Response headers that wait for the commitment. */
  heldMetadata: Metadata | undefined;
  /** A single response that nobody wants yet: it is shown when no other attempt follows. */
  heldMessage: { readonly message: unknown } | undefined;
  sawHeaders = false;
  ended = false;
  /** Another one has decided the call: this one sends no more of the request. */
  lost = false;
  /** Takes it out of the queue of those that are called off when their connection bears it. */
  stopWaiting: (() => void) | undefined;
  /** Number of the next message to send. */
  cursor = 0;
  readonly #owner: AttemptOwner;
  readonly #buffer: ReplayBuffer;
  readonly #definition: Definition;
  #call: ClientCall | undefined;
  #ownCancel: string | undefined;
  #writing = false;
  #halfClosed = false;
  /** One read credit is out: grpc-js takes several for one. */
  #reading = false;
  /** The call below is in one of its methods. */
  #calling = false;
  /** It threw, and is told nothing more. */
  #threw = false;

  constructor(
    owner: AttemptOwner,
    record: AttemptRecord,
    buffer: ReplayBuffer,
    definition: Definition,
  ) {
    this.#owner = owner;
    this.record = record;
    this.#buffer = buffer;
    this.#definition = definition;
  }

  get peer(): string | undefined {
    return peerOf(this.#call);
  }

  get call(): ClientCall | undefined {
    return this.#call;
  }

  get authContext(): AuthContext | null {
    return authContextOf(this.#call);
  }

  start(call: ClientCall, metadata: Metadata): void {
    mustBeCall(call);
    this.#call = call;
    this.#calling = true;
    try {
      startOn(call, this.#definition, metadata, this);
    } finally {
      this.#calling = false;
    }
  }

  /** Sends what the buffer holds, in order, and the half-close with the last message. */
  pump(): void {
    const call = this.#call;
    if (call === undefined || this.ended || this.lost || this.#threw) return;
    const outer = this.#calling;
    this.#calling = true;
    try {
      this.#sendOn(call);
    } catch (error) {
      this.fail(error);
    } finally {
      this.#calling = outer;
    }
  }

  /** Sends a message that need not be kept: everything before it is written. */
  send(context: MessageContext, message: unknown): void {
    const call = this.#call;
    if (call === undefined || this.#threw) {
      completeWrite(context);
      return;
    }
    const outer = this.#calling;
    this.#calling = true;
    try {
      handOn(call, this.#definition, context, message);
    } catch (error) {
      completeWrite(context);
      this.fail(error);
    } finally {
      this.#calling = outer;
    }
  }

  /** What stands below threw. The attempt ends as after any other failure, and leaves nothing open. */
  fail(error: unknown): void {
    this.#threw = true;
    const failed = channelClosed(error) ?? interceptorThrew(error);
    if (!this.ended) this.#callOff(failed.code, failed.details);
    process.nextTick(() => this.onReceiveStatus(failed));
  }

  #sendOn(call: ClientCall): void {
    while (!this.#writing) {
      const number = this.cursor;
      const entry = this.#buffer.at(number);
      if (entry === undefined) break;
      this.cursor = number + 1;
      this.#writing = true;
      const callback = () => {
        // Called back twice, or for a message before the last: the one that is out is not written by that.
        if (!this.#writing || this.cursor !== number + 1) return;
        this.#writing = false;
        this.#owner.attemptWrote(this, number);
      };
      const { flags, message } = entry;
      const context = flags === undefined ? { callback } : { callback, flags };
      handOn(call, this.#definition, context, message);
    }
    if (this.#buffer.requestEnded && !this.#halfClosed && this.cursor === this.#buffer.end) {
      this.#halfClosed = true;
      call.halfClose();
    }
  }

  /** Messages before this number are written. */
  get writtenBefore(): number {
    return this.#writing ? this.cursor - 1 : this.cursor;
  }

  /** Everything so far is sent and written: a message may go straight to the call. */
  get caughtUp(): boolean {
    return this.#call !== undefined && !this.#writing && this.cursor === this.#buffer.end;
  }

  /** Another one has decided the call, and this one runs out: what comes is read, so that it comes to its end. */
  runOut(stopWaiting: () => void): void {
    this.stopWaiting = stopWaiting;
    this.read();
  }

  read(): void {
    if (this.#reading || this.ended || this.#threw) return;
    this.#reading = true;
    const outer = this.#calling;
    this.#calling = true;
    try {
      this.#call?.startRead();
    } catch (error) {
      this.fail(error);
    } finally {
      this.#calling = outer;
    }
  }

  cancel(code: number, details: string): void {
    if (this.ended) return;
    this.#ownCancel ??= details;
    this.#callOff(code, details);
  }

  #callOff(code: number, details: string): void {
    const outer = this.#calling;
    this.#calling = true;
    callOff(this.#call, code, details);
    this.#calling = outer;
  }

  /** Whether this status is only the echo of what the attempt was called off with. */
  cancelledBy(status: StatusObject): boolean {
    return echoes(status, this.#ownCancel);
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.sawHeaders = true;
    if (!this.ended) this.#owner.attemptMetadata(this, metadata);
  }

  onReceiveMessage(message: unknown): void {
    this.#reading = false;
    if (this.lost) {
      this.read();
      return;
    }
    // Unary-response calls announce a failure with a message of null. It is no answer.
    if (!this.ended && message !== null) this.#owner.attemptMessage(this, message);
  }

  onReceiveStatus(received: StatusObject): void {
    if (this.ended) return;
    const status = receivedStatus(received);
    if (this.#calling) {
      // Inside a call of the caller's, or of the owner's: neither is ready for an end.
      process.nextTick(() => this.#end(status));
    } else this.#end(status);
  }

  #end(status: StatusObject): void {
    if (this.ended) return;
    this.ended = true;
    this.#owner.attemptStatus(this, status);
  }
}

/** One message of the request, kept until no attempt needs it any more. */
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
 * The messages of a request, numbered from 0, for as long as an attempt may have to send them again.
 * Numbers go on when messages at the front are dropped.
 */
export class ReplayBuffer {
  readonly #entries: BufferedEvent[] = [];
  readonly #limits: ReplayLimits;
  readonly #streamed: boolean;
  #first = 0;
  #bytes = 0;
  #ended = false;

  /** @param streamed Whether the request is streamed. A single message is in memory as a whole anyway, and not limited. */
  constructor(limits: ReplayLimits, streamed: boolean) {
    this.#limits = limits;
    this.#streamed = streamed;
  }

  /** The caller has half-closed. */
  get requestEnded(): boolean {
    return this.#ended;
  }

  /** The request has outgrown what may be kept of it. */
  get overfull(): boolean {
    const { maxBufferBytes, maxBufferMessages } = this.#limits;
    return (
      this.#streamed && (this.#bytes > maxBufferBytes || this.#entries.length > maxBufferMessages)
    );
  }

  halfClose(): void {
    this.#ended = true;
  }

  /** Number of the next message to come. */
  get end(): number {
    return this.#first + this.#entries.length;
  }

  /** @param counts Whether another attempt may need it; only then its size counts. */
  push(context: MessageContext, message: KeptRequest, counts: boolean): void {
    const bytes = counts && this.#streamed ? sizeOf(message) : 0;
    this.#entries.push({ message, flags: context.flags, bytes, context });
    this.#bytes += bytes;
  }

  at(
    number: number,
  ): { readonly message: KeptRequest; readonly flags: number | undefined } | undefined {
    return this.#entries[number - this.#first];
  }

  /** An attempt has written the message: the caller may go on. Only the first time counts. */
  written(number: number): void {
    const entry = this.#entries[number - this.#first];
    const context = entry?.context;
    if (entry === undefined || context === undefined) return;
    entry.context = undefined;
    context.callback?.();
  }

  /** No attempt will need messages before this one. */
  dropBefore(number: number): void {
    while (this.#first < number && this.#entries.length > 0) {
      const entry = this.#entries.shift();
      this.#first += 1;
      this.#bytes -= entry?.bytes ?? 0;
    }
  }

  /** The request is another one from now on, of a single message. */
  replace(message: KeptRequest): void {
    this.clear();
    this.#first = 0;
    this.#entries.push({ message, flags: undefined, bytes: 0, context: undefined });
  }

  /** The call is over: frees everything and completes the callbacks that are still out. */
  clear(): void {
    for (const { context } of this.#entries) if (context !== undefined) completeWrite(context);
    this.#first += this.#entries.length;
    this.#entries.length = 0;
    this.#bytes = 0;
  }
}

function sizeOf(message: KeptRequest): number {
  try {
    return message.bytes.length;
  } catch {
    // It fails again where it is sent, and ends the call there.
    return 0;
  }
}
