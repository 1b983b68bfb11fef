import {
  type CallInvocationTransformer,
  type CallOptions,
  type CallProperties,
  type Interceptor,
  type InterceptorOptions,
  Metadata,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { type Clock, heldUp } from "../../core/clock.js";
import type { ObserveReport } from "../../core/control.js";
import type { Decision, DecisionEvent } from "../../core/decision.js";
import type { Priority } from "../../core/priority.js";
import type { ResetBudgets, Resettable } from "../../core/reset-budget.js";
import type { LatencyQuantile } from "../../core/stats/latency-quantile.js";
import { notify, type Observer, type ReportError, safely } from "../../core/user-code.js";
import { ChannelWatch } from "../channel/watch.js";
import { deadlineChannel, fixedDeadline, ranOutOfTime, toMonotonic } from "../deadline.js";
import type { Environment } from "../environment.js";
import type { Degradation } from "../status/degraded.js";
import { type AttemptEvidence, resetPeer, type UnknownTexts } from "../status/origin.js";
import { Failure } from "../status/outcome.js";
import { type CallKind, callKind } from "../types.js";
import { ambientPriority } from "./ambient-priority.js";
import { captureContext, type RestoreContext } from "./async-context.js";
import { currentInbound, type InboundCall } from "./inbound-call.js";

const noMetadata = new Metadata();

/** One try of a call on the wire, as far as the toolkit knows it. */
export interface AttemptRecord extends Resettable {
  /** 1 for the first. */
  readonly number: number;
  /** Attempts in vain before it: all before it, or those since the response last came on. */
  readonly previous: number;
  /** Why it was started: the first, a retry, a hedge. */
  readonly cause: "first" | "retry" | "hedge";
  readonly startedAtMs: number;
  /** How long the call waited before it, in milliseconds. */
  readonly delayMs: number;
  /** What the attempt before it ended with, where there was one. */
  readonly after?: StatusObject | undefined;
  /** Another attempt decided the call, and this one was called off. */
  superseded?: boolean;
  /** When its time is up, on the monotonic clock, as the server is told: that of the call, or its own. */
  untilMs: number;
  /** Its time is shorter than that of the call. */
  ownTime?: boolean;
  /** It ran out of its own time while this process was held up: that says nothing of who was called. */
  heldUp?: boolean;
  /** What was put in on purpose, in its order. */
  faults?: readonly string[];
  /** Set when the attempt ended. */
  endedAtMs?: number;
  /** What it failed with. Absent while it runs, and after OK. */
  failure?: Failure | undefined;
}

/**
 * Notes how an attempt ended, and reads what it failed with. The first to note it is the innermost interceptor, which
 * has the best evidence; the others get what it found.
 *
 * @returns What it failed with; `undefined` for OK.
 */
export function endAttempt(
  attempt: AttemptRecord,
  status: StatusObject,
  evidence: AttemptEvidence,
  nowMs: number,
): Failure | undefined {
  const known = attempt.failure;
  if (known !== undefined && known.status.metadata === status.metadata) return known.as(status);
  attempt.endedAtMs = nowMs;
  const failure = Failure.read(status, evidence);
  const origin = failure?.origin ?? "remote";
  attempt.failure = failure && outOfTime(attempt, failure, nowMs);
  // One that ran out of its own time has said so before it is called off: who does that tells how it ended.
  if (origin !== "attempt-timeout") {
    evidence.resets?.ended(evidence.target, attempt, resetPeer(origin, evidence));
  }
  return attempt.failure;
}

/** Both sides know the time of an attempt, and the server may be the first to say that it is up. */
function outOfTime(attempt: AttemptRecord, failure: Failure, nowMs: number): Failure {
  const { code, origin } = failure;
  if (origin !== "remote" || code !== Status.DEADLINE_EXCEEDED) return failure;
  const { untilMs, ownTime } = attempt;
  if (heldUp(nowMs - untilMs)) attempt.heldUp = true;
  // To be able to say so, a server ends its work a little before.
  if (ownTime === true) {
    return ranOutOfTime(nowMs, untilMs) ? failure.of("attempt-timeout") : failure;
  }
  return nowMs >= untilMs ? failure.of("deadline") : failure;
}

/**
 * One logical call on the client: what every policy and the telemetry know of it. It is made where
 * the channel is still visible (a `callInvocationTransformer`) and travels in the call options under a
 * symbol; an interceptor used alone makes it when it is absent.
 */
export class CallRecord {
  readonly method: string;
  readonly kind: CallKind;
  /** How the channel is connected. Absent where nothing told the channel. */
  readonly connection: ChannelWatch | undefined;
  /** The call for whose handler this one was made, if any. */
  readonly inbound: InboundCall | undefined;
  /** Runs a function in the caller's async context. */
  readonly restore: RestoreContext;
  readonly clock: Clock;
  readonly report: ReportError;
  readonly observed: ObserveReport;
  readonly unknownTexts: UnknownTexts;
  /** What streams may be reset; `undefined` where nobody counts. */
  readonly resets: ResetBudgets | undefined;
  readonly startedAtMs: number;
  /** Effective deadline on the monotonic clock, `Infinity` for none. */
  deadlineMs = Number.POSITIVE_INFINITY;
  /**
   * The call ran out of time while this process was held up: how its attempts end by that says nothing of who was
   * called.
   */
  heldUp = false;
  /** How long such calls take, where a policy learns it. */
  usual: LatencyQuantile | undefined;
  /** Set by the call's options or by `withPriority`, until its metadata has been read. */
  priority: Priority | undefined;
  /** What the attempt under way is sent with, where a policy below the retries has seen it. For reading only. */
  metadata: Metadata = noMetadata;
  /** Names the call to the server, the same with every attempt. Absent while no policy has seen to it. */
  idempotencyKey: string | undefined;
  /** The server is known to run a call once for each key, and this call has one. */
  keyHonoured = false;
  /** What the answer had to make do with; empty for one that is what it should be. */
  degradations: readonly Degradation[] = [];
  /** The first and the latest: a stream that is resumed may have any number of attempts. */
  readonly attempts: AttemptRecord[] = [];
  /** All there were. */
  attemptCount = 0;
  #attemptsDone = 0;
  #target: string;
  /** The first and the latest. */
  readonly decisions: Decision[] = [];
  readonly #onDecision: Observer<DecisionEvent> | undefined;

  constructor(
    context: Environment,
    call: { path: string; requestStream: boolean; responseStream: boolean },
    connection: ChannelWatch | undefined,
  ) {
    this.clock = context.clock;
    this.report = context.report;
    this.observed = context.observed;
    this.unknownTexts = context.unknownTexts;
    this.resets = context.resets;
    this.#onDecision = context.onDecision;
    this.method = call.path;
    this.kind = callKind(call);
    this.connection = connection;
    this.#target = connection?.target ?? context.target ?? "";
    this.inbound = currentInbound();
    this.priority = ambientPriority();
    this.restore = captureContext();
    this.startedAtMs = context.clock.now();
  }

  /** Notes a decision and tells the observer. */
  decide(decision: Decision): void {
    keep(this.decisions, decision);
    if (this.#onDecision === undefined) return;
    notify(
      this.#onDecision,
      { ...decision, method: this.method, target: this.target, side: "client" },
      this.report,
      "onDecision",
    );
  }

  /** Adds the attempt that is about to start. */
  startAttempt(
    cause: AttemptRecord["cause"],
    delayMs: number,
    after?: StatusObject,
  ): AttemptRecord {
    const attempt: AttemptRecord = {
      number: this.attemptCount + 1,
      previous: this.attemptsInVain,
      cause,
      startedAtMs: this.clock.now(),
      delayMs,
      untilMs: this.deadlineMs,
      after,
    };
    this.attemptCount += 1;
    keep(this.attempts, attempt);
    return attempt;
  }

  /** The channel's target, or an empty string where nothing told it. */
  get target(): string {
    return this.#target;
  }

  /**
   * Takes the target from the peer of a call that was made below and has no connection yet: that is how grpc-js names the
   * target of its channel. What is known already stays.
   */
  learnTarget(peer: string): void {
    if (this.#target === "" && peer !== "unknown") this.#target = peer;
  }

  /** Reports once that something does not work as it should where the interceptors stand. */
  warnOnce(where: string, text: string): void {
    const topics = warned.get(this.report) ?? new Set<string>();
    if (topics.has(where)) return;
    warned.set(this.report, topics.add(where));
    safely(this.report, new Error(text), where);
  }

  /** Attempts since the call began, or since its response last came on. */
  get attemptsInVain(): number {
    return this.attemptCount - this.#attemptsDone;
  }

  /** The response has come on: the attempts so far were not in vain. */
  cameOn(): void {
    this.#attemptsDone = this.attemptCount;
  }

  /** Takes over what became of a call that was made for this one and others. */
  adopt({ attempts, attemptCount, decisions }: CallRecord): void {
    this.attemptCount += attemptCount;
    for (const attempt of attempts) keep(this.attempts, attempt);
    for (const decision of decisions) keep(this.decisions, decision);
  }
}

/** What was reported once, by whom it was reported to. */
const warned = new WeakMap<ReportError, Set<string>>();

/** How many attempts, and decisions, a record keeps: more than retries or hedges of one answer can make. */
const mostKept = 128;

/** Of more than that, those in the middle are forgotten: how it began, and how it ended, is worth most. */
function keep<T>(list: T[], entry: T): void {
  if (list.length === mostKept) list.splice(mostKept / 2, 1);
  list.push(entry);
}

/** Key of the record in CallOptions. Symbols survive grpc-js's copies of the options. */
export const recordKey: unique symbol = Symbol("grpc-weir.record");
/** Key of the attempt in the options that go below a retrying call. */
export const attemptKey: unique symbol = Symbol("grpc-weir.attempt");

/** The toolkit's own entries in CallOptions. */
export interface OwnCallOptions {
  [recordKey]?: CallRecord;
  [attemptKey]?: AttemptRecord;
}

export type OptionsWithOwn = InterceptorOptions & OwnCallOptions;

/** The options of a call as they are inside a pipeline. */
export type OptionsWithRecord = OptionsWithOwn & { [recordKey]: CallRecord };

/** The options with a record in them: those given, or a copy with a new record. */
export function withRecord(options: OptionsWithOwn, context: Environment): OptionsWithRecord {
  if (hasRecord(options)) {
    if (context.target !== undefined) options[recordKey].learnTarget(context.target);
    return options;
  }
  const record = new CallRecord(context, options.method_definition, undefined);
  // Without a deadline interceptor above, the call's own deadline is the effective one.
  const { clock, startedAtMs } = record;
  const deadlineMs = toMonotonic(options.deadline, clock, startedAtMs) ?? Number.POSITIVE_INFINITY;
  record.deadlineMs = deadlineMs;
  // A symbol that stands in the literal before the copying is ten times cheaper in V8 than one after it.
  const own = { [recordKey]: record, ...options };
  if (own.deadline instanceof Date) own.deadline = fixedDeadline(own.deadline);
  return own;
}

function hasRecord(options: OptionsWithOwn): options is OptionsWithRecord {
  return options[recordKey] !== undefined;
}

/** The attempt these options belong to; without a retrying call above, the call's only one. */
export function attemptOf(options: OptionsWithOwn, record: CallRecord): AttemptRecord {
  return options[attemptKey] ?? record.attempts[0] ?? record.startAttempt("first", 0);
}

/** What a caller can set for one call, beside the options that grpc-js knows. */
export interface CallOverrides {
  /** Sent with the call, unless its metadata names a priority already. @defaultValue the inbound call's */
  readonly priority?: Priority;
}

const overridesKey: unique symbol = Symbol("grpc-weir.overrides");

type OptionsWithOverrides = CallOptions & OwnCallOptions & { [overridesKey]?: CallOverrides };

export function withOverrides(options: CallOptions, overrides: CallOverrides): CallOptions {
  const marked: OptionsWithOverrides = { ...options, [overridesKey]: overrides };
  return marked;
}

/**
 * Makes the call record, in the one place that sees the channel, and keeps the pipeline in calls that bring
 * interceptors of their own: grpc-js would let those replace it.
 */
export function recordTransformer(
  environment: Environment,
  pipeline: Interceptor,
  own: CallInvocationTransformer | undefined,
): CallInvocationTransformer {
  return (given) => {
    const properties: CallProperties<unknown, unknown> = own === undefined ? given : own(given);
    const callOptions: OptionsWithOverrides = properties.callOptions;
    const connection = ChannelWatch.of(properties.channel);
    const record = new CallRecord(environment, properties.methodDefinition, connection);
    record.priority = callOptions[overridesKey]?.priority ?? record.priority;
    // The symbol stands before the copying, where it is ten times cheaper in V8, and is set after it, because
    // options that are used again bring the record of an earlier call.
    const options: OptionsWithOverrides = { [recordKey]: record, ...callOptions };
    options[recordKey] = record;
    if (options.deadline instanceof Date) options.deadline = fixedDeadline(options.deadline);
    const { interceptors, interceptor_providers } = callOptions;
    if (interceptors !== undefined && interceptors.length > 0) {
      options.interceptors = [...interceptors, pipeline];
    }
    if (interceptor_providers !== undefined && interceptor_providers.length > 0) {
      options.interceptor_providers = [...interceptor_providers, () => pipeline];
    }
    const channel = deadlineChannel(properties.channel);
    if (own === undefined) return { ...properties, channel, callOptions: options };
    // The definition may be one that the user's function gives to many calls, and ours is changed.
    const methodDefinition = { ...properties.methodDefinition };
    return { ...properties, channel, callOptions: options, methodDefinition };
  };
}
