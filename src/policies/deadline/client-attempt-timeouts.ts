import { connectivityState, type Interceptor, type StatusObject } from "@grpc/grpc-js";
import { type CancelTask, type Clock, expireAt, heldUp } from "../../core/clock.js";
import type { RefusalReason } from "../../core/decision.js";
import { InvalidOptionError } from "../../core/options.js";
import { refusal } from "../../core/permit.js";
import type { Attempt, AttemptPart, AttemptWatch } from "../../grpc/client/attempt.js";
import { interceptorOf } from "../../grpc/client/parts.js";
import { type StandaloneOptions, takeStandalone } from "../../grpc/client/policy.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import { CallDeadline } from "../../grpc/deadline.js";
import { isAddress } from "../../grpc/status/origin.js";
import type { Failure } from "../../grpc/status/outcome.js";
import { isLocal, localRejection } from "../../grpc/status/rejection.js";
import {
  type ResolvedTimeoutOptions,
  resolveTimeoutOptions,
  type TimeoutOptions,
} from "./options.js";

/**
 * The timeouts of one attempt: for its connection, for the first response, between messages of a streamed response, and for
 * the whole attempt. They stand behind the gates, so that a wait in a queue of this process is not the time of the attempt.
 * `undefined` where none is set.
 */
export function attemptTimeoutsPart(timeouts: ResolvedTimeoutOptions): AttemptPart | undefined {
  const { connectionMs, attemptMs, firstResponseMs, idleMs } = timeouts;
  const bounds = connectionMs ?? attemptMs ?? firstResponseMs ?? idleMs;
  if (bounds === undefined) return undefined;
  return {
    at: "attempt",
    begin(attempt) {
      const watch = new TimeoutsWatch(attempt, timeouts);
      watch.begin();
      return watch;
    },
  };
}

class TimeoutsWatch implements AttemptWatch {
  readonly #attempt: Attempt;
  readonly #record: CallRecord;
  readonly #clock: Clock;
  readonly #timeouts: ResolvedTimeoutOptions;
  readonly #timers = new Map<RefusalReason, CancelTask>();
  readonly #streamed: boolean;
  #stopWatching: (() => void) | undefined;
  /** What `getPeer()` answered before the call had a connection. Only used where the channel is not known. */
  #peerAtStart: string | undefined;
  /** Headers or a message have come. */
  #responding = false;
  #resetCounted = false;

  constructor(attempt: Attempt, timeouts: ResolvedTimeoutOptions) {
    this.#attempt = attempt;
    this.#record = attempt.record;
    this.#clock = attempt.clock;
    this.#timeouts = timeouts;
    this.#streamed = attempt.options.method_definition.responseStream;
  }

  begin(): void {
    const attempt = this.#attempt;
    const { connectionMs, attemptMs, firstResponseMs } = this.#timeouts;
    this.#watchConnection(connectionMs);
    this.#arm("FIRST_RESPONSE_TIMEOUT", firstResponseMs);
    this.#arm("ATTEMPT_TIMEOUT", attemptMs);
    if (attemptMs === undefined) return;
    const dueMs = this.#clock.now() + attemptMs;
    if (dueMs >= this.#record.deadlineMs) return;
    attempt.attempt.untilMs = dueMs;
    attempt.attempt.ownTime = true;
    const byChannel = this.#record.connection !== undefined;
    const deadline = new CallDeadline(dueMs, attemptMs, this.#clock, byChannel);
    attempt.options = { ...attempt.options, deadline };
  }

  started(): void {
    if (this.#timeouts.connectionMs === undefined || this.#record.connection !== undefined) return;
    const peer = this.#attempt.getPeer();
    this.#record.learnTarget(peer);
    this.#peerAtStart = peer;
    if (peer !== "unknown") return;
    // The call below never names a peer, so that a call without a connection looks like one with a connection.
    this.#disarm("CONNECTION_TIMEOUT");
    this.#record.warnOnce(
      "timeouts.connectionMs",
      "does nothing: the interceptor knows neither the channel nor the peer. Give the client all of weir.client(), not its interceptors alone",
    );
  }

  reading(): void {
    this.#armIdle();
  }

  headers(): void {
    this.#respond();
  }

  message(): void {
    this.#disarm("IDLE_TIMEOUT");
    this.#respond();
  }

  endedBelow(): void {
    if (this.#resetCounted) return;
    this.#resetCounted = true;
    const { resets, target } = this.#record;
    // The end of the call that was cancelled below. By now the peer tells whether there was a stream that was reset.
    const peer = this.#attempt.getPeer();
    const made = isAddress(peer, target);
    resets?.ended(target, this.#attempt.attempt, made ? peer : undefined);
  }

  ended(status: StatusObject, failure: Failure | undefined): StatusObject | undefined {
    this.#stop();
    const { attemptMs } = this.#timeouts;
    if (attemptMs === undefined || failure?.origin !== "attempt-timeout" || isLocal(status)) {
      return undefined;
    }
    // The server was given the timeout of the attempt as the deadline, and was the first to end it.
    return this.#expired("ATTEMPT_TIMEOUT", attemptMs, 0);
  }

  #stop(): void {
    this.#stopWatching?.();
    for (const stop of this.#timers.values()) stop();
  }

  #respond(): void {
    if (this.#responding) return;
    this.#responding = true;
    this.#disarm("CONNECTION_TIMEOUT");
    this.#disarm("FIRST_RESPONSE_TIMEOUT");
    this.#armIdle();
  }

  /**
   * Runs only while a message has been asked for, so that a reader that takes its time does not end its own stream, and only
   * once the response has begun: before that, the timeout of the first response runs.
   */
  #armIdle(): void {
    if (!this.#streamed || !this.#attempt.reading || !this.#responding) return;
    this.#disarm("IDLE_TIMEOUT");
    this.#arm("IDLE_TIMEOUT", this.#timeouts.idleMs);
  }

  /** Watches the channel, which knows whether there is a connection. The peer of the call shows it only later. */
  #watchConnection(connectionMs: number | undefined): void {
    const { connection } = this.#record;
    if (connectionMs === undefined) return;
    if (connection === undefined) {
      // Without the channel, the peer of the call tells whether there is a connection, when the time is up.
      this.#arm("CONNECTION_TIMEOUT", connectionMs);
      return;
    }
    // An idle channel connects when the call is started. On a closed channel the call fails at once.
    if (connection.state === connectivityState.READY || connection.closed) return;
    this.#arm("CONNECTION_TIMEOUT", connectionMs);
    this.#stopWatching = connection.subscribe((state) => {
      if (state === connectivityState.READY || state === connectivityState.SHUTDOWN) {
        this.#disarm("CONNECTION_TIMEOUT");
      }
    });
  }

  #arm(reason: RefusalReason, ms: number | undefined): void {
    if (ms === undefined) return;
    const dueMs = this.#clock.now() + ms;
    const stop = expireAt(this.#clock, dueMs, ms, (lateMs) => this.#expire(reason, ms, lateMs));
    this.#timers.set(reason, stop);
  }

  #disarm(reason: RefusalReason): void {
    this.#timers.get(reason)?.();
  }

