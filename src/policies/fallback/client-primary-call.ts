import { type Metadata, type NextCall, status as Status, type StatusObject } from "@grpc/grpc-js";
import { type CancelTask, expireAt } from "../../core/clock.js";
import type { Reason, Verdict } from "../../core/decision.js";
import { refusal } from "../../core/permit.js";
import type { Attempt } from "../../grpc/client/attempt.js";
import { completeWrite } from "../../grpc/client/foreign-call.js";
import {
  KeptRequest,
  keepRequest,
  type MessageCopy,
  type Reach,
  reach,
  reachOf,
  readableLater,
} from "../../grpc/client/kept-request.js";
import { PipelineCall, type Segment } from "../../grpc/client/pipeline-call.js";
import type {
  CallRecord,
  OptionsWithOwn,
  OptionsWithRecord,
} from "../../grpc/context/call-record.js";
import { CallDeadline, timeIsUp } from "../../grpc/deadline.js";
import type { Environment } from "../../grpc/environment.js";
import { readRetryDepth } from "../../grpc/metadata.js";
import { endedByClosing } from "../../grpc/status/local.js";
import { localRejection, rejectionOf } from "../../grpc/status/rejection.js";
import type { MessageContext } from "../../grpc/types.js";
import { noteAnswer } from "./client-degraded.js";
import type { FallbackPolicy } from "./client-policy.js";
import { askForAnswer, type FallbackAnswer } from "./client-providers.js";
import type { StaleCache } from "./stale-cache/client-cache.js";
import { type AnswerRecording, captureResponses } from "./stale-cache/client-recording.js";
import {
  failedForOpener,
  SharedCall,
  type SharedResult,
  type Waiter,
} from "./stale-cache/client-single-flight.js";

/**
 * The stage of a call:
 * - `request`: it waits for its request;
 * - `lookup`: it looks for a fresh answer in the cache;
 * - `primary`: it waits for the service;
 * - `begun`: the caller has got a part of the response, so that no other answer can replace it;
 * - `elsewhere`: the service is not waited for any more. The answer comes from a provider.
 */
type Stage = "request" | "lookup" | "primary" | "begun" | "elsewhere";

/**
 * The first part of a call with a fallback: a fresh answer from the cache, or the call to the service. That has less time
 * than the call itself (the reserve), and may be shared with equal calls.
 */
export abstract class PrimaryCall extends PipelineCall implements Waiter {
  protected readonly policy: FallbackPolicy;
  protected readonly environment: Environment;
  /** The request, for functions that answer in place of the service. */
  protected request: MessageCopy | undefined;
  /** The key of the call in the cache. */
  protected key: string | undefined;
  protected heldMetadata: Metadata | undefined;
  readonly #nextCall: NextCall;
  readonly #single: boolean;
  /** The request, if it is kept for the cache or for a shared call. */
  #sent: KeptRequest | undefined;
  #stage: Stage = "request";
  #ownCancel = false;
  /** The failure of the service, while the providers are asked. */
  protected failure: StatusObject | undefined;
  #shared: SharedCall | undefined;
  #recording: AnswerRecording | undefined;
  #time: PrimaryTime | undefined;
  #stopLookUp: (() => void) | undefined;

  constructor(
    options: OptionsWithRecord,
    nextCall: NextCall,
    segment: Segment,
    policy: FallbackPolicy,
    environment: Environment,
  ) {
    super(options, nextCall, segment);
    this.#nextCall = nextCall;
    this.policy = policy;
    this.environment = environment;
    this.#single = this.record.kind === "unary";
    if (policy.cache !== undefined) captureResponses(options.method_definition);
  }

  // ---- For the subclass.

  /** The service has failed, and the caller has got nothing of its response. */
  protected abstract failed(status: StatusObject): void;

  /** The cache has a fresh answer. */
  protected abstract fresh(answer: FallbackAnswer, cache: StaleCache): void;

  /** Ends the call with a status of the service, behind the headers that came with it. */
  protected override conclude(status: StatusObject): void {
    try {
      this.#showHeldMetadata();
    } finally {
      super.conclude(status);
    }
  }

  /** The status for the call, if the weir or its channel is closed. */
  protected get closing(): StatusObject | undefined {
    return this.environment.pendingCalls.closing(this.record.connection);
  }

