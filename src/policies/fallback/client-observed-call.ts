import { Metadata, type NextCall, status as Status, type StatusObject } from "@grpc/grpc-js";
import { ForwardingCall } from "../../grpc/client/forwarding-call.js";
import { keepMetadata } from "../../grpc/client/kept-metadata.js";
import { keepRequest } from "../../grpc/client/kept-request.js";
import type { CallRecord, OptionsWithOwn } from "../../grpc/context/call-record.js";
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
export class ObservedFallbackCall extends ForwardingCall<OptionsWithOwn> {
  readonly #record: CallRecord;
  readonly #policy: FallbackPolicy;
  readonly #environment: Environment;
  #metadata = new Metadata();
  #key: string | undefined;
  #recording: AnswerRecording | undefined;
  #sawHeaders = false;
  #begun = false;
  #ownCancel = false;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    policy: FallbackPolicy,
    environment: Environment,
  ) {
    super(options, nextCall);
    this.#record = record;
    this.#policy = policy;
    this.#environment = environment;
    if (policy.cache !== undefined) captureResponses(options.method_definition);
  }

  protected override begin(metadata: Metadata): void {
    this.#metadata = keepMetadata(metadata);
    super.begin(this.#metadata);
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    const { cache } = this.#policy;
    if (cache === undefined) {
      super.sendMessageWithContext(context, message);
      return;
    }
    const kept = keepRequest(this.options.method_definition, message, this);
    const call = { record: this.#record, options: this.options, metadata: this.#metadata };
    this.#key = cache.keyOf(call, kept);
    if (this.#key !== undefined) this.#recording = cache.record(this.#key);
    super.sendMessageWithContext(context, kept);
    if (kept !== message) kept.settle(this);
  }

  override cancelWithStatus(code: Status, details: string): void {
    this.#ownCancel = true;
    super.cancelWithStatus(code, details);
  }

  override onReceiveMetadata(metadata: Metadata): void {
    this.#sawHeaders = true;
    if (this.#record.kind !== "unary") this.#begun = true;
    super.onReceiveMetadata(metadata);
  }

  override onReceiveMessage(message: unknown): void {
    if (message !== null) {
      this.#begun = true;
      this.#recording?.message(message);
    }
    super.onReceiveMessage(message);
  }

  protected override endedWith(received: StatusObject): void {
    if (received.code === Status.OK) {
      this.#recording?.ended(received);
      noteAnswer(this.#record, received);
    } else if (!this.#begun && !this.#ownCancel && this.#open) {
      const { clock, deadlineMs } = this.#record;
      if (!timeIsUp(received.code, clock.now(), deadlineMs)) this.#wouldAsk(received);
    }
    super.endedWith(received);
  }

  /** Neither the weir nor the client is closed. */
  get #open(): boolean {
    return this.#environment.pendingCalls.closing(this.#record.connection) === undefined;
  }

  #wouldAsk(status: StatusObject): void {
    const record = this.#record;
    const question: FallbackQuestion = {
      record,
      metadata: this.#metadata,
      // It is for functions, and none is called.
      request: undefined,
      definition: this.options.method_definition,
      key: this.#key,
      failure: failureOf(status, record, this.#sawHeaders, this.getPeer()),
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
    const record = this.#record;
    const atMs = record.clock.now();
    const decision = { policy: "fallback", verdict, enforced: false, atMs, detail } as const;
    record.decide(
      verdict === "stop" ? { ...decision, reason: "FALLBACK_UNANSWERED" as const } : decision,
    );
  }
}
