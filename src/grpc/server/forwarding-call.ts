import { type Metadata, ServerInterceptingCall } from "@grpc/grpc-js";
import { receivedMetadata, sentStatus } from "../status/foreign-status.js";
import type { PartialStatus, ServerCall, ServerCallListener } from "../types.js";

/**
 * The base of the toolkit's server interceptors: a call that passes everything on, in both directions. It
 * overrides the machinery of `ServerInterceptingCall`, in which a status that is sent while a message is
 * being worked on never leaves. One object is both the call and the listener of the call below.
 */
export class ForwardingServerCall extends ServerInterceptingCall implements ServerCallListener {
  /** The call nearer the wire. */
  protected readonly below: ServerCall;
  #listener: ServerCallListener | undefined;
  #begun = false;
  #refused = false;
  #ended = false;

  constructor(below: ServerCall) {
    super(below);
    this.below = below;
  }

  /**
   * Answers the call here. The handler does not run; the end of the call is told to the listener as ever.
   * The right place is `begunWith`: earlier, nobody below listens yet and the end would be lost.
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

  /** What it is told may be no metadata. Subclasses read them in `begunWith`. */
  onReceiveMetadata(metadata: Metadata): void {
    // Told twice, the handler would run twice.
    if (this.#begun) return;
    this.#begun = true;
    this.begunWith(receivedMetadata(metadata));
  }

  /** The metadata of the request have come. Passes them on unless overridden. */
  protected begunWith(metadata: Metadata): void {
    this.#listener?.onReceiveMetadata(metadata);
  }

  onReceiveMessage(message: unknown): void {
    if (!this.#refused) this.#listener?.onReceiveMessage(message);
  }

  onReceiveHalfClose(): void {
    if (!this.#refused) this.#listener?.onReceiveHalfClose();
  }

  /**
   * The call has ended, whichever way. grpc-js calls it once for every call that was started, or never: a call of which
   * the headers are out, and whose peer reads nothing, has no end for as long as the connection lives. Then whoever knows
   * better may call it, and what grpc-js says later is passed on no more.
   */
  onCancel(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#listener?.onCancel();
  }

  // ---- From the handler.

  override sendMetadata(metadata: Metadata): void {
    this.below.sendMetadata(receivedMetadata(metadata));
  }

  override sendMessage(message: unknown, callback: () => void): void {
    this.below.sendMessage(message, callback);
  }

  /** What it is given is not whole yet. Subclasses read the status in `answerWith`. */
  override sendStatus(status: PartialStatus): void {
    this.answerWith(sentStatus(status));
  }

  /** The call is answered with a status that is whole. Passes it on unless overridden. */
  protected answerWith(status: PartialStatus): void {
    this.below.sendStatus(status);
  }
}
