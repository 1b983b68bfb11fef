import { status as Status } from "@grpc/grpc-js";
import { type Clock, epochOffsetMs } from "../../core/clock.js";
import type { Decision, PolicyName, Reason } from "../../core/decision.js";
import type { Priority } from "../../core/priority.js";
import { rounded } from "../../core/rounded.js";
import type { StatusOrigin } from "../../core/status.js";
import type { Degradation } from "../status/degraded.js";
import type { CallKind } from "../types.js";

/**
 * A trace, and a span in it, as OpenTelemetry writes them: 32 and 16 hexadecimal digits.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/explain.md
 */
export interface TraceIds {
  readonly traceId: string;
  readonly spanId: string;
}

/**
 * One attempt of a call, as plain data.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/explain.md
 */
export interface FinishedAttempt {
  /** 1 for the first. */
  readonly number: number;
  /** Why it was started. */
  readonly cause: "first" | "retry" | "hedge";
  /** How long the call waited before it, in milliseconds. */
  readonly delayMs: number;
  /** Milliseconds from its start, with its time in queues; absent while it runs on after the call. */
  readonly durationMs?: number;
  /** The name of the code that it ended with; absent while it runs on. For a guard, `OK` or the name of the error. */
  readonly status?: string;
  /** Where its status came from; absent after OK. */
  readonly origin?: StatusOrigin;
  /** The text of its status; absent after OK. */
  readonly details?: string;
  /** The address of the server that it went to; absent where none was chosen. */
  readonly peer?: string;
  /** Another attempt decided the call, and this one was given up. */
  readonly superseded?: true;
  /** The faults that were injected on purpose. */
  readonly faults?: readonly string[];
}

/**
 * One decision about a call, as plain data.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/explain.md
 */
export interface FinishedDecision extends Omit<Decision, "atMs"> {
  /** Milliseconds from the start of the call. */
  readonly afterMs: number;
}

/**
 * One wait of a call.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/explain.md
 */
export interface CallWait {
  /** In the queue of a policy, or between two attempts. */
  readonly kind: "queue" | "backoff";
  readonly policy: PolicyName;
  readonly ms: number;
}

/**
 * What the toolkit knows of one call: plain data, which can be logged and serialised. It has no request, no response, no
 * metadata and no span.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/explain.md
 */
export interface CallSummary extends Partial<TraceIds> {
  /** A call of a client, a call that a server received, or a run of a guard. */
  readonly side: "client" | "server" | "guard";
  /** `/pkg.Service/Method`, or the name of the guard. */
  readonly method: string;
  /** Absent for a guard. */
  readonly kind?: CallKind;
  /** The target of the client's channel. Empty on a server, for a guard, and where it is not known. */
  readonly target: string;
  readonly priority?: Priority;
  /** When it began, in milliseconds since the Unix epoch. */
  readonly startedEpochMs: number;
  /** Milliseconds from its start to its end, or to now while it runs. */
  readonly durationMs: number;
  /** Milliseconds from its start to its deadline; absent without one. */
  readonly deadlineMs?: number;
  /** The name of the code that it ended with; for a guard, `OK` or the name of the error. Absent while it runs. */
  readonly status?: string;
  /** The code that it ended with: UNKNOWN for a guard whose work failed. Absent while it runs. */
  readonly code?: Status;
  /** The text of the status, or of the guard's error. Empty for OK. */
  readonly details: string;
  /** Where the status came from. Absent after OK, on servers, and where it is not known. */
  readonly origin?: StatusOrigin;
  /** The number of the attempt whose status it is; absent where no attempt gave it. */
  readonly decidedBy?: number;
  /** Why a policy refused or ended it. */
  readonly reason?: Reason;
  /** The policy that refused it in this process, where that is known. */
  readonly refusedBy?: PolicyName;
  /** On a server: milliseconds from the arrival of the call until its handler could start. Absent if it never could. */
  readonly handlerAfterMs?: number;
  /** How many attempts were started; 0 on a server. */
  readonly attemptCount: number;
  /** The first ones and the latest. Of a guard, those that failed. */
  readonly attempts: readonly FinishedAttempt[];
  /** The first ones and the latest. */
  readonly decisions: readonly FinishedDecision[];
  readonly waits: readonly CallWait[];
  /** Why the answer is degraded; empty for a complete one. */
  readonly degraded: readonly Degradation[];
}

/**
 * A call that has ended.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/explain.md
 */
export interface FinishedCall extends CallSummary {
  readonly status: string;
  readonly code: Status;
}

/** What is kept of an attempt. `AttemptRecord` is one, as long as it holds no status. */
export interface AttemptFacts {
  readonly number: number;
  readonly cause: FinishedAttempt["cause"];
  readonly delayMs: number;
  readonly startedAtMs: number;
  readonly endedAtMs?: number | undefined;
  readonly peer?: string | undefined;
  readonly superseded?: boolean | undefined;
  readonly faults?: readonly string[] | undefined;
  /** Absent for an attempt that ended OK, or runs. */
  readonly failed?: AttemptFailure | undefined;
}

export interface AttemptFailure {
  readonly status: string;
  readonly origin: StatusOrigin | undefined;
  readonly details: string;
}

/**
 * What is kept of a call, in the form in which it costs least to keep it: times are of the monotonic clock. Most of it is
 * never read, so {@link summaryOf} makes a {@link CallSummary} of it only when somebody asks.
 */
