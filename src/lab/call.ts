import { nextTick } from "node:process";
import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { CancelTask } from "../core/clock.js";
import type { ChannelCall, ClientListener, MessageContext } from "../grpc/types.js";
import { epochMs } from "../testing/in-memory/headers.js";
import { bareStatus, seconds } from "../testing/in-memory/status.js";
import type { Pick } from "./balancer.js";
import type { ClientCosts } from "./costs.js";
import type { ClientEnd, Stream, WirePart, WireResponse } from "./network.js";
import type { LabProcess } from "./process.js";

/** A call that waits for a connection. */
export interface WaitingCall {
  /** The state of the channel has changed: the call asks again. */
  pickAgain(): void;
}

/** What a call needs of its channel. */
export interface CallChannel {
  readonly process: LabProcess;
  readonly costs: ClientCosts;
  /** Why call credentials cannot get a token now; `undefined` while they can. */
  readonly tokenFailure: string | undefined;
  pick(): Pick;
  wait(call: WaitingCall): void;
  waitNoLonger(call: WaitingCall): void;
  getTarget(): string;
}

export interface CallSetup {
  readonly channel: CallChannel;
  readonly path: string;
  readonly deadline: Date | number;
  readonly host: string;
  readonly number: number;
  /** The answer is a stream of messages. */
  readonly streaming: boolean;
  /** Whether the call ends itself at its deadline. @defaultValue true */
  readonly timed?: boolean;
}

/** The longest timer of Node. grpc-js sets no timer for a deadline that is further away. */
const maxTimerMs = 2 ** 31 - 1;

/**
 * A call of a channel with a single request, below all interceptors. What policies see of it is what they see of grpc-js: statuses and
 * their texts, the peer, headers and trailers. The request is sent when the call is half-closed.
 */
export class LabCall implements ChannelCall, ClientEnd, WaitingCall {
  readonly #setup: CallSetup;
  readonly #startedMs: number;
  #cancelTimer: CancelTask | undefined;
  #metadata: Metadata | undefined;
  #listener: ClientListener | undefined;
  #message: Buffer | undefined;
  #halfClosed = false;
  #stream: Stream | undefined;
  #ended = false;
  /** Messages of a stream that nobody has asked for yet, how many were asked for, and what comes after the last. */
  readonly #unread: Buffer[] = [];
  #reads = 0;
  #last: StatusObject | undefined;

  constructor(setup: CallSetup) {
    this.#setup = setup;
    this.#startedMs = setup.channel.process.now();
    if (setup.timed !== false) this.#startTimer();
  }

  start(metadata: Metadata, listener: ClientListener): void {
    this.#metadata = metadata.clone();
    this.#listener = listener;
    this.#send();
  }

  sendMessageWithContext(context: MessageContext, message: Buffer): void {
    this.#message = message;
    const { callback } = context;
    if (callback !== undefined) nextTick(callback);
    this.#send();
  }

  halfClose(): void {
    this.#halfClosed = true;
    this.#send();
  }

