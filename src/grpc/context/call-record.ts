import type { AsyncResource } from "node:async_hooks";
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
import { notify, type ReportError, reportSafely } from "../../core/user-code.js";
import type { WaitObserver } from "../../core/wait.js";
import { ChannelWatch } from "../channel/watch.js";
import { deadlineChannel, fixedDeadline, ranOutOfTime, toMonotonic } from "../deadline.js";
import type { Environment } from "../environment.js";
import { type AttemptEvidence, resetPeer, type UnknownTexts } from "../status/origin.js";
import { Failure } from "../status/outcome.js";
import { type CallKind, callKind } from "../types.js";
import { ambientPriority } from "./ambient-priority.js";
import { captureScope } from "./async-context.js";
import type { TraceIds } from "./finished-call.js";
import type { EndedFacts } from "./history.js";
import { currentInbound, type InboundCall } from "./inbound-call.js";

const noMetadata = new Metadata();

/** What the toolkit knows of one attempt of a call. */
export interface AttemptRecord extends Resettable {
  /** 1 for the first. */
  readonly number: number;
  /** How many attempts before it brought nothing: all, or those since a resumed response last had a message. */
  readonly previous: number;
  /** Why it was started. */
  readonly cause: "first" | "retry" | "hedge";
  readonly startedAtMs: number;
  /** When it came through the gates. Absent until then, and where nobody asks. */
  sentAtMs?: number;
  /** How long the call waited before this attempt, in milliseconds. */
  readonly delayMs: number;
  /** The status of the attempt before it, where there was one. */
  readonly after?: StatusObject | undefined;
  /** Another attempt decided the call: this one is cancelled, or runs out with nobody to hear it. */
  superseded?: boolean;
  /** The deadline of the attempt on the monotonic clock, as it is sent to the server. */
  untilMs: number;
  /** The deadline is the attempt's own, and earlier than the call's. */
  ownTime?: boolean;
  /** It ran out of time while this process was held up: that is no evidence about the server. */
  heldUp?: boolean;
  /** The faults that were injected, in order. */
  faults?: readonly string[];
  /** The address of the server that it went to, set when it ended; the target, or `unknown`, where none was chosen. */
  peer?: string;
  /** Set when the attempt ended. */
  endedAtMs?: number;
  /** Absent while the attempt runs, and after OK. */
  failure?: Failure | undefined;
}

/** Notes that an attempt has ended OK. */
export function endWell(
  attempt: AttemptRecord,
  { resets, target }: CallRecord,
  nowMs: number,
): void {
  attempt.endedAtMs = nowMs;
  attempt.failure = undefined;
  resets?.ended(target, attempt, undefined);
}

/**
 * Notes the end of an attempt that failed, and reads its status. The innermost layer does so first, and has the best evidence of
 * the origin. Layers above get the failure that it read.
 *
 * @returns The failure; `undefined` for OK.
 */
export function endAttempt(
  attempt: AttemptRecord,
  status: StatusObject,
  evidence: AttemptEvidence,
  nowMs: number,
): Failure | undefined {
  const known = attempt.failure;
  if (known !== undefined && known.status.metadata === status.metadata)
    return known.withStatus(status);
  attempt.endedAtMs = nowMs;
  const failure = Failure.read(status, evidence);
  const origin = failure?.origin ?? "remote";
  attempt.failure = failure && outOfTime(attempt, failure, nowMs);
  // An attempt that ran out of its own time is noted before it is cancelled. The layer that cancels it counts the
  // reset.
  if (origin !== "attempt-timeout") {
    evidence.resets?.ended(evidence.target, attempt, resetPeer(origin, evidence));
  }
  return attempt.failure;
}

/**
 * A DEADLINE_EXCEEDED from the server when the deadline of the attempt is over counts as the deadline: client and
 * server both know it, and the server may be the first to say so.
 */
function outOfTime(attempt: AttemptRecord, failure: Failure, nowMs: number): Failure {
  const { code, origin } = failure;
  if (origin !== "remote" || code !== Status.DEADLINE_EXCEEDED) return failure;
  const { untilMs, ownTime } = attempt;
  if (heldUp(nowMs - untilMs)) attempt.heldUp = true;
  // A server ends its work a little before the deadline, so that its answer still arrives.
  if (ownTime === true) {
    return ranOutOfTime(nowMs, untilMs) ? failure.withOrigin("attempt-timeout") : failure;
  }
  return nowMs >= untilMs ? failure.withOrigin("deadline") : failure;
}

/**
 * What all policies and the telemetry know of one call on the client. A `callInvocationTransformer` makes it, because
 * that sees the channel, and it travels in the call options under a symbol. Interceptors without a weir make it if it
 * is absent.
 */
