import {
  type CallCredentials,
  type CallOptions,
  Metadata,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { receivedStatus } from "../status/foreign-status.js";
import { cancelQuietly, channelClosed, interceptorThrew } from "../status/local.js";
import type { ChannelCall, ClientCall, ClientListener, MessageContext } from "../types.js";

/** A call as it is known when the interceptors are asked. */
export interface LaunchedCall {
  readonly method: string;
  readonly metadata: Metadata;
  readonly options: CallOptions;
  /** The request, where it is a single message. */
  readonly message: Buffer | undefined;
  readonly responseStream: boolean;
}

/** Makes the chain of interceptors for a call, and gives it to {@link InterceptedCall.handedOver}. */
export type Launch = (call: InterceptedCall, launched: LaunchedCall) => void;

interface Sent {
  readonly context: MessageContext;
  readonly message: Buffer;
}

/**
 * A call of an intercepted channel.
 *
 * A channel is told the path of a method, and not whether its requests and responses are streams, which policies need to
 * know. The calls of a client show it: a request that is a single message is sent and closed in the same turn of the event
 * loop, while a stream closes only when its messages have been taken; and before such a request, grpc-js reads where the
 * response is a single message, too. So the interceptors are asked when a single request is complete, or else in the next
 * tick. With a stream of requests it does not show what the response is: a stream stands for both.
 */
export class InterceptedCall implements ChannelCall {
  readonly #method: string;
  readonly #options: CallOptions;
  readonly #target: string;
  readonly #launch: Launch;
  #started: { readonly metadata: Metadata; readonly listener: ClientListener } | undefined;
  #credentials: CallCredentials | undefined;
  readonly #sent: Sent[] = [];
  #halfClosed = false;
  #reads = 0;
  /** A read was wanted before a message came. */
  #readFirst = false;
  #cancelled: { readonly code: Status; readonly details: string } | undefined;
  #launched = false;
  #chain: ClientCall | undefined;
  /** The status that replaces that of the chain. */
  #failure: StatusObject | undefined;
  #ended = false;

  constructor(method: string, options: CallOptions, target: string, launch: Launch) {
    this.#method = method;
    this.#options = options;
    this.#target = target;
    this.#launch = launch;
  }

  start(metadata: Metadata, listener: ClientListener): void {
    this.#started = { metadata, listener };
    if (this.#halfClosed || this.#cancelled !== undefined) this.#go();
    else process.nextTick(() => this.#go());
  }

  sendMessageWithContext(context: MessageContext, message: Buffer): void {
    if (this.#chain !== undefined) this.#chain.sendMessageWithContext(context, message);
    else if (!this.#ended) this.#sent.push({ context, message });
  }

  startRead(): void {
    if (this.#chain !== undefined) {
      this.#chain.startRead();
      return;
    }
    if (this.#reads === 0 && this.#sent.length === 0) this.#readFirst = true;
    this.#reads += 1;
  }

  halfClose(): void {
    if (this.#chain !== undefined) {
      this.#chain.halfClose();
      return;
    }
    this.#halfClosed = true;
    this.#go();
  }

  cancelWithStatus(code: Status, details: string): void {
    if (this.#chain !== undefined) {
      this.#chain.cancelWithStatus(code, details);
      return;
    }
    this.#cancelled ??= { code, details };
    this.#go();
  }

  getPeer(): string {
    return this.#chain?.getPeer() ?? this.#target;
  }

  /** Names the call in traces of grpc-js, which know the calls below the interceptors only. */
  getCallNumber(): number {
    return 0;
  }

  setCredentials(credentials: CallCredentials): void {
    this.#credentials = credentials;
  }

  getAuthContext(): ReturnType<ChannelCall["getAuthContext"]> {
    return this.#chain?.getAuthContext() ?? null;
  }

  /**
   * Takes the chain of interceptors of this call. What it returns stands in its place for the client that made it: that one
   * starts the call, and sends a request that is a single message; the rest is done from here.
   */
  handedOver(chain: ClientCall): ClientCall {
    const [first] = this.#sent;
    return {
      start: (metadata) => {
        this.#chain = chain;
        chain.start(metadata, this.#listener);
      },
      sendMessageWithContext: (_context, message) => {
        chain.sendMessageWithContext(first?.context ?? {}, message);
      },
      sendMessage: (message) => chain.sendMessageWithContext(first?.context ?? {}, message),
      halfClose: () => chain.halfClose(),
      startRead: () => {},
      cancelWithStatus: (code, details) => chain.cancelWithStatus(code, details),
      getPeer: () => chain.getPeer(),
      getAuthContext: () => chain.getAuthContext(),
    };
  }

  #go(): void {
    const started = this.#started;
    if (this.#launched || started === undefined) return;
    this.#launched = true;
    const [first, second] = this.#sent;
    const single = this.#halfClosed && first !== undefined && second === undefined;
    const responseStream = !(single && this.#readFirst);
    const credentials = this.#credentials;
    try {
      this.#launch(this, {
        method: this.#method,
        metadata: started.metadata,
        options: { ...this.#options, ...(credentials === undefined ? {} : { credentials }) },
        message: single ? first.message : undefined,
        responseStream,
      });
      const chain = this.#chain;
      if (chain === undefined) throw new Error("an interceptor has not started the call");
      // Where the response is a single message, the bottom of the chain has begun to read.
      for (let reads = responseStream ? 0 : 1; reads < this.#reads; reads += 1) chain.startRead();
      if (!single) {
        for (const { context, message } of this.#sent) {
          chain.sendMessageWithContext(context, message);
        }
        if (this.#halfClosed) chain.halfClose();
      }
      const cancelled = this.#cancelled;
      if (cancelled !== undefined) chain.cancelWithStatus(cancelled.code, cancelled.details);
    } catch (error) {
      this.#fail(channelClosed(error) ?? interceptorThrew(error));
    }
    this.#sent.length = 0;
  }

  readonly #listener: ClientListener = {
    onReceiveMetadata: (metadata) => {
      if (!this.#ended) this.#started?.listener.onReceiveMetadata(metadata);
    },
    onReceiveMessage: (message: unknown) => {
      // The bottom of the chain says so where a single response has not come.
      if (message === null || this.#ended || this.#failure !== undefined) return;
      if (message instanceof Uint8Array) {
        this.#started?.listener.onReceiveMessage(message);
        return;
      }
      const details = "Behind a channel, a fallback or an interceptor has to answer with bytes";
      this.#failure = { code: Status.INTERNAL, details, metadata: new Metadata() };
      cancelQuietly(this.#chain, Status.INTERNAL, details);
    },
    onReceiveStatus: (received) => this.#end(this.#failure ?? receivedStatus(received)),
  };

  #fail(failed: StatusObject): void {
    cancelQuietly(this.#chain, failed.code, failed.details);
    process.nextTick(() => this.#end(failed));
  }

  #end(final: StatusObject): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#started?.listener.onReceiveStatus(final);
  }
}