  /** A single response is read without being asked for. */
  startRead(): void {
    if (!this.#setup.streaming) return;
    this.#reads += 1;
    nextTick(readOn, this);
  }

  cancelWithStatus(code: Status, details: string): void {
    if (this.#ended) return;
    const { process, costs } = this.#setup.channel;
    process.spend(costs.cancel);
    this.#stream?.connection.reset(this.#stream);
    this.#endSoon(bareStatus(code, details));
  }

  getPeer(): string {
    return this.#stream?.connection.address ?? this.#setup.channel.getTarget();
  }

  getCallNumber(): number {
    return this.#setup.number;
  }

  /** Credentials of the channel alone. */
  setCredentials(): void {}

  getAuthContext(): null {
    return null;
  }

  pickAgain(): void {
    this.#send();
  }

  received({ headers, message }: WirePart): void {
    if (this.#ended) return;
    if (headers !== undefined) this.#listener?.onReceiveMetadata(headers);
    if (message === undefined) return;
    const { process, costs } = this.#setup.channel;
    process.spend(costs.message);
    this.#unread.push(message);
    this.readOn();
  }

  /** Hands on messages of a stream as they are asked for, and then the status. */
  readOn(): void {
    while (this.#reads > 0 && !this.#ended) {
      const message = this.#unread.shift();
      if (message === undefined) break;
      this.#reads -= 1;
      this.#listener?.onReceiveMessage(message);
    }
    if (this.#last !== undefined && this.#unread.length === 0) this.#end(this.#last);
  }

  answered({ headers, message, status }: WireResponse): void {
    if (this.#ended) return;
    const { process, costs } = this.#setup.channel;
    process.spend(costs.receive);
    const listener = this.#listener;
    if (this.#setup.streaming) {
      this.#last = status;
      this.readOn();
      return;
    }
    if (headers !== undefined) listener?.onReceiveMetadata(headers);
    if (message !== undefined && !this.#ended) listener?.onReceiveMessage(message);
    this.#end(status);
  }

  lost(status: StatusObject): void {
    this.#end(status);
  }

  #send(): void {
    const metadata = this.#metadata;
    const message = this.#message;
    if (this.#ended || !this.#halfClosed || metadata === undefined || message === undefined) return;
    const { channel, path, host, deadline, streaming } = this.#setup;
    const picked = channel.pick();
    if (picked.kind === "ready" && channel.tokenFailure !== undefined) {
      const error = channel.tokenFailure;
      const details = `Getting metadata from plugin failed with error: ${error}`;
      this.#endSoon(bareStatus(Status.UNKNOWN, details));
    } else if (picked.kind === "ready") {
      channel.process.spend(channel.costs.send);
      const dueMs = deadline.valueOf();
      const endless = dueMs === Number.POSITIVE_INFINITY;
      const leftMs = Math.ceil(Math.max(0, dueMs - channel.process.wallNow()));
      const timeoutMs = endless ? undefined : leftMs;
      const request = { path, host, metadata, timeoutMs, message, streaming };
      this.#stream = picked.connection.request(this, request);
    } else if (picked.kind === "queue" || metadata.getOptions().waitForReady === true) {
      channel.wait(this);
    } else this.#endSoon(bareStatus(Status.UNAVAILABLE, picked.details));
  }

  #startTimer(): void {
    const { channel, deadline } = this.#setup;
    const { process } = channel;
    // Not `valueOf`: a deadline that the toolkit watches says here that it is far away.
    const leftMs = epochMs(deadline) - process.wallNow();
    if (leftMs > maxTimerMs) return;
    const expire = () => this.cancelWithStatus(Status.DEADLINE_EXCEEDED, this.#deadlineText());
    if (leftMs > 0) this.#cancelTimer = process.schedule(leftMs, expire);
    else nextTick(expire);
  }

  #deadlineText(): string {
    const { process } = this.#setup.channel;
    const after = `Deadline exceeded after ${seconds(this.#startedMs, process.now())}`;
    return this.#stream === undefined
      ? `${after},Waiting for LB pick`
      : `${after},remote_addr=${this.getPeer()}`;
  }

  #endSoon(status: StatusObject): void {
    this.#ended = true;
    this.#cancelTimer?.();
    this.#setup.channel.waitNoLonger(this);
    nextTick(() => this.#listener?.onReceiveStatus(status));
  }

  #end(status: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#cancelTimer?.();
    this.#listener?.onReceiveStatus(status);
  }
}

const readOn = (call: LabCall): void => call.readOn();

/** The metadata of an answer that consists of trailers: the HTTP headers stand among them. */
export function trailersOnly(metadata: Metadata | null | undefined): Metadata {
  const trailers = metadata?.clone() ?? new Metadata();
  trailers.set("content-type", "application/grpc+proto");
  return trailers;
}