  /**
   * The weir or the channel was closed while the call waited for the cache or for a provider. The call ends with the failure
   * of the service, if there is one.
   */
  protected readonly closed = (closed: StatusObject): void => {
    const failure = this.failure;
    this.record.restore(() =>
      failure === undefined ? this.finish(closed) : this.conclude(failure),
    );
  };

  protected decide(verdict: Verdict, detail: string, reason?: Reason): void {
    const { record } = this;
    const atMs = record.clock.now();
    const decision = { policy: "fallback", verdict, enforced: true, atMs, detail } as const;
    record.decide(reason === undefined ? decision : { ...decision, reason });
  }

  // ---- From above.

  protected override begin(): void {
    this.keepMetadata();
    // With a cache, the call waits for its request, which is part of the key.
    if (this.policy.cache === undefined) this.#launch();
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    const { method_definition: definition } = this.options;
    const { cache, asksFunctions } = this.policy;
    // The bytes that are serialized for the key are also the ones that are sent.
    const sent = cache === undefined ? message : keepRequest(definition, message, this);
    if (asksFunctions) this.request = readableLater(definition, sent);
    if (sent instanceof KeptRequest && this.#stage === "request" && !this.ended) {
      this.#sent = sent;
      this.#onRequest(sent);
    }
    if (this.#hasOwnCall) super.sendMessageWithContext(context, sent);
    else completeWrite(context);
    if (sent instanceof KeptRequest && sent !== message) sent.settle(this);
  }

  override halfClose(): void {
    if (this.#hasOwnCall) super.halfClose();
  }

  override cancelWithStatus(code: Status, details: string): void {
    this.#ownCancel = true;
    // The service may have answered already.
    if (this.inFlight > 0) {
      this.cancelAttempts(code, details);
      return;
    }
    this.#shared?.leave(this, code, details);
    super.cancelWithStatus(code, details);
  }

  override getPeer(): string {
    return this.#shared?.peer ?? super.getPeer();
  }

  override getAuthContext(): ReturnType<PipelineCall["getAuthContext"]> {
    return this.#shared?.authContext ?? super.getAuthContext();
  }

  override [reach](): Reach {
    const shared = this.#shared;
    if (shared === undefined) return super[reach]();
    return reachOf(shared.call, this.options.method_definition);
  }

  protected override released(): void {
    this.environment.pendingCalls.leave(this.closed);
    this.#stopLookUp?.();
    this.#time?.end();
  }

  // ---- To the service.

  #onRequest(request: KeptRequest): void {
    const { cache } = this.policy;
    this.key = cache?.keyOf(this, request);
    if (cache === undefined || this.key === undefined || cache.options.freshMs === 0) {
      this.#launch();
    } else this.#lookUp(cache, this.key);
  }

  #lookUp(cache: StaleCache, key: string): void {
    this.#stage = "lookup";
    const { record } = this;
    const { pendingCalls } = this.environment;
    pendingCalls.enter(this.closed, record.connection);
    if (this.ended) return;
    this.#stopLookUp = lookUpFresh(
      cache,
      record,
      this.options,
      key,
      (answer) => {
        // A store may have ended the call while it was asked.
        if (this.ended) return;
        pendingCalls.leave(this.closed);
        this.#stage = "elsewhere";
        this.fresh(answer, cache);
      },
      () => {
        pendingCalls.leave(this.closed);
        record.restore(() => this.#launch());
      },
    );
  }

