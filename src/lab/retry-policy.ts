import { nextTick } from "node:process";
import { type Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { CancelTask } from "../core/clock.js";
import type { ChannelCall, ClientListener, MessageContext } from "../grpc/types.js";
import { epochMs } from "../testing/in-memory/headers.js";
import { bareStatus, seconds } from "../testing/in-memory/status.js";
import { type CallSetup, LabCall } from "./call.js";

/** A retry policy of a service config (gRFC A6). */
export interface RetryPolicy {
  /** The first included. */
  readonly maxAttempts: number;
  readonly initialBackoffMs: number;
  readonly maxBackoffMs: number;
  readonly backoffMultiplier: number;
  readonly retryableStatusCodes: readonly Status[];
  /** `retryThrottling`: a failure takes a token, a success gives `tokenRatio` back. */
  readonly maxTokens: number;
  readonly tokenRatio: number;
}

/** The tokens of a channel: no retries while half of them or fewer are left. */
export class RetryThrottle {
  readonly #policy: RetryPolicy;
  #tokens: number;

  constructor(policy: RetryPolicy) {
    this.#policy = policy;
    this.#tokens = policy.maxTokens;
  }

  get allows(): boolean {
    return this.#tokens > this.#policy.maxTokens / 2;
  }

  succeeded(): void {
    this.#tokens = Math.min(this.#policy.maxTokens, this.#tokens + this.#policy.tokenRatio);
  }

  failed(): void {
    this.#tokens = Math.max(0, this.#tokens - 1);
  }
}

const jitter = 0.2;

/** A call whose channel has a retry policy. The layers above see one call, and one status. */
export class RetryingCall implements ChannelCall {
  readonly #setup: CallSetup;
  readonly #policy: RetryPolicy;
  readonly #throttle: RetryThrottle;
  readonly #startedMs: number;
  #metadata: Metadata | undefined;
  #listener: ClientListener | undefined;
  #message: Buffer | undefined;
  #attempt: LabCall | undefined;
  #attempts = 0;
  #reads = 0;
  #backoffMs: number;
  #cancelTimer: CancelTask = () => {};
  #cancelWait: CancelTask = () => {};
  #committed = false;
  #ended = false;

  constructor(setup: CallSetup, policy: RetryPolicy, throttle: RetryThrottle) {
    this.#setup = { ...setup, timed: false };
    this.#policy = policy;
    this.#throttle = throttle;
    this.#backoffMs = policy.initialBackoffMs;
    const { process } = setup.channel;
    this.#startedMs = process.now();
    const leftMs = epochMs(setup.deadline) - process.wallNow();
    if (leftMs < 2 ** 31) this.#cancelTimer = process.schedule(leftMs, () => this.#expire());
  }

  start(metadata: Metadata, listener: ClientListener): void {
    this.#metadata = metadata.clone();
    this.#listener = listener;
  }

  sendMessageWithContext(context: MessageContext, message: Buffer): void {
    this.#message = message;
    const { callback } = context;
    if (callback !== undefined) nextTick(callback);
  }

  halfClose(): void {
    this.#try();
  }

  startRead(): void {
    this.#reads += 1;
    this.#attempt?.startRead();
  }

  cancelWithStatus(code: Status, details: string): void {
    if (this.#ended) return;
    const attempt = this.#attempt;
    this.#finish();
    attempt?.cancelWithStatus(code, details);
    nextTick(() => this.#listener?.onReceiveStatus(bareStatus(code, details)));
  }

  getPeer(): string {
    return this.#attempt?.getPeer() ?? this.#setup.channel.getTarget();
  }

  getCallNumber(): number {
    return this.#setup.number;
  }

  setCredentials(): void {}

  getAuthContext(): null {
    return null;
  }

  #expire(): void {
    const elapsed = seconds(this.#startedMs, this.#setup.channel.process.now());
    this.cancelWithStatus(Status.DEADLINE_EXCEEDED, `Deadline exceeded after ${elapsed}`);
  }

  #try(): void {
    const metadata = this.#metadata;
    const message = this.#message;
    if (this.#ended || metadata === undefined || message === undefined) return;
    this.#attempts += 1;
    if (this.#attempts > 1) metadata.set("grpc-previous-rpc-attempts", String(this.#attempts - 1));
    const attempt = new LabCall(this.#setup);
    this.#attempt = attempt;
    attempt.start(metadata, {
      onReceiveMetadata: (headers) => {
        this.#committed = true;
        if (!this.#ended) this.#listener?.onReceiveMetadata(headers);
      },
      onReceiveMessage: (answer: Buffer) => {
        if (!this.#ended) this.#listener?.onReceiveMessage(answer);
      },
      onReceiveStatus: (status) => this.#judge(status),
    });
    for (let read = 0; read < this.#reads; read += 1) attempt.startRead();
    attempt.sendMessageWithContext({}, message);
    attempt.halfClose();
  }

  #judge(status: StatusObject): void {
    if (this.#ended) return;
    const pushback = pushbackOf(status.metadata);
    const retryable = this.#policy.retryableStatusCodes.includes(status.code);
    if (status.code === Status.OK) this.#throttle.succeeded();
    else if (retryable || pushback === "stop") this.#throttle.failed();
    const again =
      retryable &&
      !this.#committed &&
      pushback !== "stop" &&
      this.#attempts < this.#policy.maxAttempts &&
      this.#throttle.allows;
    if (!again) {
      this.#finish();
      this.#listener?.onReceiveStatus(status);
      return;
    }
    const { process } = this.#setup.channel;
    this.#cancelWait = process.schedule(pushback ?? this.#nextBackoffMs(), () => this.#try());
    if (pushback !== undefined) this.#backoffMs = this.#policy.initialBackoffMs;
  }

  #nextBackoffMs(): number {
    const { random } = this.#setup.channel.process;
    const delayMs = this.#backoffMs * (1 - jitter + random() * 2 * jitter);
    const nextMs = this.#backoffMs * this.#policy.backoffMultiplier;
    this.#backoffMs = Math.min(nextMs, this.#policy.maxBackoffMs);
    return delayMs;
  }

  #finish(): void {
    this.#ended = true;
    this.#cancelTimer();
    this.#cancelWait();
  }
}

/** `grpc-retry-pushback-ms`; `stop` where it is negative. */
function pushbackOf(metadata: Metadata): number | "stop" | undefined {
  const [pushback] = metadata.get("grpc-retry-pushback-ms");
  if (typeof pushback !== "string") return undefined;
  const ms = Number.parseInt(pushback, 10);
  return ms >= 0 ? ms : "stop";
}
