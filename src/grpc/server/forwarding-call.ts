import type { Metadata, ServerInterceptor } from "@grpc/grpc-js";
import { receivedMetadata, sentStatus } from "../status/foreign-status.js";
import type { PartialStatus, ServerCall, ServerCallListener } from "../types.js";

/** A call as an interceptor returns it. grpc-js uses its methods only; its type also has private fields. */
export function intercepted(call: ServerCall): ReturnType<ServerInterceptor> {
  return call as ReturnType<ServerInterceptor>;
}

/**
 * The base of the toolkit's calls on a server: passes everything on, in both directions. One object is both the call and the
 * listener of the call below. It replaces `ServerInterceptingCall` of grpc-js, which never sends a status that is given to it
 * while a message is being processed.
 */
export class ForwardingServerCall implements ServerCall, ServerCallListener {
  /** The call nearer the wire. */
  protected readonly below: ServerCall;
  #listener: ServerCallListener | undefined;
  #begun = false;
  #refused = false;
  #ended = false;

  constructor(below: ServerCall) {
    this.below = below;
  }

  /**
   * Answers the call here, without its handler. The listener is told of the end as usual. Call it in `begunWith` or later:
   * before, the call below has no listener yet, and the end would be lost.
   */
  protected refuse(status: PartialStatus): void {
    this.#refused = true;
    this.below.sendStatus(status);
  }

  /** Answers the call here with a whole answer, without its handler. As {@link refuse} in all else. */
  protected reply(headers: Metadata | undefined, message: unknown, status: PartialStatus): void {
    this.#refused = true;
    if (headers !== undefined) this.below.sendMetadata(headers);
    if (message === undefined) this.below.sendStatus(status);
    else this.below.sendMessage(message, () => this.below.sendStatus(status));
  }

  // ---- From the wire.

  start(listener: ServerCallListener): void {
    this.#listener = listener;
    this.below.start(this);
  }

  /** May be given what is no `Metadata`, by interceptors of others. Subclasses override `begunWith`. */
  onReceiveMetadata(metadata: Metadata): void {
    // A second time would run the handler twice.
    if (this.#begun) return;
    this.#begun = true;
    this.begunWith(receivedMetadata(metadata));
  }

  /** The metadata of the request has arrived. Passes it on unless overridden. */
  protected begunWith(metadata: Metadata): void {
    this.#listener?.onReceiveMetadata(metadata);
  }

  onReceiveMessage(message: unknown): void {
    if (!this.#refused) this.#listener?.onReceiveMessage(message);
  }

  onReceiveHalfClose(): void {
    if (!this.#refused) this.#listener?.onReceiveHalfClose();
  }

  /** May be called twice: by grpc-js, and by what finds an end that grpc-js did not notice. Subclasses override `endedNow`. */
  onCancel(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.endedNow();
  }

  /**
   * The call has ended, in whichever way. grpc-js notices it once, or never: a call whose headers were sent and whose peer
   * reads nothing does not end while its connection lives. Passes it on unless overridden.
   */
  protected endedNow(): void {
    const listener = this.#listener;
    // grpc-js and node:http2 keep what listens to a call for some collections after its end, with all that it refers to.
    this.#listener = undefined;
    listener?.onCancel();
  }

  // ---- From the handler.

  sendMetadata(metadata: Metadata): void {
    this.below.sendMetadata(receivedMetadata(metadata));
  }

  sendMessage(message: unknown, callback: () => void): void {
    this.below.sendMessage(message, callback);
  }

  /** May be given an incomplete status, by interceptors of others. Subclasses override `answerWith`. */
  sendStatus(status: PartialStatus): void {
    this.answerWith(sentStatus(status));
  }

  /** The call is answered with a complete status. Passes it on unless overridden. */
  protected answerWith(status: PartialStatus): void {
    this.below.sendStatus(status);
  }

  startRead(): void {
    this.below.startRead();
  }

  getPeer(): string {
    return this.below.getPeer();
  }

  getDeadline(): ReturnType<ServerCall["getDeadline"]> {
    return this.below.getDeadline();
  }

  getHost(): string {
    return this.below.getHost();
  }

  getAuthContext(): ReturnType<ServerCall["getAuthContext"]> {
    return this.below.getAuthContext();
  }

  getConnectionInfo(): ReturnType<ServerCall["getConnectionInfo"]> {
    return this.below.getConnectionInfo();
  }

  getMetricsRecorder(): ReturnType<ServerCall["getMetricsRecorder"]> {
    return this.below.getMetricsRecorder();
  }
}
