import type { Metadata, StatusObject, status } from "@grpc/grpc-js";
import type { ClientListener, MessageContext } from "../../grpc/types.js";
import { Attempt, type AttemptSetup } from "./attempt.js";
import { bareStatus, seconds } from "./status.js";

type BufferedEvent =
  | { readonly kind: "half-close" }
  | {
      readonly kind: "message";
      readonly message: Buffer;
      callback: (() => void) | undefined;
      bytes: number;
    };

interface Child {
  readonly attempt: Attempt;
  next: number;
  done: boolean;
}

/**
 * The layer of grpc-js below the interceptors that buffers writes and retries a refused stream once. Because of the
 * buffer, a write is called back before it is sent. Retry and hedging policies of a service config are not modelled.
 */
export class RetryingCall {
  readonly #setup: AttemptSetup;
  readonly #listener: ClientListener;
  readonly #metadata: Metadata;
  readonly #startedAt: number;
  readonly #children: Child[] = [];
  #buffer: BufferedEvent[] = [];
  #offset = 0;
  #bufferedBytes = 0;
  #committed: Child | undefined;
  #retriesOff: boolean;
  #refusedOnce = false;
  #readStarted = false;

  constructor(setup: AttemptSetup, metadata: Metadata, listener: ClientListener) {
    this.#setup = setup;
    this.#metadata = metadata;
    this.#listener = listener;
    this.#startedAt = setup.channel.clock.now();
    this.#retriesOff = !setup.channel.retriesEnabled;
  }

  get peer(): string {
    return this.#committed?.attempt.peer ?? "unknown";
  }

  deadlineInfo(): string[] {
    const latest = this.#children.at(-1)?.attempt;
    if (latest === undefined) return [];
    const info: string[] = [];
    if (this.#children.length > 1) info.push(`previous attempts: ${this.#children.length - 1}`);
    if (latest.startedAt > this.#startedAt) {
      const elapsed = seconds(this.#startedAt, latest.startedAt);
      info.push(`time to current attempt start: ${elapsed}`);
    }
    return [...info, ...latest.deadlineInfo()];
  }

  start(): void {
    this.#startAttempt();
  }

  startRead(): void {
    this.#readStarted = true;
    for (const child of this.#children) if (!child.done) child.attempt.startRead();
  }

  sendMessage(context: MessageContext, message: Buffer): void {
    const index = this.#offset + this.#buffer.length;
    const { channel } = this.#setup;
    const fits =
      this.#bufferedBytes + message.length <= channel.limits.callBuffer &&
      channel.bufferedBytes + message.length <= channel.limits.channelBuffer;
    const entry: BufferedEvent = { kind: "message", message, callback: undefined, bytes: 0 };
    this.#buffer.push(entry);
    if (fits) {
      entry.bytes = message.length;
      this.#account(message.length);
      process.nextTick(() => context.callback?.());
    } else {
      // Above the limit the call commits to one attempt, and from then on a write is called back when it is on the wire.
      const active = this.#children.find((child) => !child.done);
      if (active !== undefined) this.#commit(active);
      if (this.#committed === undefined) return;
      entry.callback = () => context.callback?.();
    }
    for (const child of this.#children) {
      if (!child.done && child.next === index) this.#sendNext(child);
    }
  }

  halfClose(): void {
    const index = this.#offset + this.#buffer.length;
    this.#buffer.push({ kind: "half-close" });
    for (const child of this.#children) {
      // Also while the last message is being sent: the half-close is then sent with it.
      if (!child.done && (child.next === index || child.next === index - 1)) {
        child.next += 1;
        child.attempt.halfClose();
      }
    }
  }

  cancelWithStatus(code: status, details: string): void {
    this.#retriesOff = true;
    this.#report(bareStatus(code, details));
    for (const child of this.#children) child.attempt.cancelWithStatus(code, details);
  }

  #startAttempt(): void {
    const attempt: Attempt = new Attempt(this.#setup, this.#metadata, {
      onReceiveMetadata: (metadata) => {
        this.#commit(child);
        if (!child.done) this.#listener.onReceiveMetadata(metadata);
      },
      onReceiveMessage: (message) => {
        this.#commit(child);
        if (!child.done) this.#listener.onReceiveMessage(message);
      },
      onReceiveStatus: (received, refused) => this.#ended(child, received, refused),
    });
    const child: Child = { attempt, next: 0, done: false };
    this.#children.push(child);
    attempt.pick();
    this.#sendNext(child);
    if (this.#readStarted) attempt.startRead();
  }

  #ended(child: Child, received: StatusObject, refused: boolean): void {
    if (child.done) return;
    child.done = true;
    if (refused && !this.#retriesOff && this.#committed === undefined && !this.#refusedOnce) {
      this.#refusedOnce = true;
      this.#startAttempt();
      return;
    }
    this.#commit(child);
    this.#report(received);
  }

  #commit(child: Child): void {
    if (this.#committed !== undefined) return;
    this.#committed = child;
    this.#clearSent();
  }

  #report(final: StatusObject): void {
    this.#account(-this.#bufferedBytes);
    this.#offset += this.#buffer.length;
    this.#buffer = [];
    process.nextTick(() => this.#listener.onReceiveStatus(final));
  }

  #sendNext(child: Child): void {
    const index = child.next;
    const entry = this.#buffer[index - this.#offset];
    if (child.done || entry === undefined) return;
    if (entry.kind === "half-close") {
      child.next += 1;
      child.attempt.halfClose();
      return;
    }
    child.attempt.sendMessage(entry.message, () => {
      // Absent once the call has ended: then the write is never called back.
      const written = this.#buffer[index - this.#offset];
      if (written?.kind === "message") written.callback?.();
      this.#clearSent();
      child.next += 1;
      this.#sendNext(child);
    });
    if (this.#buffer[index + 1 - this.#offset]?.kind === "half-close") {
      child.next += 1;
      child.attempt.halfClose();
    }
  }

  /** Removes from the buffer what the committed attempt no longer needs. */
  #clearSent(): void {
    if (this.#committed === undefined) return;
    const { done, next } = this.#committed;
    const needed = done ? this.#offset + this.#buffer.length : next;
    if (needed <= this.#offset) return;
    for (const entry of this.#buffer.splice(0, needed - this.#offset)) {
      if (entry.kind === "message") this.#account(-entry.bytes);
    }
    this.#offset = needed;
  }

  #account(bytes: number): void {
    this.#bufferedBytes += bytes;
    this.#setup.channel.bufferedBytes += bytes;
  }
}
