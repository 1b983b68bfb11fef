import { type Metadata, ServerInterceptingCall } from "@grpc/grpc-js";
import type { PartialStatus, ServerCall, ServerCallListener } from "./types.js";

/**
 * The base of the toolkit's server interceptors: a call that passes everything on, in both directions. It
 * overrides the machinery of `ServerInterceptingCall`, in which a status that is sent while a message is
 * being worked on never leaves. One object is both the call and the listener of the call below.
 */
export class ForwardingServerCall extends ServerInterceptingCall implements ServerCallListener {
  /** The call nearer the wire. */
  protected readonly below: ServerCall;
  #listener: ServerCallListener | undefined;
  #refused = false;

  constructor(below: ServerCall) {
    super(below);
    this.below = below;
  }

  /**
   * Answers the call here. The handler does not run; the end of the call is told to the listener as ever.
   * The right place is `onReceiveMetadata`: earlier, nobody below listens yet and the end would be lost.
   */
  protected refuse(status: PartialStatus): void {
    this.#refused = true;
    this.below.sendStatus(status);
  }

  // ---- From the wire.

  override start(listener: ServerCallListener): void {
    this.#listener = listener;
    this.below.start(this);
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.#listener?.onReceiveMetadata(metadata);
  }

  onReceiveMessage(message: unknown): void {
    if (!this.#refused) this.#listener?.onReceiveMessage(message);
  }

  onReceiveHalfClose(): void {
    if (!this.#refused) this.#listener?.onReceiveHalfClose();
  }

  /** The call has ended, whichever way. grpc-js calls it once for every call that was started. */
  onCancel(): void {
    this.#listener?.onCancel();
  }

  // ---- From the handler.

  override sendMetadata(metadata: Metadata): void {
    this.below.sendMetadata(metadata);
  }

  override sendMessage(message: unknown, callback: () => void): void {
    this.below.sendMessage(message, callback);
  }

  override sendStatus(status: PartialStatus): void {
    this.below.sendStatus(status);
  }
}