  /** Ends the attempt, now or when the reset budget of its connection allows it. */
  #expire(reason: RefusalReason, ms: number, lateMs: number): void {
    const record = this.#record;
    const { resets, target, connection, priority } = record;
    if (reason === "CONNECTION_TIMEOUT" && connection === undefined) {
      // With a connection, `getPeer()` is the address of the peer. Before that it is the target of the channel, and then
      // `unknown`.
      const peer = this.#attempt.getPeer();
      if (peer === this.#peerAtStart || peer === "unknown") this.#end(reason, ms, lateMs);
      return;
    }
    const { attempt } = this.#attempt;
    // Without a connection there is no stream to be reset.
    const sent = connection === undefined || connection.state === connectivityState.READY;
    if (!sent || resets === undefined || resets.take(target, "timeout", attempt)) {
      this.#end(reason, ms, lateMs);
      return;
    }
    this.#timers.set(
      reason,
      resets.later(target, "timeout", attempt, () => this.#end(reason, ms, lateMs), priority),
    );
    record.decide({
      policy: "timeouts",
      verdict: "skip",
      reason: "RESET_BUDGET",
      enforced: true,
      atMs: this.#clock.now(),
      detail: `${reason} waits`,
    });
  }

  #end(reason: RefusalReason, ms: number, lateMs: number): void {
    this.#stop();
    const final = this.#expired(reason, ms, lateMs);
    // A timer runs in the async context of whatever armed it; what follows runs in that of the caller.
    this.#record.restore(() => this.#attempt.expire(final));
  }

  #expired(reason: RefusalReason, ms: number, lateMs: number): StatusObject {
    if (heldUp(lateMs)) this.#attempt.attempt.heldUp = true;
    const detail = `${texts[reason] ?? reason} within ${ms} ms`;
    const atMs = this.#clock.now();
    this.#record.decide({
      policy: "timeouts",
      verdict: "expire",
      reason,
      enforced: true,
      atMs,
      detail,
    });
    return localRejection(refusal(reason, detail));
  }
}

const texts: Readonly<Partial<Record<RefusalReason, string>>> = {
  CONNECTION_TIMEOUT: "No connection was ready",
  ATTEMPT_TIMEOUT: "The attempt did not end",
  FIRST_RESPONSE_TIMEOUT: "No response came",
  IDLE_TIMEOUT: "No further message came",
};

/**
 * The timeouts of attempts as an interceptor of its own, with the same options for all methods. Put it innermost. `totalMs` is
 * refused here: it is about the whole call, and `weir.client` has it.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/deadlines.md#timeouts
 */
export function timeouts(
  options: Omit<TimeoutOptions, "totalMs"> & StandaloneOptions,
): Interceptor {
  const { environment, rest } = takeStandalone(options, "timeouts");
  if ("totalMs" in rest) {
    throw new InvalidOptionError(
      "timeouts.totalMs",
      "absent in a timeouts interceptor that stands alone: give it to weir.client",
      rest.totalMs,
    );
  }
  return interceptorOf(environment, attemptTimeoutsPart(resolveTimeoutOptions(rest)));
}
