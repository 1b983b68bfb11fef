import { InterceptingCall, type StatusObject } from "@grpc/grpc-js";
import type { Failure } from "./outcome.js";
import type { ReplayAttempt } from "./replay-attempt.js";

/** What a call with several attempts is asked while they run. The answers are the policy's, not the machinery's. */
export abstract class AttemptDecisions extends InterceptingCall {
  /** An attempt ended, not OK and not committed. Launch another, conclude, or wait for those in flight. */
  protected abstract afterFailure(attempt: ReplayAttempt, failure: Failure): void;

  /**
   * Whether a single response is what the caller wants. One that is not is held back: when its attempt has ended
   * OK, `afterUnwanted` launches another or accepts it after all.
   */
  protected wants(_message: unknown): boolean {
    return true;
  }

  /**
   * What becomes of the headers of a single response. `held`: another attempt may follow a failure behind them, so they
   * wait for the message. `final`: none can, so they are shown, and the attempt is the one that the caller sees. `shown`:
   * none will, because attempts are only observed.
   */
  protected singleHeaders(): "held" | "final" | "shown" {
    return "held";
  }

  protected abstract afterUnwanted(attempt: ReplayAttempt, status: StatusObject): void;

  /** An attempt ended OK. */
  protected succeeded(_attempt: ReplayAttempt): void {}

  /** An attempt that has lost is left to run: its connection bears no further reset now. */
  protected leftToRun(_attempt: ReplayAttempt): void {}

  /** A message of a streamed response came in. */
  protected streamed(_message: unknown): void {}

  /** The request is no longer kept: the attempt that has sent most of it, or the next one, is the last. */
  protected outgrown(): void {}

  /**
   * The attempt that the caller sees has failed. True when the subclass goes on with another request, which it
   * has said with `resumeWith`.
   */
  protected afterCommittedFailure(_attempt: ReplayAttempt, _failure: Failure): boolean {
    return false;
  }

  /** The call has ended, or is being called off. Releases timers. */
  protected abstract released(): void;
}
