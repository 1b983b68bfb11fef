import { captureContext, type RestoreContext } from "../grpc/async-context.js";
import type { InboundCall, InboundEnd } from "../grpc/inbound-call.js";

/** What a run is bound to beside its guard: an inbound call, a signal of the caller's, and the work it may call off. */
export class GuardBonds {
  /** Calls off the work of the current attempt. */
  abort: AbortController | undefined = undefined;
  #restore: RestoreContext | undefined = undefined;
  #unfollowInbound: (() => void) | undefined = undefined;
  #unfollowSignal: (() => void) | undefined = undefined;

  /** A timer serves many runs. What is begun or told from it must find the context of this one. */
  keepContext(): void {
    this.#restore = captureContext();
  }

  inContext(task: () => void): void {
    if (this.#restore === undefined) task();
    else this.#restore(task);
  }

  followInbound(inbound: InboundCall, calledOff: (end: InboundEnd) => void): void {
    this.#unfollowInbound = inbound.onCalledOff(calledOff);
  }

  followSignal(signal: AbortSignal, aborted: () => void): void {
    signal.addEventListener("abort", aborted, { once: true });
    this.#unfollowSignal = () => signal.removeEventListener("abort", aborted);
  }

  /** The run has ended: nothing ends it any more. */
  unfollow(): void {
    this.#unfollowInbound?.();
    this.#unfollowSignal?.();
  }

  /** Calls the work of the current attempt off, in the context of the run. */
  callOff(reason: unknown): void {
    const { abort } = this;
    if (abort === undefined) return;
    this.abort = undefined;
    this.inContext(() => abort.abort(reason));
  }
}
