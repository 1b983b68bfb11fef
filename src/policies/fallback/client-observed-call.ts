import { type NextCall, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { Attempt } from "../../grpc/client/attempt.js";
import { keepRequest } from "../../grpc/client/kept-request.js";
import { PipelineCall, type Segment } from "../../grpc/client/pipeline-call.js";
import type { OptionsWithRecord } from "../../grpc/context/call-record.js";
import { timeIsUp } from "../../grpc/deadline.js";
import type { Environment } from "../../grpc/environment.js";
import type { MessageContext } from "../../grpc/types.js";
import { noteAnswer } from "./client-degraded.js";
import type { FallbackPolicy } from "./client-policy.js";
import {
  accepts,
  askProvider,
  type FallbackAnswer,
  type FallbackQuestion,
  type FallbackSource,
  failureOf,
  reportFailure,
} from "./client-providers.js";
import { type AnswerRecording, captureResponses } from "./stale-cache/client-recording.js";

/**
 * A call whose fallback only observes, and does not change it. Answers are stored and looked up, so that a cache is warm
 * when the fallback is enforced. Functions of the user's are not called, and count as if they had an answer.
 */
export class ObservedFallbackCall extends PipelineCall {
  readonly #policy: FallbackPolicy;
  readonly #environment: Environment;
  #key: string | undefined;
  #recording: AnswerRecording | undefined;
  #begun = false;

  constructor(
    options: OptionsWithRecord,
    nextCall: NextCall,
    segment: Segment,
    policy: FallbackPolicy,
    environment: Environment,
  ) {
    super(options, nextCall, segment);
    this.#policy = policy;
    this.#environment = environment;
    if (policy.cache !== undefined) captureResponses(options.method_definition);
  }

  protected override begin(): void {
    this.keepMetadata();
    super.begin();
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    const { cache } = this.#policy;
    if (cache === undefined) {
      super.sendMessageWithContext(context, message);
      return;
    }
    const kept = keepRequest(this.options.method_definition, message, this);
    this.#key = cache.keyOf(this, kept);
    if (this.#key !== undefined) this.#recording = cache.record(this.#key);
    super.sendMessageWithContext(context, kept);
    if (kept !== message) kept.settle(this);
  }

  override attemptMessage(attempt: Attempt, message: unknown): void {
    this.#begun = true;
    this.#recording?.message(message);
    super.attemptMessage(attempt, message);
  }

  protected override afterAttempt(attempt: Attempt, status: StatusObject): void {
    if (status.code === Status.OK) {
      this.#recording?.ended(status);
      noteAnswer(this.record, status);
    } else if (!this.#hasBegun(attempt) && this.#open) {
      const { clock, deadlineMs } = this.record;
      if (!timeIsUp(status.code, clock.now(), deadlineMs)) this.#wouldAsk(attempt, status);
    }
    this.conclude(status, attempt);
  }

  /** The caller has got a part of the response, so that no other answer could replace it. */
  #hasBegun({ sawHeaders }: Attempt): boolean {
    return this.#begun || (sawHeaders && this.record.kind !== "unary");
  }

  /** Neither the weir nor the client is closed. */
  get #open(): boolean {
    return this.#environment.pendingCalls.closing(this.record.connection) === undefined;
  }

  #wouldAsk(attempt: Attempt, status: StatusObject): void {
    const { record, metadata } = this;
    const question: FallbackQuestion = {
      record,
      metadata,
      // It is for functions, and none is called.
      request: undefined,
      definition: this.options.method_definition,
      key: this.#key,
      failure: failureOf(status, record, attempt.sawHeaders, attempt.getPeer()),
    };
    const { report } = this.#environment;
    const chain = this.#policy.sources.filter((source) =>
      accepts(source, question.failure, report),
    );
    if (chain.length > 0) this.#preview(chain, question);
  }

  /** Finds the first provider that would answer. The call does not wait for a slow store. */
  #preview([source, ...rest]: readonly FallbackSource[], question: FallbackQuestion): void {
    if (source === undefined) {
      this.#note("stop", "no provider would have an answer");
      return;
    }
    const { load } = source;
    const { name } = load.limits;
    const would = (answer?: FallbackAnswer) => {
      load.counts.observed += 1;
      const age = answer?.ageMs === undefined ? "" : `, ${Math.round(answer.ageMs)} ms old`;
      this.#note("fallback", `${name}${age}, instead of ${Status[question.failure.code]}`);
    };
    if (!source.harmless) {
      would();
      return;
    }
    askProvider(source, question, Number.POSITIVE_INFINITY, (reply) => {
      if (reply.kind === "answer") {
        would(reply.answer);
        return;
      }
      if (reply.kind === "error") reportFailure(reply.error, name, this.#environment.report);
      this.#preview(rest, question);
    });
  }

  #note(verdict: "fallback" | "stop", detail: string): void {
    const { record } = this;
    const atMs = record.clock.now();
    const decision = { policy: "fallback", verdict, enforced: false, atMs, detail } as const;
    record.decide(
      verdict === "stop" ? { ...decision, reason: "FALLBACK_UNANSWERED" as const } : decision,
    );
  }
}
