import { Metadata, status as Status } from "@grpc/grpc-js";
import type { Reason, Verdict } from "../core/decision.js";
import { isRecord } from "../core/options.js";
import { inMs } from "../core/rounded.js";
import type { StatusOrigin } from "../core/status.js";
import {
  type CallSummary,
  callFacts,
  type FinishedAttempt,
  type FinishedDecision,
  type KnownCall,
  statusName,
  summaryOf,
} from "../grpc/context/finished-call.js";
import { callOfFailure } from "../grpc/context/history.js";
import { currentInbound } from "../grpc/context/inbound-call.js";
import { GuardRejectedError } from "../grpc/status/guard-rejected-error.js";
import { rejectionOf } from "../grpc/status/rejection.js";
import { rpcMethod } from "./attributes.js";

/**
 * Says in about ten lines what became of a call, and why: what it ended with and who said so, each attempt, each decision, and
 * where to read on.
 *
 * @param subject A call that grpc-js gave you, on a client or in a handler; an error or status of a call that failed; an error
 *   of a guard; or a finished call from `weir.history()` or `onCall`.
 * @returns Lines of text. One line for what the toolkit knows nothing of.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/explain.md
 */
export function explain(subject: unknown): string {
  try {
    // Texts come from other programs: none may move the cursor of a terminal.
    return linesOf(subject)
      .map((line) => line.replace(/\p{Cc}/gu, "?"))
      .join("\n");
  } catch {
    // An object with a property that throws. The toolkit makes none.
    return unknown;
  }
}

const unknown =
  "Nothing is known of this: it is no call, no failure and no finished call that went through grpc-weir.";

function linesOf(subject: unknown): readonly string[] {
  if (!isObject(subject)) return [unknown];
  if (isSummary(subject)) return callLines(subject);
  const known = knownCalls(subject);
  if (known.length > 0) {
    const explained = known.map((call) => callLines(summaryOf(call)));
    return explained.flatMap((lines, index) => (index === 0 ? lines : ["", ...lines]));
  }
  return failureLines(subject) ?? [unknown];
}

// ---- What is known of a subject.

/** The run of a guard that this is the error of, and the call that failed; or the call that stands behind an object. */
function knownCalls(subject: object): readonly KnownCall[] {
  const { metadata }: { readonly metadata?: unknown } = subject;
  const failed = [
    callOfFailure(subject),
    metadata instanceof Metadata ? callOfFailure(metadata) : undefined,
  ].filter((call) => call !== undefined);
  if (failed.length > 0) return failed;
  const call = callBehind(subject) ?? callServed(subject);
  return call === undefined ? [] : [call];
}

/** The call of the handler that asks: its metadata are those of the record, whatever stands between the two. */
function callServed({ metadata }: { readonly metadata?: unknown }): KnownCall | undefined {
  const inbound = currentInbound();
  return inbound !== undefined && inbound.metadata === metadata ? inbound[callFacts]() : undefined;
}

/** So many interceptors may stand between the object of the user and that of the toolkit. */
const mostInterceptors = 64;

/**
 * The call of the toolkit behind an object of grpc-js. That one has the outermost interceptor's call in `call`, and each call
 * of an interceptor the one below it in `nextCall`: fields that grpc-js keeps to itself, so that a call may go unrecognised.
 */
function callBehind(subject: object): KnownCall | undefined {
  let at: unknown = subject;
  for (let depth = 0; depth < mostInterceptors && isObject(at); depth += 1) {
    const tell: unknown = Reflect.get(at, callFacts);
    if (typeof tell === "function") return tell.call(at);
    at = Reflect.get(at, "call") ?? Reflect.get(at, "nextCall");
  }
  return undefined;
}