  #launch(): void {
    if (this.ended) return;
    this.#stage = "primary";
    const { record, policy, key } = this;
    const { cache } = policy;
    const time = new PrimaryTime(record, (availableMs) => policy.reserveMs(availableMs));
    this.#time = time;
    time.whenOver(() => this.#timeUp(time));
    // Without a layer of deadlines, grpc-js cancels a call with its `parent`: such a call cannot be shared.
    const alone = !this.#single || this.options.parent !== undefined;
    if (key !== undefined && cache?.options.singleFlight === true && !alone) {
      // A call does not wait for one of lower priority, nor for one that waits for a connection if it would fail at once.
      const { waitForReady = false } = this.metadata.getOptions();
      const sharedKey = `${record.priority ?? ""} ${waitForReady} ${key}`;
      const { untilMs } = time;
      // The depth that the call would be sent with: a handler may have passed on the metadata of its inbound call.
      const retryDepth = Math.max(record.inbound?.retryDepth ?? 0, readRetryDepth(this.metadata));
      const opener = {
        record,
        metadata: this.metadata,
        request: this.#sent,
        untilMs,
        retryDepth,
      };
      this.#shared = cache.sharedCalls.join(
        sharedKey,
        opener,
        this,
        (onEnd) =>
          new SharedCall(
            this.#nextCall,
            this.options,
            this.environment,
            { ...opener, recording: cache.record(key) },
            onEnd,
          ),
      );
      return;
    }
    this.#alone(time);
  }

  #alone(time: PrimaryTime): void {
    if (this.key !== undefined) this.#recording = this.policy.cache?.record(this.key);
    const deadline = time.shorten(this.#single);
    if (deadline !== undefined) this.limit(deadline);
    super.begin();
  }

  /** The shared call has failed for a reason that may concern only its opener. This call asks the service itself. */
  #leaveShared(time: PrimaryTime): void {
    this.#shared = undefined;
    this.decide("queue", "shared a call that failed for its first caller");
    this.#alone(time);
    super.sendMessageWithContext({}, this.#sent);
    super.halfClose();
  }

  /** The time of the service, without the reserve, is over. */
  #timeUp({ availableMs, reserveMs }: PrimaryTime): void {
    const kept = `${Math.round(reserveMs)} ms are kept for the fallback`;
    this.decide("expire", kept, "DEADLINE_EXCEEDED");
    const detail = `Deadline exceeded after ${(Math.max(0, availableMs) / 1000).toFixed(3)}s, ${kept}`;
    const status = localRejection(refusal("DEADLINE_EXCEEDED", detail));
    this.#stage = "elsewhere";
    if (this.#shared !== undefined) this.#shared.leave(this, status.code, detail);
    else this.abandonAttempts(status.code, detail);
    this.#fail(status);
  }

  /** There is a call below of this call's own, or there will be one: what is sent and read goes there. */
  get #hasOwnCall(): boolean {
    return this.#shared === undefined && this.#stage !== "elsewhere";
  }

  // ---- From below.

  onSharedResult({ metadata, message, status }: SharedResult, shared: SharedCall): void {
    const { record } = this;
    record.restore(() => {
      if (this.closing === undefined && closedLocally(status)) {
        // The client of the opener was closed, and the client of this call was not.
        this.#time?.end();
        this.#shared = undefined;
        this.#launch();
        return;
      }
      if (shared.isOpenedBy(this)) {
        record.adopt(shared.record);
      } else {
        const time = this.#time;
        const sameForAll = this.policy.cache?.options.vary === "shared";
        if (sameForAll && time !== undefined && failedForOpener(status)) {
          this.#leaveShared(time);
          return;
        }
        this.decide("queue", "shared a call that was in flight");
      }
      this.heldMetadata = metadata;
      try {
        if (message !== undefined) this.#onMessage(message);
      } finally {
        if (!this.ended) this.#onStatus(status);
      }
    });
  }

  override attemptMetadata(_attempt: Attempt, metadata: Metadata): void {
    this.heldMetadata = metadata;
    if (this.#single && this.#stage === "primary") return;
    this.#beginResponse();
    this.#showHeldMetadata();
  }

  override attemptMessage(_attempt: Attempt, message: unknown): void {
    this.#onMessage(message);
  }

  protected override afterAttempt(_attempt: Attempt, status: StatusObject): void {
    this.#onStatus(status);
  }

  #onMessage(message: unknown): void {
    this.#beginResponse();
    this.#recording?.message(message);
    try {
      this.#showHeldMetadata();
    } finally {
      this.showMessage(message);
    }
  }

  #onStatus(received: StatusObject): void {
    if (received.code !== Status.OK) {
      const time = this.#stage === "primary" ? this.#time : undefined;
      const nowMs = this.record.clock.now();
      // With a reserve, the time of the service is over; without one, the time of the call.
      if (time === undefined || !timeIsUp(received.code, nowMs, time.untilMs)) this.#fail(received);
      else if (time.reserveMs > 0) this.#timeUp(time);
      else this.conclude(received);
      return;
    }
    this.#recording?.ended(received);
    noteAnswer(this.record, received);
    this.conclude(received);
  }

  #fail(status: StatusObject): void {
    const begun = this.#stage === "begun";
    this.#stage = "elsewhere";
    this.#time?.end();
    // No other answer replaces a response that has begun, nor is one wanted after a cancellation or a close.
    if (begun || this.#ownCancel || this.closing !== undefined) this.conclude(status);
    else {
      this.failure = status;
      this.failed(status);
    }
  }

  /** The caller is about to get a part of the response. */
  #beginResponse(): void {
    this.#stage = "begun";
    this.#time?.end();
  }

  #showHeldMetadata(): void {
    const metadata = this.heldMetadata;
    this.heldMetadata = undefined;
    if (metadata !== undefined) this.showMetadata(metadata);
  }
}