export class CallRecord {
  readonly method: string;
  readonly kind: CallKind;
  /** The connectivity of the channel. Absent where the channel is not known. */
  readonly connection: ChannelWatch | undefined;
  /** The inbound call whose handler made this call, if any. */
  readonly inbound: InboundCall | undefined;
  readonly clock: Clock;
  readonly report: ReportError;
  readonly observed: ObserveReport;
  readonly unknownTexts: UnknownTexts;
  /** How many streams may still be reset on each connection; `undefined` where nobody counts them. */
  readonly resets: ResetBudgets | undefined;
  readonly startedAtMs: number;
  /** The effective deadline on the monotonic clock, `Infinity` for none. */
  deadlineMs = Number.POSITIVE_INFINITY;
  /**
   * The call ran out of time while this process was held up: the end of its attempts is no evidence about the server.
   */
  heldUp = false;
  /** How long such calls usually take, where a policy learns it. */
  usual: LatencyQuantile | undefined;
  /** From the call's metadata, else its options, else `withPriority`, else the inbound call, else the policy of its method. */
  priority: Priority | undefined;
  /** The metadata of the attempt that runs, once it has come to the gates. For reading only. */
  metadata: Metadata = noMetadata;
  /** The key that all attempts of the call are sent with. Absent without one. */
  idempotencyKey: string | undefined;
  /** The call has an idempotency key, and the server is known to run a call once for each key. */
  keyHonoured = false;
  #attempts: AttemptRecord[] | undefined;
  /** How many there were, with those that are no longer in the list. */
  attemptCount = 0;
  /** What the telemetry keeps of the call. It is told of the call's waits. */
  trace: WaitObserver | undefined;
  /** How it ended, where somebody keeps that. */
  ended: EndedFacts | undefined;
  #attemptsDone = 0;
  /** An attempt that parts above the retries have seen: the first one of the retries is the same. */
  #seenAbove: AttemptRecord | undefined;
  readonly #scope: AsyncResource;
  #target: string;
  #decisions: Decision[] | undefined;
  readonly #told: Pick<Environment, "onDecision" | "counter" | "traces">;

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
    this.#told = context;
    this.method = call.path;
    this.kind = callKind(call);
    this.connection = connection;
    this.#target = connection?.target ?? context.target ?? "";
    this.inbound = currentInbound();
    this.priority = ambientPriority();
    this.#scope = captureScope();
    this.startedAtMs = context.clock.now();
  }

  /** Runs a function in the caller's async context. */
  restore<A extends unknown[], R>(fn: (...args: A) => R, ...args: A): R {
    return this.#scope.runInAsyncScope(fn, undefined, ...args);
  }

  /** The same for a function of up to three arguments, without arrays: it is called for each event of each call. */
  restoreWith<A, B, C>(fn: (a: A, b: B, c: C) => void, a: A, b: B, c: C): void {
    this.#scope.runInAsyncScope(fn, undefined, a, b, c);
  }

  /** Notes a decision, counts it and notifies the observer. `attempt`: the number of the one that it is about. */
  decide(decision: Decision, attempt = this.attemptCount): void {
    this.#decisions = keep(this.#decisions, decision);
    const { onDecision, counter } = this.#told;
    const { method, target, priority } = this;
    counter?.count(decision, "client", priority);
    if (onDecision === undefined) return;
    const event: DecisionEvent = {
      ...decision,
      method,
      target,
      side: "client",
      epochMs: this.clock.wallNow(),
      ...(priority === undefined ? {} : { priority }),
      ...(attempt === 0 ? {} : { attempt }),
      ...this.idsOf(this.trace),
    };
    notify(onDecision, event, this.report, "onDecision");
  }

  /**
   * The span of the call by what the telemetry keeps of it. Where it keeps nothing, the span that was active when the call
   * was made.
   */
  idsOf(kept: unknown): TraceIds | undefined {
    const { traces } = this.#told;
    if (traces === undefined) return undefined;
    return kept === undefined ? this.restore(traces.active) : traces.of(kept);
  }

  /** Adds the attempt that is about to start. */
  startAttempt(
    cause: AttemptRecord["cause"],
    nowMs: number,
    delayMs: number,
    after?: StatusObject,
  ): AttemptRecord {
    const seen = this.#seenAbove;
    this.#seenAbove = undefined;
    if (cause === "first" && seen !== undefined) return seen;
    const attempt: AttemptRecord = {
      number: this.attemptCount + 1,
      previous: this.attemptsSinceProgress,
      cause,
      startedAtMs: nowMs,
      delayMs,
      untilMs: this.deadlineMs,
      after,
    };
    this.attemptCount += 1;
    this.#attempts = keep(this.#attempts, attempt);
    return attempt;
  }

  /** The first ones and the latest: a stream that is resumed may have any number of attempts. */
  get attempts(): readonly AttemptRecord[] {
    return this.#attempts ?? none;
  }

  /** The first ones and the latest. */
  get decisions(): readonly Decision[] {
    return this.#decisions ?? none;
  }

  /** The attempt of a part that makes no others: the first of the call. */
  firstAttempt(nowMs: number): AttemptRecord {
    const [first] = this.attempts;
    if (first !== undefined) return first;
    const attempt = this.startAttempt("first", nowMs, 0);
    this.#seenAbove = attempt;
    return attempt;
  }

  /** The channel's target; the empty string where it is not known. */
  get target(): string {
    return this.#target;
  }

  /**
   * Learns the target from a call of grpc-js without a connection, whose peer is the target of its channel. A target
   * that is known already stays.
   */
  learnTarget(peer: string): void {
    if (this.#target === "" && peer !== "unknown") this.#target = peer;
  }

  /** Reports once that something does not work, because of how the interceptors are put together. */
  warnOnce(where: string, text: string): void {
    const topics = warned.get(this.report) ?? new Set<string>();
    if (topics.has(where)) return;
    warned.set(this.report, topics.add(where));
    reportSafely(this.report, new Error(text), where);
  }

  /** Attempts since the call began, or since a resumed response last had a message. */
  get attemptsSinceProgress(): number {
    return this.attemptCount - this.#attemptsDone;
  }

  /** A response that is resumed has had a message since the last attempt began. */
  progressed(): void {
    this.#attemptsDone = this.attemptCount;
  }

  /** Takes over the attempts and decisions of a call that was made for this one and others. */
  adopt({ attempts, attemptCount, decisions }: CallRecord): void {
    this.attemptCount += attemptCount;
    for (const attempt of attempts) this.#attempts = keep(this.#attempts, attempt);
    for (const decision of decisions) this.#decisions = keep(this.#decisions, decision);
  }
}

