import type { Metadata, ServerInterceptor } from "@grpc/grpc-js";
import type { CancelTask } from "../../core/clock.js";
import type { Mode } from "../../core/control.js";
import { type Outcome, type Permit, refusal } from "../../core/permit.js";
import { currentInbound, type InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment } from "../../grpc/environment.js";
import { ForwardingServerCall } from "../../grpc/server/forwarding-call.js";
import { isExempt } from "../../grpc/server/policy.js";
import { outcomeOf } from "../../grpc/status/outcome.js";
import { serverRejection } from "../../grpc/status/server-rejection.js";
import type { PartialStatus, ServerCall } from "../../grpc/types.js";

/** Up to this share of its age a stream ends sooner, or all that were opened together would come back together. */
const spread = 0.1;

/** What says how old streams may become, and whether that holds: its mode may change while they are open. */
export interface StreamAgeBound {
  readonly mode: Mode;
  /** `Infinity` for no bound. */
  readonly maxStreamAgeMs: number;
}

/**
 * Ends streams that have become old, so that long ones do not stay for ever with the server that they were opened on:
 * UNAVAILABLE (reason `STREAM_AGED`). The handler is told as when its caller leaves; the caller opens the stream anew.
 * Unary calls pass, and so do the services by which a server is looked into: the end of a health watch says that the
 * server is gone. None at all where streams may become as old as they like.
 *
 * By the mode that holds when a stream has become old it is ended, or that is noted once, or nothing happens. One that
 * stays open is looked at again when it has become as old once more.
 */
export function streamAgeInterceptors(
  environment: Environment,
  bound: StreamAgeBound | undefined,
): readonly ServerInterceptor[] {
  if (bound === undefined || bound.maxStreamAgeMs === Number.POSITIVE_INFINITY) return [];
  return [
    (method, call) =>
      (method.requestStream || method.responseStream) && !isExempt(method.path)
        ? new AgingServerCall(call, environment, bound)
        : (call as ReturnType<ServerInterceptor>),
  ];
}

class AgingServerCall extends ForwardingServerCall {
  readonly #environment: Environment;
  readonly #bound: StreamAgeBound;
  #inbound: InboundCall | undefined;
  #openedMs = 0;
  #stopTimer: CancelTask | undefined;
  #aged = false;
  #answered = false;
  /** While it is observed: that the stream would have been ended, until it is known how it ends. */
  #spared: Permit | undefined;
  #noted = false;

  constructor(below: ServerCall, environment: Environment, bound: StreamAgeBound) {
    super(below);
    this.#environment = environment;
    this.#bound = bound;
  }

  protected override begunWith(metadata: Metadata): void {
    this.#inbound = currentInbound();
    this.#openedMs = this.#environment.clock.now();
    this.#wait();
    super.begunWith(metadata);
  }

  #wait(): void {
    const { clock, random } = this.#environment;
    const ageMs = this.#bound.maxStreamAgeMs * (1 - spread * random());
    this.#stopTimer = clock.schedule(ageMs, () => this.#old());
  }

  #old(): void {
    if (this.#answered) return;
    const { mode } = this.#bound;
    if (mode === "enforce") this.#end();
    else {
      if (mode === "observe") this.#note();
      this.#wait();
    }
  }

  #end(): void {
    this.#aged = true;
    const detail = this.#detail();
    const inbound = this.#inbound;
    this.#decide(detail, true);
    if (inbound !== undefined) inbound.answeredByPolicy = true;
    this.#settle("ignored");
    // What the handler has under way for this call is called off.
    inbound?.finish("cancelled");
    super.answerWith(serverRejection(refusal("STREAM_AGED", detail)));
  }

  #note(): void {
    if (this.#noted) return;
    this.#noted = true;
    this.#decide(this.#detail(), false);
    this.#spared = this.#inbound?.observed?.spared("admission", "STREAM_AGED");
  }

  #detail(): string {
    const ageMs = Math.round(this.#environment.clock.now() - this.#openedMs);
    return `the stream has been open for ${ageMs} ms; open it anew`;
  }

  #decide(detail: string, enforced: boolean): void {
    const atMs = this.#environment.clock.now();
    this.#inbound?.decide({
      policy: "admission",
      verdict: "stop",
      reason: "STREAM_AGED",
      enforced,
      atMs,
      detail,
    });
  }

  #settle(outcome: Outcome): void {
    const spared = this.#spared;
    this.#spared = undefined;
    spared?.settle(outcome);
  }

  override onCancel(): void {
    this.#stopTimer?.();
    // After an answer grpc-js tells of the end in the same way.
    this.#settle("ignored");
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
    this.#settle(outcomeOf(status.code));
    if (!this.#aged) super.answerWith(status);
  }
}