function isObject(value: unknown): value is object {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

/** Also one that was serialised and read again. */
function isSummary(subject: object): subject is CallSummary {
  if (!isRecord(subject)) return false;
  const { side, method, attempts, decisions, waits, degraded, durationMs } = subject;
  return (
    (side === "client" || side === "server" || side === "guard") &&
    typeof method === "string" &&
    typeof durationMs === "number" &&
    [attempts, decisions, waits, degraded].every(Array.isArray)
  );
}

// ---- A failure of which only the status is known.

function failureLines(subject: object): readonly string[] | undefined {
  const rejection = rejectionOf(subject);
  if (rejection === undefined) return undefined;
  const { code, details }: { readonly code?: unknown; readonly details?: unknown } = subject;
  const { reason, local, hops } = rejection;
  const guard = subject instanceof GuardRejectedError ? `The guard ${subject.guard}` : undefined;
  const who =
    guard ??
    (local ? "This process" : hops === 0 ? "The server" : `A service ${hops} below the server`);
  return [
    `A call ended with ${typeof code === "number" ? statusName(code) : "a failure"}; nothing else is kept of it.`,
    `${who} refused it: ${quoted(details)}`,
    `Why: ${sentence(reason)}`,
    readOn(reason),
  ];
}

// ---- A call.

function callLines(call: CallSummary): readonly string[] {
  const { deadlineMs, durationMs, reason } = call;
  return [
    headline(call),
    ...verdictLines(call),
    ...shortened(call.attempts, mostAttempts, "attempts").map((entry) =>
      typeof entry === "string" ? entry : attemptLine(entry, call),
    ),
    ...shortened(call.decisions, mostDecisions, "decisions").map((entry) =>
      typeof entry === "string" ? entry : decisionLine(entry),
    ),
    ...waitLines(call),
    ...(deadlineMs === undefined ? [] : [deadlineLine(deadlineMs, durationMs)]),
    ...call.degraded.map(
      ({ source, name, method, ageMs }) =>
        `The answer is degraded: ${source} ${name}${method === undefined || method === rpcMethod(call.method) ? "" : ` of ${method}`}${ageMs === undefined ? "" : `, ${inMs(ageMs)} old`}.`,
    ),
    ...identityLines(call),
    ...readOnLines(call, reason),
  ];
}

const subjects = { client: "Call", server: "Inbound call", guard: "Guarded run" } as const;

function headline({ side, method, target, status, durationMs }: CallSummary): string {
  const to = target === "" ? "" : ` to ${target}`;
  const end =
    status === undefined ? `runs for ${inMs(durationMs)}` : `${status} after ${inMs(durationMs)}`;
  return `${subjects[side]} ${rpcMethod(method)}${to}: ${end}.`;
}

/** Who said how the call ended, and with which words. */
function verdictLines(call: CallSummary): readonly string[] {
  const { status, code, details, side, origin, decidedBy, refusedBy, reason, attempts } = call;
  if (status === undefined || code === Status.OK) return [];
  const words = details === "" ? "." : `: ${quoted(details)}`;
  const attempt = attempts.find(({ number }) => number === decidedBy);
  const policy = refusedBy === undefined ? "" : ` (${refusedBy})`;
  const why = reason === undefined ? [] : [`Why: ${sentence(reason)}`];
  if (side === "server") {
    if (refusedBy !== undefined) return [`This server refused it${policy}${words}`, ...why];
    if (status === "CANCELLED" && details === "") return ["The caller left before the answer."];
    if (status === "DEADLINE_EXCEEDED" && details === "") {
      return ["Its deadline passed before the answer."];
    }
    return [`The handler answered${words}`, ...why];
  }
  if (side === "guard" && reason === undefined) return [`The work failed${words}`];
  const server = attempt?.peer === undefined ? "The server" : `The server ${attempt.peer}`;
  const speaker = origin === "remote" ? `${server} said so` : speakers[origin ?? "unknown"];
  return [`${speaker}${policy}${words}`, ...why];
}

const speakers: Readonly<Record<Exclude<StatusOrigin, "remote"> | "unknown", string>> = {
  "local-policy": "A policy of this process refused it",
  "local-limit": "This process could not send or read a message",
  "local-setup": "This process could not set the call up",
  "never-sent": "The call never left this process",
  refused: "The peer refused the stream before it read anything",
  transport: "The connection broke, or no gRPC server answered",
  caller: "It was cancelled on this side",
  "attempt-timeout": "The attempt ran out of its own time",
  deadline: "The call ran out of time",
  unknown: "This process ended it",
};

// ---- Attempts.

const mostAttempts = 5;

function attemptLine(attempt: FinishedAttempt, call: CallSummary): string {
  const { number, cause, delayMs, durationMs, status, origin, details, peer, superseded } = attempt;
  const began =
    cause === "first"
      ? ""
      : ` (${cause}, ${inMs(delayMs)} ${cause === "hedge" ? "later" : "of wait"})`;
  const from = peer === undefined ? "" : ` from ${peer}`;
  const took = durationMs === undefined ? "" : ` after ${inMs(durationMs)}`;
  const by = origin === undefined ? "" : ` (${origin})`;
  const faults = attempt.faults === undefined ? "" : `; injected: ${attempt.faults.join(", ")}`;
  // The words of the attempt that decided stand above.
  const said =
    details === undefined || details === "" || number === call.decidedBy || superseded === true
      ? ""
      : `: ${quoted(details)}`;
  const end =
    superseded === true
      ? "given up, because another one decided the call"
      : status === undefined
        ? "runs on"
        : `${status}${by}${from}${took}${said}`;
  return `Attempt ${number}${began}: ${end}${faults}.`;
}

// ---- Decisions.

const mostDecisions = 6;

/** What each verdict means in a sentence whose subject is the policy. */
const verdicts: Readonly<Record<Verdict, string>> = {
  admit: "let it go on",
  queue: "had let it wait",
  reject: "refused it",
  retry: "tried again",
  hedge: "started another attempt beside the one that ran",
  fallback: "answered from another source",
  replay: "answered as an earlier call with its key was answered",
  skip: "left something out",
  inject: "injected a fault",
  stop: "went no further",
  expire: "ended it, because time was up",
  cancel: "cancelled it",
  switch: "switched something",
};

/** The same for a policy that only observes. */
const observed: Readonly<Record<Verdict, string>> = {
  admit: "would have let it go on",
  queue: "would have let it wait",
  reject: "would have refused it",
  retry: "would have tried again",
  hedge: "would have started another attempt",
  fallback: "would have answered from another source",
  replay: "would have answered as an earlier call with its key was answered",
  skip: "would have left something out",
  inject: "would have injected a fault",
  stop: "would have gone no further",
  expire: "would have ended it, because time was up",
  cancel: "would have cancelled it",
  switch: "would have switched something",
};

function decisionLine(decision: FinishedDecision): string {
  const { policy, verdict, enforced, reason, waitMs, detail, afterMs } = decision;
  const another = (verdict === "retry" || verdict === "hedge") && detail !== undefined;
  // The detail names the policy, what it follows and the wait.
  if (another && enforced) return `At ${inMs(afterMs)}: ${detail}.`;
  const did = (enforced ? verdicts : observed)[verdict];
  const wait = verdict === "queue" ? " for" : ", after";
  const waited = waitMs === undefined || another ? "" : `${wait} ${inMs(waitMs)}`;
  const why = reason === undefined ? "" : ` [${reason}]`;
  const numbers = detail === undefined ? "" : ` (${detail})`;
  return `At ${inMs(afterMs)}, ${policy} ${did}${waited}${numbers}${why}.`;
}

function waitLines({ waits, handlerAfterMs }: CallSummary): readonly string[] {
  const lines: string[] = [];
  const total = (kind: string) =>
    waits.reduce((sum, wait) => (wait.kind === kind ? sum + wait.ms : sum), 0);
  const parts = [
    ...(total("queue") > 0 ? [`${inMs(total("queue"))} in queues`] : []),
    ...(total("backoff") > 0 ? [`${inMs(total("backoff"))} between attempts`] : []),
  ];
  if (parts.length > 0) lines.push(`It waited ${parts.join(" and ")}.`);
  if (handlerAfterMs !== undefined && handlerAfterMs >= 1) {
    lines.push(`Its handler could start ${inMs(handlerAfterMs)} after it arrived.`);
  }
  return lines;
}

function deadlineLine(deadlineMs: number, durationMs: number): string {
  const leftMs = deadlineMs - durationMs;
  const left = leftMs > 0 ? `${inMs(leftMs)} were left` : "nothing was left";
  return `Its deadline was ${inMs(deadlineMs)} after its start; ${left} at its end.`;
}

function identityLines({ priority, traceId, spanId }: CallSummary): readonly string[] {
  const parts = [
    ...(priority === undefined ? [] : [`priority ${priority}`]),
    ...(traceId === undefined ? [] : [`trace ${traceId}, span ${spanId}`]),
  ];
  if (parts.length === 0) return [];
  const [first = ""] = parts;
  return [
    `${first.charAt(0).toUpperCase()}${first.slice(1)}${parts.length > 1 ? `, ${parts[1]}` : ""}.`,
  ];
}

// ---- What to do.

function readOnLines(call: CallSummary, reason: Reason | undefined): readonly string[] {
  const last = call.decisions.findLast((one) => one.enforced && one.reason !== undefined)?.reason;
  const about = reason ?? (call.code === Status.OK ? undefined : last);
  return about === undefined ? [] : [readOn(about)];
}

function readOn(reason: Reason): string {
  return `What to do: grpc-weir/docs/reasons.md#${reason}`;
}

function sentence(reason: Reason): string {
  return `${meanings[reason]} [${reason}]`;
}

/**
 * What each reason means. The sentences begin those in `docs/reasons.md`.
 *
 * @internal Exported for its tests.
 */
export const meanings: Readonly<Record<Reason, string>> = {
  CONCURRENCY_LIMIT:
    "The server runs as many calls as its limit allows, and its queue is full of calls that matter as much or more.",
  LOAD_SHED:
    "The server sheds calls of this priority at its present load, or a call that matters more took its place in the queue.",
  BULKHEAD_FULL:
    "The bulkhead, or the call's partition of it, is full, and its queue too; or the call weighs more than its partition may hold.",
  QUEUE_TIMEOUT: "The call waited for as long as it may in a queue.",
  BREAKER_OPEN: "The circuit breaker of this key is open.",
  BREAKER_PROBING: "The circuit breaker is half-open, and all its probes are running.",
  BREAKER_RAMPING:
    "The circuit breaker has just closed, and lets through only a share of the calls, which grows.",
  THROTTLED: "The target refuses so many calls that this one was not sent.",
  SERVER_SHEDDING:
    "The server has announced that it sheds calls of this priority, so this one was not sent.",
  RATE_LIMIT_EXCEEDED: "The rate or quota of the key is used up, and no token comes in time.",
  DEADLINE_EXPIRED:
    "The deadline had passed before the call could start, or while it waited in a queue.",
  DEADLINE_INFEASIBLE: "The time until the deadline is shorter than such calls need.",
  DEADLINE_EXCEEDED: "The deadline passed while the call ran.",
  DRAINING: "The server is shutting down.",
  KILLED: "Somebody has switched the method, its service, or all calls off.",
  REQUEST_TIMEOUT: "The client started a call and did not send its request in time.",
  STREAM_AGED: "The stream has been open for as long as the server allows.",
  PARENT_CANCELLED: "The inbound call for which this one was made has been cancelled.",
  CLOSED: "The weir or the channel of the client was closed.",
  CONNECTION_TIMEOUT:
    "No connection became ready in the time that an attempt or a retry may wait for one.",
  ATTEMPT_TIMEOUT: "The attempt took longer than its own time limit.",
  FIRST_RESPONSE_TIMEOUT: "No part of the response came in time.",
  IDLE_TIMEOUT: "The next message of a streamed response did not come in time.",
  WORK_TIMEOUT: "Guarded work that is not a gRPC call took longer than its time limit.",
  IDEMPOTENCY_KEY_MISSING: "The method needs an idempotency key, and the call has none.",
  IDEMPOTENCY_KEY_INVALID:
    "The idempotency key is too long, is not printable ASCII, or there are several.",
  IDEMPOTENCY_KEY_REUSED: "The idempotency key belongs to another request.",
  IDEMPOTENCY_IN_PROGRESS:
    "An earlier call with the same idempotency key still runs, and does not end before the deadline of this one.",
  IDEMPOTENCY_STORE_FAILED:
    "The store of idempotency keys does not answer, so it is not known whether the call has run already. It was not run.",
  IDEMPOTENCY_ANSWER_NOT_STORED:
    "The call has run, and its answer could not be stored: the store failed, or another call has taken over the key.",
  IDEMPOTENCY_ANSWER_NOT_KEPT: "The call has run before, and its answer was too large to be kept.",
  IDEMPOTENCY_MISCONFIGURED:
    "The server could not tell the key, the scope or the request of the call.",
  RETRY_ATTEMPTS_SPENT: "No attempt is left.",
  RETRY_NOT_ELIGIBLE:
    "The status, its origin or the idempotency of the method forbids another attempt.",
  RETRY_PAST_DEADLINE: "The next attempt could not start before the deadline.",
  RETRY_INFEASIBLE:
    "The next attempt could start before the deadline, but going by the usual time of such calls it would end too late.",
  RETRY_PUSHBACK_STOP: "The server asked not to be retried.",
  RETRY_COMMITTED: "The response has begun, or the request no longer fits the replay buffer.",
  RETRY_BUDGET: "The budget for extra attempts to this target is spent.",
  RESET_BUDGET:
    "The connection may carry no further stream reset now, so an attempt was not cancelled, or not sent.",
  RETRY_DEPTH: "The call is part of a retry by a service above: only one layer retries.",
  RETRY_EXHAUSTED_BELOW:
    "A service below has retried and given up, so services above do not retry.",
  RETRY_AWAITS_CONNECTION: "The channel could not connect, and the retry waits until it does.",
  RETRY_WAIT_TOO_LONG: "The server asked for a wait of more than five minutes.",
  FALLBACK_UNANSWERED: "No fallback had an answer.",
  BROWNOUT_FLAG: "A flag switches this optional work off.",
  BROWNOUT_PRESSURE: "The pressure on the process is too high for this optional work.",
  FAULT_INJECTED: "A fault was injected on purpose.",
  STORE_AWAY:
    "A store that several processes share could not be asked, and this process decided by what it knows itself.",
  FLAG_CHANGED: "The value of a flag has changed.",
};

// ---- Words and numbers.

/** The entries, or, where there are many, the first and the last ones and how many stand between. */
function shortened<T>(entries: readonly T[], most: number, what: string): readonly (T | string)[] {
  if (entries.length <= most) return entries;
  const first = Math.ceil(most / 2);
  const last = most - first;
  const left = entries.length - most;
  return [...entries.slice(0, first), `… ${left} more ${what} …`, ...entries.slice(-last)];
}

const longestText = 200;

/** The text of a status or an error: it may be long, and have lines of its own. */
function quoted(text: unknown): string {
  const whole = String(text);
  return JSON.stringify(whole.length > longestText ? `${whole.slice(0, longestText)}…` : whole);
}