function closedLocally(status: StatusObject): boolean {
  const rejection = rejectionOf(status);
  return endedByClosing(status) || (rejection?.local === true && rejection.reason === "CLOSED");
}

/**
 * Looks for a fresh answer for at most `timeoutMs` of the cache. Calls one of the two once: `found`, in a tick of its own,
 * because the caller is still sending its request; `without` at once, if the store answers at once.
 *
 * @returns A function that ends the search.
 */
function lookUpFresh(
  cache: StaleCache,
  { clock, kind }: CallRecord,
  { method_definition: definition }: OptionsWithOwn,
  key: string,
  found: (answer: FallbackAnswer) => void,
  without: () => void,
): () => void {
  let over = false;
  const end = () => {
    if (over) return false;
    over = true;
    stopTimer();
    return true;
  };
  const goOn = () => {
    if (end()) without();
  };
  const { timeoutMs } = cache.load.limits;
  const stopTimer = expireAt(clock, clock.now() + timeoutMs, timeoutMs, goOn);
  const show = (answer: FallbackAnswer) => {
    if (end()) found(answer);
  };
  askForAnswer(
    kind,
    () => cache.askFresh(kind, definition, key),
    (answer) => {
      if (answer === undefined) goOn();
      else process.nextTick(show, answer);
    },
    goOn,
  );
  return end;
}

/**
 * The time that the service has: that of the call without the reserve. Layers below read the deadline of a call from its
 * record, so the record has the shorter one until the service has answered.
 */
class PrimaryTime {
  /** Until when, in monotonic milliseconds. */
  readonly untilMs: number;
  readonly availableMs: number;
  readonly reserveMs: number;
  readonly #record: CallRecord;
  /** The deadline of the call itself, if the record has had the shorter one. */
  #ownMs: number | undefined;
  #stopTimer: CancelTask | undefined;

  constructor(record: CallRecord, reserveMs: (availableMs: number) => number) {
    this.#record = record;
    const nowMs = record.clock.now();
    this.reserveMs = reserveMs(record.deadlineMs - nowMs);
    this.untilMs = record.deadlineMs - this.reserveMs;
    this.availableMs = this.untilMs - nowMs;
  }

  /** Runs `task` in the caller's context when the time is over. Without a reserve, the call's own deadline does that. */
  whenOver(task: () => void): void {
    if (this.reserveMs === 0) return;
    const record = this.#record;
    const over = () => record.restore(task);
    this.#stopTimer = expireAt(record.clock, this.untilMs, this.availableMs, over);
  }

  /**
   * Takes the reserve off the deadline of the call below.
   *
   * @returns The deadline that the server is told, for a single response, which can be replaced until its end. A stream
   *   that has begun may use all of the call's time.
   */
  shorten(single: boolean): CallDeadline | undefined {
    if (this.reserveMs === 0) return undefined;
    const record = this.#record;
    const { clock, connection } = record;
    this.#ownMs = record.deadlineMs;
    record.deadlineMs = this.untilMs;
    if (!single) return undefined;
    const leftMs = this.untilMs - clock.now();
    return new CallDeadline(this.untilMs, leftMs, clock, connection !== undefined);
  }

  /** The service has answered, or is not waited for any more: the record has the call's own deadline again. */
  end(): void {
    this.#stopTimer?.();
    if (this.#ownMs === undefined) return;
    this.#record.deadlineMs = this.#ownMs;
  }
}