/** What has been reported once, by the function that receives reports. */
const warned = new WeakMap<ReportError, Set<string>>();

/** How many attempts, and decisions, a record keeps: more than retries or hedges of a single answer can make. */
const mostKept = 128;

const none: readonly never[] = [];

/** Adds an entry. A full list drops the one in the middle: the beginning and the end explain a call best. */
function keep<T>(list: T[] | undefined, entry: T): T[] {
  // A list of one takes a quarter of the memory that one takes to which entries are pushed.
  if (list === undefined) return [entry];
  if (list.length === mostKept) list.splice(mostKept / 2, 1);
  list.push(entry);
  return list;
}

/** The key of the record in CallOptions. Symbols survive the copies that grpc-js makes of the options. */
export const recordKey: unique symbol = Symbol("grpc-weir.record");
/** The key of the attempt in the options below a retrying or hedging call. */
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
  // Until a deadline layer sets it, the call's own deadline is the effective one.
  const { clock, startedAtMs } = record;
  const deadlineMs = toMonotonic(options.deadline, clock, startedAtMs) ?? Number.POSITIVE_INFINITY;
  record.deadlineMs = deadlineMs;
  // In V8, a symbol before the spread costs a tenth of one after it.
  const own = { [recordKey]: record, ...options };
  if (own.deadline instanceof Date) own.deadline = fixedDeadline(own.deadline);
  return own;
}

function hasRecord(options: OptionsWithOwn): options is OptionsWithRecord {
  return options[recordKey] !== undefined;
}

/** The attempt that these options belong to; without a retrying call above, the call's only one. */
export function attemptOf(
  options: OptionsWithOwn,
  record: CallRecord,
  nowMs: number,
): AttemptRecord {
  return options[attemptKey] ?? record.firstAttempt(nowMs);
}

/**
 * What `weir.with` can set for one call, beside the options that grpc-js knows.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/clients-and-servers.md
 */
export interface CallOverrides {
  /** Sent with the call, unless its metadata have a priority. @defaultValue the priority of the inbound call */
  readonly priority?: Priority;
}

const overridesKey: unique symbol = Symbol("grpc-weir.overrides");

type OptionsWithOverrides = CallOptions & OwnCallOptions & { [overridesKey]?: CallOverrides };

export function withOverrides(options: CallOptions, overrides: CallOverrides): CallOptions {
  const marked: OptionsWithOverrides = { ...options, [overridesKey]: overrides };
  return marked;
}

/**
 * Makes the record of each call, because only a transformer sees the channel. It also adds the pipeline to calls that
 * have interceptors of their own: in grpc-js, those replace the interceptors of the client.
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
    // In V8, a symbol before the spread costs a tenth of one after it. It is set again after the spread, because
    // options that are used for several calls have the record of an earlier one.
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
    // A copy, because the toolkit changes the definition, and the user's function may return the same one again.
    const methodDefinition = { ...properties.methodDefinition };
    return { ...properties, channel, callOptions: options, methodDefinition };
  };
}