export interface CallFacts {
  readonly side: CallSummary["side"];
  readonly method: string;
  readonly kind: CallKind | undefined;
  readonly target: string;
  readonly priority: Priority | undefined;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly deadlineMs: number;
  readonly handlerStartedMs: number | undefined;
  /** `undefined` while it runs. */
  readonly code: Status | undefined;
  readonly details: string;
  /** The name of a guard's error. */
  readonly error: string | undefined;
  readonly origin: StatusOrigin | undefined;
  readonly decidedBy: number | undefined;
  readonly reason: Reason | undefined;
  readonly refusedBy: PolicyName | undefined;
  readonly attemptCount: number;
  readonly attempts: readonly AttemptFacts[];
  readonly decisions: readonly Decision[];
  readonly degraded: readonly Degradation[];
  readonly ids: TraceIds | undefined;
}

/** The policy that refused a call of this process for that reason, by the decisions about it. */
export function refuserIn(decisions: readonly Decision[], reason: Reason): PolicyName | undefined {
  return decisions.findLast((one) => one.reason === reason && one.enforced)?.policy;
}

/**
 * The key of the method by which a call object of the toolkit tells what is known of its call; `undefined` where that is
 * nothing. Such objects stand behind those that grpc-js gives to the user.
 */
export const callFacts: unique symbol = Symbol("grpc-weir.facts");

export interface TellsFacts {
  [callFacts](): KnownCall | undefined;
}

/** The facts of a call, and the clocks by which they are told. */
export interface KnownCall {
  readonly facts: CallFacts;
  /** What is added to a time of the monotonic clock for one of the wall clock, in milliseconds. */
  readonly epochOffsetMs: number;
}

/** The facts with the present distance of the clocks. If the wall clock was set since, past calls follow. */
export function knownCall(facts: CallFacts, clock: Clock): KnownCall {
  return { facts, epochOffsetMs: epochOffsetMs(clock) };
}

/** The name of a status code; the number itself if it is no known code. */
export function statusName(code: number): string {
  return Status[code] ?? String(code);
}

/** Makes plain data of what was kept of a call. What is not known is left out, so that it is not serialised. */
export function summaryOf({ facts, epochOffsetMs }: KnownCall): CallSummary {
  const { kind, priority, code, origin, decidedBy, reason, refusedBy } = facts;
  const { startedAtMs, endedAtMs, deadlineMs, handlerStartedMs } = facts;
  const sinceStart = (atMs: number) => rounded(atMs - startedAtMs);
  return {
    side: facts.side,
    method: facts.method,
    ...(kind === undefined ? {} : { kind }),
    target: facts.target,
    ...(priority === undefined ? {} : { priority }),
    startedEpochMs: rounded(startedAtMs + epochOffsetMs),
    durationMs: sinceStart(endedAtMs),
    ...(deadlineMs === Number.POSITIVE_INFINITY ? {} : { deadlineMs: sinceStart(deadlineMs) }),
    ...(code === undefined ? {} : { code, status: endName(facts.error, code) }),
    details: code === Status.OK ? "" : facts.details,
    ...(origin === undefined ? {} : { origin }),
    ...(decidedBy === undefined ? {} : { decidedBy }),
    ...(reason === undefined ? {} : { reason }),
    ...(refusedBy === undefined ? {} : { refusedBy }),
    ...(handlerStartedMs === undefined ? {} : { handlerAfterMs: sinceStart(handlerStartedMs) }),
    attemptCount: facts.attemptCount,
    attempts: facts.attempts.map(attemptOf),
    decisions: facts.decisions.map(({ atMs, ...decision }) => ({
      ...decision,
      ...(decision.waitMs === undefined ? {} : { waitMs: rounded(decision.waitMs) }),
      afterMs: sinceStart(atMs),
    })),
    waits: waitsOf(facts),
    degraded: facts.degraded.map((one) => ({ ...one })),
    ...facts.ids,
  };
}

/** The same for a call that has ended. */
export function finishedOf(
  facts: CallFacts & { readonly code: Status },
  epochOffsetMs: number,
): FinishedCall {
  const { code, error } = facts;
  return { ...summaryOf({ facts, epochOffsetMs }), status: endName(error, code), code };
}

/** For a guard whose work failed, the name of its error. */
function endName(error: string | undefined, code: Status): string {
  return error ?? statusName(code);
}

function attemptOf(attempt: AttemptFacts): FinishedAttempt {
  const { number, cause, delayMs, startedAtMs, endedAtMs, peer, superseded, faults } = attempt;
  const { failed } = attempt;
  const { status = "OK", origin, details } = failed ?? {};
  return {
    number,
    cause,
    delayMs: rounded(delayMs),
    ...(endedAtMs === undefined ? {} : { durationMs: rounded(endedAtMs - startedAtMs), status }),
    ...(origin === undefined ? {} : { origin }),
    ...(details === undefined ? {} : { details }),
    ...(peer === undefined ? {} : { peer }),
    ...(superseded === true ? { superseded } : {}),
    ...(faults === undefined ? {} : { faults: [...faults] }),
  };
}

function waitsOf({ attempts, decisions }: CallFacts): CallWait[] {
  const waits: CallWait[] = [];
  for (const { verdict, enforced, waitMs, policy } of decisions) {
    if (verdict === "queue" && enforced && waitMs !== undefined && waitMs > 0) {
      waits.push({ kind: "queue", policy, ms: rounded(waitMs) });
    }
  }
  for (const { cause, delayMs } of attempts) {
    if (cause === "retry" && delayMs > 0) {
      waits.push({ kind: "backoff", policy: "retry", ms: rounded(delayMs) });
    }
  }
  return waits;
}
