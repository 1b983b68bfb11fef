import { Metadata, type NextCall, status as Status, type StatusObject } from "@grpc/grpc-js";
import { type CancelTask, expireAt } from "../../core/clock.js";
import type { Reason, Verdict } from "../../core/decision.js";
import { refusal } from "../../core/permit.js";
import { completeWrite, ForwardingCall } from "../../grpc/client/forwarding-call.js";
import { keepMetadata } from "../../grpc/client/kept-metadata.js";
import {
  KeptRequest,
  keepRequest,
  type MessageCopy,
  type Reach,
  reach,
  reachOf,
  readableLater,
} from "../../grpc/client/kept-request.js";
import type { CallRecord, OptionsWithOwn } from "../../grpc/context/call-record.js";
import { CallDeadline, timeIsUp } from "../../grpc/deadline.js";
import type { Environment } from "../../grpc/environment.js";
import { readRetryDepth } from "../../grpc/metadata.js";
import { callOff, endedByClosing } from "../../grpc/status/local.js";
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
 * Where a call stands: it waits for its `request`, looks into the cache (`lookup`), runs (`primary`), or has `begun` to
 * show a response that nothing can replace; or its answer comes from `elsewhere`.
 */
type Stage = "request" | "lookup" | "primary" | "begun" | "elsewhere";

/**
 * The part of a call that may be answered by a fallback in which the service itself is asked: with less time than the call
 * has, together with others who ask the same, and unless there is an answer that is still fresh.
 */
