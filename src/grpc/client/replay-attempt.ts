import type { InterceptorOptions, Metadata, StatusObject } from "@grpc/grpc-js";
import type { AttemptRecord } from "../context/call-record.js";
import { receivedStatus } from "../status/foreign-status.js";
import { cancelQuietly, channelClosed, interceptorThrew } from "../status/local.js";
import { echoes } from "../status/origin.js";
import type { AuthContext, ClientCall, ClientListener, MessageContext } from "../types.js";
import { authContextOf, mustBeCall, peerOf } from "./foreign-call.js";
import { completeWrite } from "./forwarding-call.js";
import { handOn, type KeptRequest, startOn } from "./kept-request.js";

type Definition = InterceptorOptions["method_definition"];

/** The call that an attempt belongs to. It receives the attempt's response. */
export interface AttemptOwner {
  attemptMetadata(attempt: ReplayAttempt, metadata: Metadata): void;
  attemptMessage(attempt: ReplayAttempt, message: unknown): void;
  attemptStatus(attempt: ReplayAttempt, status: StatusObject): void;
  /** The attempt has written the message with this number. */
  attemptWrote(attempt: ReplayAttempt, number: number): void;
}

/**
 * One attempt of a replayable call. It knows how much of the request it has sent, and what it has received and the
 * caller has not seen. It sends one message at a time, each after the write callback of the one before, because grpc-js
 * loses messages that are sent without waiting.
 */
export class ReplayAttempt implements ClientListener {
  readonly record: AttemptRecord;
  /** Response headers that the caller has not seen. */
  heldMetadata: Metadata | undefined;
  /** A single response that is not wanted: it is shown only if no other attempt follows. */
  heldMessage: { readonly message: unknown } | undefined;
  sawHeaders = false;
  ended = false;
  /** Another attempt has decided the call: this one sends no more of the request. */
  lost = false;
  /** Takes the attempt out of the queue of those that are cancelled when their connection has resets left. */
  stopWaiting: (() => void) | undefined;
  /** The number of the next message to send. */
  cursor = 0;
  readonly #owner: AttemptOwner;
  readonly #buffer: ReplayBuffer;
  readonly #definition: Definition;
  #call: ClientCall | undefined;
  #ownCancel: string | undefined;
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

  /** Sends the messages in the buffer, in order, and the half-close with the last one. */
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

  /** Sends a message past the buffer, where all messages before it are written. */
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

  /** An interceptor below threw. The attempt ends with a status, as after any other failure. */
  fail(error: unknown): void {
    this.#threw = true;
    const failed = channelClosed(error) ?? interceptorThrew(error);
    if (!this.ended) this.#cancelQuietly(failed.code, failed.details);
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
        // An interceptor may call back twice. That does not mean that the message after this one is written.
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

  /** Whether all messages so far are written, so that the next may go past the buffer. */
  get caughtUp(): boolean {
    return this.#call !== undefined && !this.#writing && this.cursor === this.#buffer.end;
  }

  /** Lets an attempt that has lost run on. Its response is read, so that it comes to its end. */
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
    this.#cancelQuietly(code, details);
  }

  #cancelQuietly(code: number, details: string): void {
    const outer = this.#calling;
    this.#calling = true;
    cancelQuietly(this.#call, code, details);
    this.#calling = outer;
  }

  /** Whether this status only repeats the text with which the attempt was cancelled. */
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
    // grpc-js sends a message of null before the failing status of a single response.
    if (!this.ended && message !== null) this.#owner.attemptMessage(this, message);
  }

  onReceiveStatus(received: StatusObject): void {
    if (this.ended) return;
    const status = receivedStatus(received);
    if (this.#calling) {
      // A method of the caller or of the owner is on the stack, and not ready for an end.
      process.nextTick(() => this.#end(status));
    } else this.#end(status);
  }

  #end(status: StatusObject): void {
    if (this.ended) return;
    this.ended = true;
    this.#owner.attemptStatus(this, status);
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
  readonly #entries: BufferedEvent[] = [];
  readonly #limits: ReplayLimits;
  readonly #streamed: boolean;
  #first = 0;
  #bytes = 0;
  #ended = false;

  /** @param streamed Whether the request is streamed. A single message is in memory anyway, and has no limit. */
  constructor(limits: ReplayLimits, streamed: boolean) {
    this.#limits = limits;
    this.#streamed = streamed;
  }

  /** The caller has half-closed. */
  get requestEnded(): boolean {
    return this.#ended;
  }

  /** Whether the request is larger than its limits. */
  get overfull(): boolean {
    const { maxBufferBytes, maxBufferMessages } = this.#limits;
    return (
      this.#streamed && (this.#bytes > maxBufferBytes || this.#entries.length > maxBufferMessages)
    );
  }

  halfClose(): void {
    this.#ended = true;
  }

  /** The number of the next message to come. */
  get end(): number {
    return this.#first + this.#entries.length;
  }

  /** @param counts Whether another attempt may need the message. Only then its size counts. */
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

  /** Calls the caller's write callback, when the first attempt has written the message. */
  written(number: number): void {
    const entry = this.#entries[number - this.#first];
    const context = entry?.context;
    if (entry === undefined || context === undefined) return;
    entry.context = undefined;
    context.callback?.();
  }

  /** Drops the messages before this one, which no attempt will need. */
  dropBefore(number: number): void {
    while (this.#first < number && this.#entries.length > 0) {
      const entry = this.#entries.shift();
      this.#first += 1;
      this.#bytes -= entry?.bytes ?? 0;
    }
  }

  /** Replaces the request by another one, of a single message. */
  replace(message: KeptRequest): void {
    this.clear();
    this.#first = 0;
    this.#entries.push({ message, flags: undefined, bytes: 0, context: undefined });
  }

  /** Drops all messages and calls the write callbacks that have not been called. */
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
    // The serializer throws again when the message is sent, and that ends the call.
    return 0;
  }
}
