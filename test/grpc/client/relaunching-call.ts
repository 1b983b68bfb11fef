import type { Interceptor, NextCall, StatusObject } from "@grpc/grpc-js";
import type { Clock } from "../../../src/core/clock.js";
import type { Attempt, ReplayLimits } from "../../../src/grpc/client/attempt.js";
import { PipelineCall, type Segment } from "../../../src/grpc/client/pipeline-call.js";
import {
  type CallRecord,
  type OptionsWithRecord,
  withRecord,
} from "../../../src/grpc/context/call-record.js";
import { environmentOf } from "../../../src/grpc/environment.js";
import type { Failure } from "../../../src/grpc/status/outcome.js";

const roomy: ReplayLimits = { maxBufferBytes: 1 << 20, maxBufferMessages: 1_000 };

export interface Relaunch {
  /** Attempts of a call at most. @defaultValue 3 */
  readonly attempts?: number;
  /** Attempts that are started side by side, at once. @defaultValue 1 */
  readonly sideBySide?: number;
  /** Milliseconds between two attempts. @defaultValue none: at once */
  readonly waitMs?: number;
  readonly limits?: ReplayLimits;
}

/** The plainest subclass: it launches attempts until one answers or none is left. */
export class RelaunchingCall extends PipelineCall {
  /** How often the call was told that it has ended, or is committed. */
  releases = 0;
  readonly #relaunch: Relaunch;
  #stopWaiting: (() => void) | undefined;

  constructor(options: OptionsWithRecord, nextCall: NextCall, segment: Segment, given: Relaunch) {
    super(options, nextCall, segment, given.limits ?? roomy);
    this.#relaunch = given;
  }

  get attempts(): CallRecord["attempts"] {
    return this.record.attempts;
  }

  get canReplay(): boolean {
    return this.replayable;
  }

  protected override begin(): void {
    super.begin();
    for (let extra = 1; extra < (this.#relaunch.sideBySide ?? 1); extra++) this.again("hedge");
  }

  again(cause: "retry" | "hedge" = "retry", after?: StatusObject): void {
    this.launch(cause, 0, after);
  }

  endWith(final: StatusObject): void {
    this.finish(final);
  }

  protected override afterFailure(attempt: Attempt, { status }: Failure): void {
    const { attempts = 3, waitMs } = this.#relaunch;
    if (this.inFlight > 0) return;
    if (this.attempts.length >= attempts || !this.replayable) this.conclude(status, attempt);
    else if (waitMs === undefined) this.again("retry", status);
    else {
      this.#stopWaiting = this.record.clock.schedule(waitMs, () => this.again("retry", status));
    }
  }

  protected override released(): void {
    this.releases += 1;
    this.#stopWaiting?.();
  }
}

/** An interceptor of such calls, and the calls it made. */
export function relaunching(
  clock: Clock,
  given: Relaunch = {},
): { readonly interceptor: Interceptor; readonly calls: RelaunchingCall[] } {
  const environment = environmentOf({ clock }, "test");
  const calls: RelaunchingCall[] = [];
  const interceptor: Interceptor = (options, nextCall) => {
    const { pendingCalls } = environment;
    const segment = {
      calls: [],
      restores: false,
      gates: [],
      gated: false,
      attempts: [],
      tracked: true,
      pendingCalls,
    };
    const call = new RelaunchingCall(withRecord(options, environment), nextCall, segment, given);
    calls.push(call);
    return call;
  };
  return { interceptor, calls };
}
