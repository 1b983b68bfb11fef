import type { Metadata, ServerInterceptor } from "@grpc/grpc-js";
import type { CancelTask } from "../core/clock.js";
import { refusal } from "../core/refusal.js";
import { currentInbound } from "../grpc/inbound-call.js";
import { ForwardingServerCall } from "../grpc/server-call.js";
import { serverRejection } from "../grpc/server-rejection.js";
import type { Surroundings } from "../grpc/surroundings.js";
import type { PartialStatus, ServerCall } from "../grpc/types.js";

/** Up to this share of its age a stream ends sooner, or all that were opened together would come back together. */
const spread = 0.1;

/**
 * Ends streams that have become old, so that long ones do not stay for ever with the server that they were opened on:
 * UNAVAILABLE (reason `STREAM_AGED`). The handler is told as when its caller leaves; the caller opens the stream anew.
 * Unary calls pass. None at all where streams may become as old as they like.
 */
export function streamAgeInterceptors(
  surroundings: Surroundings,
  maxAgeMs: number,
): readonly ServerInterceptor[] {
  if (maxAgeMs === Number.POSITIVE_INFINITY) return [];
  return [
    (method, call) =>
      method.requestStream || method.responseStream
        ? new AgingServerCall(call, surroundings, maxAgeMs)
        : (call as ReturnType<ServerInterceptor>),
  ];
}

class AgingServerCall extends ForwardingServerCall {
  readonly #surroundings: Surroundings;
  readonly #maxAgeMs: number;
  #stopTimer: CancelTask | undefined;
  #aged = false;
  #answered = false;

  constructor(below: ServerCall, surroundings: Surroundings, maxAgeMs: number) {
    super(below);
    this.#surroundings = surroundings;
    this.#maxAgeMs = maxAgeMs;
  }

  protected override begunWith(metadata: Metadata): void {
    const { clock, random } = this.#surroundings;
    const inbound = currentInbound();
    const ageMs = this.#maxAgeMs * (1 - spread * random());
    this.#stopTimer = clock.schedule(ageMs, () => {
      if (this.#answered) return;
      this.#aged = true;
      const detail = `the stream has been open for ${Math.round(ageMs)} ms; open it anew`;
      const status = serverRejection(refusal("STREAM_AGED", detail));
      inbound?.decide({
        policy: "admission",
        verdict: "stop",
        reason: "STREAM_AGED",
        enforced: true,
        atMs: clock.now(),
        detail,
      });
      if (inbound !== undefined) inbound.answeredByPolicy = true;
      // What the handler has under way for this call is called off.
      inbound?.finish("cancelled");
      super.answerWith(status);
    });
    super.begunWith(metadata);
  }

  override onCancel(): void {
    this.#stopTimer?.();
    super.onCancel();
  }

  override sendMessage(message: unknown, callback: () => void): void {
    // What the handler still sends goes nowhere, and must not make it wait.
    if (this.#aged) process.nextTick(callback);
    else super.sendMessage(message, callback);
  }

  protected override answerWith(status: PartialStatus): void {
    this.#answered = true;
    this.#stopTimer?.();
    if (!this.#aged) super.answerWith(status);
  }
}
