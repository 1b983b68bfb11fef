import type { InterceptorOptions, Metadata, StatusObject } from "@grpc/grpc-js";
import type { AttemptRecord } from "./call-record.js";
import { authContextOf, mustBeCall, peerOf } from "./foreign-call.js";
import { receivedStatus } from "./foreign-status.js";
import { handOn, startOn } from "./kept-request.js";
import { callOff, channelClosed, interceptorThrew } from "./local-status.js";
import type { ReplayBuffer } from "./replay-buffer.js";
import { echoes } from "./status-origin.js";
import type { AuthContext, ClientCall, ClientListener, MessageContext } from "./types.js";
import { completeWrite } from "./write-queue.js";

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
  #calledOff: string | undefined;
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
    this.#calledOff ??= details;
    this.#callOff(code, details);
  }

  #callOff(code: number, details: string): void {
    const outer = this.#calling;
    this.#calling = true;
    callOff(this.#call, code, details);
    this.#calling = outer;
  }

  /** Whether this status is only the echo of what the attempt was called off with. */
  calledOffBy(status: StatusObject): boolean {
    return echoes(status, this.#calledOff);
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
