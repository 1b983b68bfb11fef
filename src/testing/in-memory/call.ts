import {
  type CallCredentials,
  type Metadata,
  propagate,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import type { CancelTask } from "../../core/clock.js";
import type { ChannelCall, ClientListener, MessageContext, ParentCall } from "../../grpc/types.js";
import type { CallChannel } from "./attempt.js";
import { epochMs } from "./headers.js";
import { RetryingCall } from "./retrying-call.js";
import { bareStatus, seconds } from "./status.js";

export interface CallSetup {
  readonly channel: CallChannel<InMemoryCall>;
  readonly path: string;
  readonly host: string;
  readonly deadline: Date | number;
  readonly parent: ParentCall;
  readonly propagateFlags: number;
  readonly callNumber: number;
}

/** The longest timer of Node. grpc-js sets no timer for a deadline that is further away. */
const maxTimerMs = 2 ** 31 - 1;

/**
 * The call that a channel gives to the client. It ends at the deadline. As in grpc-js, of several messages that are
 * written before the start only the last one is kept.
 */
export class InMemoryCall implements ChannelCall {
  readonly #setup: CallSetup;
  readonly #deadline: Date | number;
  readonly #timerStart: number;
  #cancelTimer: CancelTask = () => {};
  #credentials: CallCredentials | undefined;
  #metadata: Metadata | undefined;
  #listener: ClientListener | undefined;
  #configAt: number | undefined;
  #childAt: number | undefined;
  #child: RetryingCall | undefined;
  #pendingMessage: { readonly context: MessageContext; readonly message: Buffer } | undefined;
  #pendingHalfClose = false;
  #pendingStatus: StatusObject | undefined;
  #readPending = false;
  #filteringRead = false;
  #filteringWrite = false;
  #ended = false;

  constructor(setup: CallSetup) {
    const { parent, propagateFlags, channel } = setup;
    this.#setup = setup;
    let { deadline } = setup;
    if (parent !== null) {
      if (propagateFlags & propagate.CANCELLATION) {
        parent.on("cancelled", () => {
          this.cancelWithStatus(status.CANCELLED, "Cancelled by parent call");
        });
      }
      if (propagateFlags & propagate.DEADLINE) {
        deadline = Math.min(epochMs(deadline), epochMs(parent.getDeadline()));
      }
    }
    this.#deadline = deadline;
    this.#timerStart = channel.clock.now();
    this.#runDeadlineTimer();
  }

  start(metadata: Metadata, listener: ClientListener): void {
    this.#metadata = metadata.clone();
    this.#listener = listener;
    this.resolve();
  }

  /** Starts the call, or has it wait until the name of the channel is resolved. */
  resolve(): void {
    const metadata = this.#metadata;
    if (this.#ended || metadata === undefined) return;
    const { channel } = this.#setup;
    if (!channel.resolved) {
      channel.queueForName(this);
      return;
    }
    this.#configAt = channel.clock.now();
    void Promise.resolve().then(() => this.#startChild(metadata));
  }

  sendMessageWithContext(context: MessageContext, message: Buffer): void {
    if (this.#child === undefined) this.#pendingMessage = { context, message };
    else this.#sendOn(this.#child, context, message);
  }

  startRead(): void {
    if (this.#child === undefined) this.#readPending = true;
    else this.#child.startRead();
  }

  halfClose(): void {
    if (this.#child === undefined || this.#filteringWrite) this.#pendingHalfClose = true;
    else this.#child.halfClose();
  }

  cancelWithStatus(code: status, details: string): void {
    this.#child?.cancelWithStatus(code, details);
    this.#output(bareStatus(code, details));
  }

  getPeer(): string {
    return this.#child?.peer ?? this.#setup.channel.getTarget();
  }

  getCallNumber(): number {
    return this.#setup.callNumber;
  }

  setCredentials(credentials: CallCredentials): void {
    this.#credentials = credentials;
  }

  getAuthContext(): ReturnType<ChannelCall["getAuthContext"]> {
    return this.#child === undefined ? null : {};
  }

  #startChild(metadata: Metadata): void {
    const { channel, path, host } = this.#setup;
    // As in grpc-js, it does not matter here whether the call has ended meanwhile: a call that is cancelled in the tick
    // of its start still reaches the server, and its answer comes after the status.
    const child = new RetryingCall(
      { channel, path, host, credentials: this.#credentials, deadline: this.#deadline },
      metadata,
      {
        onReceiveMetadata: (received) => this.#listener?.onReceiveMetadata(received),
        onReceiveMessage: (message: Buffer) => this.#receive(message),
        onReceiveStatus: (received) => {
          if (this.#filteringRead) this.#pendingStatus = received;
          else this.#output(received);
        },
      },
    );
    this.#child = child;
    this.#childAt = channel.clock.now();
    child.start();
    if (this.#readPending) child.startRead();
    if (this.#pendingMessage !== undefined) {
      this.#sendOn(child, this.#pendingMessage.context, this.#pendingMessage.message);
    } else if (this.#pendingHalfClose) {
      child.halfClose();
    }
  }

  #sendOn(child: RetryingCall, context: MessageContext, message: Buffer): void {
    this.#filteringWrite = true;
    const { send } = this.#setup.channel.limits;
    void Promise.resolve().then(() => {
      if (send !== -1 && message.length > send) {
        const details = `Attempted to send message with a size larger than ${send}`;
        this.cancelWithStatus(status.RESOURCE_EXHAUSTED, details);
        return;
      }
      this.#filteringWrite = false;
      // As in grpc-js, which copies each message here to put a header before it.
      child.sendMessage(context, Buffer.from(message));
      if (this.#pendingHalfClose) child.halfClose();
    });
  }

  #receive(message: Buffer): void {
    this.#filteringRead = true;
    void Promise.resolve().then(() => {
      this.#filteringRead = false;
      this.#listener?.onReceiveMessage(message);
      if (this.#pendingStatus !== undefined) this.#output(this.#pendingStatus);
    });
  }

  #output(final: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#cancelTimer();
    this.#setup.channel.callEnded();
    process.nextTick(() => this.#listener?.onReceiveStatus(final));
  }

  #runDeadlineTimer(): void {
    const { clock } = this.#setup.channel;
    const timeoutMs = Math.max(epochMs(this.#deadline) - clock.wallNow(), 0);
    if (timeoutMs > maxTimerMs) return;
    const expire = () => this.cancelWithStatus(status.DEADLINE_EXCEEDED, this.#deadlineInfo());
    if (timeoutMs <= 0) process.nextTick(expire);
    else this.#cancelTimer = clock.schedule(timeoutMs, expire);
  }

  /** What the call spent its time on, in the words of grpc-js. */
  #deadlineInfo(): string {
    const info = [
      `Deadline exceeded after ${seconds(this.#timerStart, this.#setup.channel.clock.now())}`,
    ];
    if (this.#configAt === undefined) info.push("waiting for name resolution");
    else {
      if (this.#configAt > this.#timerStart) {
        info.push(`name resolution: ${seconds(this.#timerStart, this.#configAt)}`);
      }
      if (this.#childAt === undefined) info.push("waiting for metadata filters");
      else if (this.#childAt > this.#configAt) {
        info.push(`metadata filters: ${seconds(this.#configAt, this.#childAt)}`);
      }
    }
    return [...info, ...(this.#child?.deadlineInfo() ?? [])].join(",");
  }
}