export abstract class PrimaryCall extends ForwardingCall<OptionsWithOwn> implements Waiter {
  protected readonly record: CallRecord;
  protected readonly policy: FallbackPolicy;
  protected readonly environment: Environment;
  protected metadata = new Metadata();
  /** The request, for functions that answer in place of the service. */
  protected request: MessageCopy | undefined;
  /** Names the call in the cache. */
  protected key: string | undefined;
  /** The caller waits for a message. */
  protected readWanted = false;
  protected heldMetadata: Metadata | undefined;
  readonly #nextCall: NextCall;
  readonly #single: boolean;
  #asked = false;
  /** The request of a call that may look into the cache before it goes on, or be shared. */
  #sent: KeptRequest | undefined;
  #stage: Stage = "request";
  #ownCancel = false;
  /** What the service ended with, while a fallback is looked for. */
  protected failure: StatusObject | undefined;
  #shared: SharedCall | undefined;
  #recording: AnswerRecording | undefined;
  #time: PrimaryTime | undefined;
  #stopLookUp: (() => void) | undefined;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    policy: FallbackPolicy,
    environment: Environment,
  ) {
    super(options, nextCall);
    this.#nextCall = nextCall;
    this.record = record;
    this.policy = policy;
    this.environment = environment;
    this.#single = record.kind === "unary";
    if (policy.cache !== undefined) captureResponses(options.method_definition);
  }

  // ---- For the subclass.

  /** The service has failed, and nothing of its response was shown. */
  protected abstract failed(status: StatusObject): void;

  /** The cache has an answer that is as good as a new one. */
  protected abstract fresh(answer: FallbackAnswer): void;

  /** Ends the call with a status of the service, behind the headers that came with it. */
  protected conclude(status: StatusObject): void {
    try {
      this.#showHeldMetadata();
    } finally {
      super.endedWith(status);
    }
  }

  /** What the call ends with where the weir, or its channel, was closed. */
  protected get closing(): StatusObject | undefined {
    return this.environment.pendingCalls.closing(this.record.connection);
  }

  /**
   * The weir, or the channel, was closed while the call waited for something else than the service. It ends with what
   * the service said, where it was asked.
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

  protected override begin(metadata: Metadata): void {
    this.metadata = keepMetadata(metadata);
    // The key of a call has its request in it.
    if (this.policy.cache === undefined) this.#launch();
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    const { method_definition: definition } = this.options;
    const { cache, asksFunctions } = this.policy;
    // Serialized for its key, it is not serialized again where it is sent.
    const first = !this.#asked && cache !== undefined;
    const sent = first ? keepRequest(definition, message, this) : message;
    if (!this.#asked) {
      this.#asked = true;
      if (asksFunctions) this.request = readableLater(definition, sent);
      if (sent instanceof KeptRequest && this.#stage === "request" && !this.ended) {
        this.#sent = sent;
        this.#depart(sent);
      }
    }
    if (this.#below) super.sendMessageWithContext(context, sent);
    else completeWrite(context);
    if (sent instanceof KeptRequest && sent !== message) sent.settle(this);
  }

  override halfClose(): void {
    if (this.#below) super.halfClose();
  }

  override startRead(): void {
    this.readWanted = true;
    if (this.#below) super.startRead();
  }

  override cancelWithStatus(code: Status, details: string): void {
    this.#ownCancel = true;
    if (this.ended || this.#below) {
      super.cancelWithStatus(code, details);
      return;
    }
    this.#shared?.leave(this, code, details);
    this.finish({ code, details, metadata: new Metadata() });
  }

  override getPeer(): string {
    return this.#shared?.peer ?? super.getPeer();
  }

  override getAuthContext(): ReturnType<ForwardingCall["getAuthContext"]> {
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
    this.#shared?.leave(this, Status.CANCELLED, "Nobody waits for the answer any more");
  }

  // ---- The way to the service.

  #depart(request: KeptRequest): void {
    const { record, options, metadata } = this;
    const { cache } = this.policy;
    this.key = cache?.keyOf({ record, options, metadata }, request);
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
    const waits = () => !this.ended && this.#stage === "lookup";
    this.#stopLookUp = lookUpFresh(
      cache,
      record,
      this.options,
      key,
      (answer) => {
        if (!waits()) return;
        pendingCalls.leave(this.closed);
        this.#stage = "elsewhere";
        this.fresh(answer);
      },
      () => {
        if (!waits()) return;
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
    // grpc-js ends a call with its `parent`, unless the deadline interceptor has seen to that: it is not for others.
    const alone = !this.#single || this.options.parent !== undefined;
    if (key !== undefined && cache?.options.singleFlight === true && !alone) {
      // Who matters more does not wait for who matters less, nor who wants to fail at once for who waits for a connection.
      const { waitForReady = false } = this.metadata.getOptions();
      const sharedKey = `${record.priority ?? ""} ${waitForReady} ${key}`;
      const { untilMs } = time;
      // As the call below would say it: a handler may also have passed its own metadata on.
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
    this.forward(this.metadata, time.shorten(this.options, this.#single));
  }

  /** The shared call has failed for somebody else's reason: this one asks the service itself. */
  #leaveShared(time: PrimaryTime): void {
    this.#shared = undefined;
    this.decide("queue", "shared a call that failed for its first caller");
    this.#alone(time);
    super.sendMessageWithContext({}, this.#sent);
    super.halfClose();
  }

  /** The time before the reserve is over. */
  #timeUp({ availableMs, reserveMs }: PrimaryTime): void {
    if (this.ended || this.#stage !== "primary") return;
    const kept = `${Math.round(reserveMs)} ms are kept for the fallback`;
    this.decide("expire", kept, "DEADLINE_EXCEEDED");
    const detail = `Deadline exceeded after ${(Math.max(0, availableMs) / 1000).toFixed(3)}s, ${kept}`;
    const status = localRejection(refusal("DEADLINE_EXCEEDED", detail));
    // From here on, what the service says is nobody's any more.
    this.#stage = "elsewhere";
    if (this.#shared !== undefined) this.#shared.leave(this, status.code, detail);
    else callOff(this.next, status.code, detail);
    this.#fail(status);
  }

  /** What is sent and read goes to the call below, or waits for it. */
  get #below(): boolean {
    return this.#shared === undefined && this.#stage !== "elsewhere";
  }

  // ---- From below.

  onSharedResult({ metadata, message, status }: SharedResult): void {
    const { record } = this;
    const shared = this.#shared;
    record.restore(() => {
      if (this.ended || this.#stage !== "primary" || shared === undefined) return;
      if (this.closing === undefined && closedLocally(status)) {
        // The client of whoever opened the shared call was closed, and not this one's.
        this.#time?.end();
        this.#shared = undefined;
        this.#launch();
        return;
      }
      if (shared.isOpenedBy(this)) {
        record.adopt(shared.record);
      } else {
        const time = this.#time;
        const everybodys = this.policy.cache?.options.vary === "shared";
        if (everybodys && time !== undefined && failedForOpener(status)) {
          this.#leaveShared(time);
          return;
        }
        this.decide("queue", "shared a call that was under way");
      }
      if (metadata !== undefined) this.onReceiveMetadata(metadata);
      try {
        if (message !== undefined) this.onReceiveMessage(message);
      } finally {
        this.onReceiveStatus(status);
      }
    });
  }

  override onReceiveMetadata(metadata: Metadata): void {
    if (this.#stage === "primary" && this.#single) this.heldMetadata = metadata;
    else if (this.#begins()) super.onReceiveMetadata(metadata);
  }

  override onReceiveMessage(message: unknown): void {
    // A single response announces its failure with null.
    if (message === null || !this.#begins()) return;
    this.#recording?.message(message);
    this.readWanted = false;
    try {
      this.#showHeldMetadata();
    } finally {
      super.onReceiveMessage(message);
    }
  }

  protected override endedWith(received: StatusObject): void {
    if (this.ended || (this.#stage !== "primary" && this.#stage !== "begun")) return;
    if (received.code !== Status.OK) {
      const time = this.#stage === "primary" ? this.#time : undefined;
      const untilMs = time?.untilMs ?? Number.POSITIVE_INFINITY;
      const over = timeIsUp(received.code, this.record.clock.now(), untilMs);
      // With a reserve, what is over is the time of the service; else it is that of the call.
      if (!over || time === undefined) this.#fail(received);
      else if (time.reserveMs > 0) this.#timeUp(time);
      else this.conclude(received);
      return;
    }
    this.#time?.end();
    this.#recording?.ended(received);
    noteAnswer(this.record, received);
    this.conclude(received);
  }

  #fail(status: StatusObject): void {
    const begun = this.#stage === "begun";
    this.#stage = "elsewhere";
    this.#time?.end();
    // Who is closed takes on nothing more, and who has left wants no answer.
    if (begun || this.#ownCancel || this.closing !== undefined) this.conclude(status);
    else {
      this.failure = status;
      this.failed(status);
    }
  }

  /** Something of the response is about to be shown. False when it is nobody's any more. */
  #begins(): boolean {
    if (this.#stage === "begun") return true;
    if (this.#stage !== "primary" || this.ended) return false;
    this.#stage = "begun";
    this.#time?.end();
    return true;
  }

  #showHeldMetadata(): void {
    const metadata = this.heldMetadata;
    this.heldMetadata = undefined;
    if (metadata !== undefined) super.onReceiveMetadata(metadata);
  }
}

function closedLocally(status: StatusObject): boolean {
  const told = rejectionOf(status);
  return endedByClosing(status) || (told?.local === true && told.reason === "CLOSED");
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
  const { timeoutMs } = cache.slot.limits;
  const stopTimer = expireAt(clock, clock.now() + timeoutMs, timeoutMs, goOn);
  const show = (answer: FallbackAnswer) => {
    if (end()) found(answer);
  };
  const stop = askForAnswer(
    kind,
    () => cache.askFresh(kind, definition, key),
    (answer) => {
      if (answer === undefined) goOn();
      else process.nextTick(show, answer);
    },
    goOn,
  );
  return () => {
    end();
    stop();
  };
}

/**
 * The time that the service itself is given: that of the call, less what is kept for its fallback. What stands below
 * reads the time of a call from its record, so it stands there until the service has answered.
 */
export class PrimaryTime {
  /** Until when, on the monotonic clock. */
  readonly untilMs: number;
  readonly availableMs: number;
  readonly reserveMs: number;
  readonly #record: CallRecord;
  /** What the record said before. */
  #ownMs: number | undefined;
  #stopTimer: CancelTask | undefined;

  constructor(record: CallRecord, reserveMs: (availableMs: number) => number) {
    this.#record = record;
    const nowMs = record.clock.now();
    this.reserveMs = reserveMs(record.deadlineMs - nowMs);
    this.untilMs = record.deadlineMs - this.reserveMs;
    this.availableMs = this.untilMs - nowMs;
  }

  /** Runs `task` in the caller's context when it is over. Without a reserve, the call's deadline sees to that. */
  whenOver(task: () => void): void {
    if (this.reserveMs === 0) return;
    const { clock, restore } = this.#record;
    this.#stopTimer = expireAt(clock, this.untilMs, this.availableMs, () => restore(task));
  }

  /**
   * Takes the reserve out of what the call below is told. On the wire only of a single response, which can be
   * replaced to its end: a stream that has begun may use all the time there is.
   */
  shorten(options: OptionsWithOwn, single: boolean): OptionsWithOwn {
    if (this.reserveMs === 0) return options;
    const record = this.#record;
    const { clock, connection } = record;
    this.#ownMs = record.deadlineMs;
    record.deadlineMs = this.untilMs;
    if (!single) return options;
    const leftMs = this.untilMs - clock.now();
    const deadline = new CallDeadline(this.untilMs, leftMs, clock, connection !== undefined);
    return { ...options, deadline };
  }

  /** The service has answered, or is no longer asked: the time of the call is its own again. */
  end(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    if (this.#ownMs === undefined) return;
    this.#record.deadlineMs = this.#ownMs;
    this.#ownMs = undefined;
  }
}
