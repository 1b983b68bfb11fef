import { type CallCredentials, type Metadata, type StatusObject, status } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.js";
import type { Connection } from "./connection.js";
import { epochMs, timeoutHeader, toWire } from "./headers.js";
import type { InMemoryNetwork } from "./network.js";
import { bareStatus, seconds } from "./status.js";
import { SubchannelCall } from "./subchannel-call.js";

/** The answer of the channel to an attempt that wants a connection. */
export type Pick =
  | { readonly kind: "ready" }
  | { readonly kind: "queue" }
  | { readonly kind: "failed"; readonly details: string };

/** What calls and their attempts need of their channel. `C` is the type of a call. */
export interface CallChannel<C = never> {
  readonly network: InMemoryNetwork;
  readonly clock: Clock;
  readonly userAgent: string;
  readonly retriesEnabled: boolean;
  /** The limits of message and buffer sizes in bytes; -1 for none. */
  readonly limits: {
    readonly send: number;
    readonly receive: number;
    readonly callBuffer: number;
    readonly channelBuffer: number;
  };
  /** How many bytes the calls of this channel keep for a transparent retry. */
  bufferedBytes: number;
  readonly connection: Connection | undefined;
  /** Whether the name of the target is resolved. False after the channel is closed. */
  readonly resolved: boolean;
  getTarget(): string;
  /** Keeps a call until the name is resolved, and starts the resolution if it is not running. */
  queueForName(call: C): void;
  pick(): Pick;
  queueForPick(attempt: Attempt): void;
  leavePickQueue(attempt: Attempt): void;
  callEnded(): void;
}

/** What all attempts of a call share. */
export interface AttemptSetup {
  readonly channel: CallChannel;
  readonly path: string;
  readonly host: string;
  readonly credentials: CallCredentials | undefined;
  readonly deadline: Date | number;
}

export interface AttemptListener {
  onReceiveMetadata(metadata: Metadata): void;
  onReceiveMessage(message: Buffer): void;
  onReceiveStatus(status: StatusObject, refused: boolean): void;
}

/** One attempt of a call: it waits for a connection, and then uses one stream of it. */
export class Attempt {
  readonly startedAt: number;
  readonly #setup: AttemptSetup;
  readonly #listener: AttemptListener;
  readonly #metadata: Metadata;
  #child: SubchannelCall | undefined;
  #childAt = 0;
  #pendingMessage: { readonly message: Buffer; readonly written: () => void } | undefined;
  #pendingHalfClose = false;
  #readPending = false;
  #ended = false;

  constructor(setup: AttemptSetup, metadata: Metadata, listener: AttemptListener) {
    this.#setup = setup;
    this.#metadata = metadata;
    this.#listener = listener;
    this.startedAt = setup.channel.clock.now();
  }

  get peer(): string {
    return this.#child?.peer ?? this.#setup.channel.getTarget();
  }

  deadlineInfo(): string[] {
    const info: string[] = [];
    const waits = this.#metadata.getOptions().waitForReady === true ? ["wait_for_ready"] : [];
    if (this.#child === undefined) return [...waits, "Waiting for LB pick"];
    if (this.#childAt > this.startedAt) {
      info.push(...waits, `LB pick: ${seconds(this.startedAt, this.#childAt)}`);
    }
    return [...info, `remote_addr=${this.#child.peer}`];
  }

  /** Asks the channel for a connection: at the start, and again when the state of the channel has changed. */
  pick(): void {
    if (this.#ended) return;
    const picked = this.#setup.channel.pick();
    if (picked.kind === "ready") {
      // As in grpc-js, this takes a turn of microtasks even without credentials.
      void this.#credentialsMetadata().then(
        (metadata) => this.#open(metadata),
        (error: unknown) => this.#failCredentials(error),
      );
    } else if (picked.kind === "queue" || this.#metadata.getOptions().waitForReady === true) {
      this.#setup.channel.queueForPick(this);
    } else {
      const failed = bareStatus(status.UNAVAILABLE, picked.details);
      this.#setup.channel.network.after(0, () => this.#output(failed));
    }
  }

  sendMessage(message: Buffer, written: () => void): void {
    if (this.#child === undefined) this.#pendingMessage = { message, written };
    else this.#child.write(message, written);
  }

  halfClose(): void {
    if (this.#child === undefined) this.#pendingHalfClose = true;
    else this.#child.halfClose();
  }

  startRead(): void {
    if (this.#child === undefined) this.#readPending = true;
    else this.#child.startRead();
  }

  cancelWithStatus(code: status, details: string): void {
    this.#child?.cancelWithStatus(code, details);
    this.#output(bareStatus(code, details));
  }

  async #credentialsMetadata(): Promise<Metadata | undefined> {
    return this.#setup.credentials?.generateMetadata({
      method_name: this.#setup.path.split("/").at(-1) ?? "",
      service_url: `https://${this.#setup.host}${this.#setup.path.replace(/\/[^/]*$/, "")}`,
    });
  }

  #failCredentials(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    const details = `Getting metadata from plugin failed with error: ${reason}`;
    this.#output(bareStatus(status.UNKNOWN, details));
  }

  #open(credentials: Metadata | undefined): void {
    if (this.#ended) return;
    const { channel, path, host, deadline } = this.#setup;
    const connection = channel.connection;
    if (connection === undefined) {
      this.pick();
      return;
    }
    const metadata = this.#metadata.clone();
    if (credentials !== undefined) metadata.merge(credentials);
    if (deadline !== Number.POSITIVE_INFINITY) {
      metadata.set("grpc-timeout", timeoutHeader(epochMs(deadline), channel.clock.wallNow()));
    }
    metadata.set("user-agent", channel.userAgent);
    const head = { path, authority: host, headers: toWire(metadata) };
    this.#childAt = channel.clock.now();
    this.#child = new SubchannelCall(
      channel.network,
      connection,
      head,
      {
        onReceiveMetadata: (received) => this.#listener.onReceiveMetadata(received),
        onReceiveMessage: (message) => this.#listener.onReceiveMessage(message),
        onReceiveStatus: (received, refused) => this.#output(received, refused),
      },
      channel.limits.receive,
    );
    if (this.#readPending) this.#child.startRead();
    if (this.#pendingMessage !== undefined) {
      this.#child.write(this.#pendingMessage.message, this.#pendingMessage.written);
    }
    if (this.#pendingHalfClose) this.#child.halfClose();
  }

  #output(final: StatusObject, refused = false): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#setup.channel.leavePickQueue(this);
    this.#listener.onReceiveStatus(final, refused);
  }
}
