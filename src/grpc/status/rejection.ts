import { Buffer } from "node:buffer";
import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import { isReason, type Reason, type RefusalReason } from "../../core/decision.js";
import type { Refusal } from "../../core/permit.js";
import { processWide } from "../../core/process-wide.js";
import { statusCode } from "../../core/status.js";
import type { Any } from "../../gen/google/protobuf/any.js";
import { ErrorInfo, QuotaFailure, RetryInfo } from "../../gen/google/rpc/error_details.js";
import { Status as RpcStatus } from "../../gen/google/rpc/status.js";
import { retriesExhaustedKey } from "../metadata.js";

/** `ErrorInfo.domain` of every rejection of the toolkit. */
export const rejectionDomain = "grpc-weir";

/** The status that a call ends with which is refused for this reason. */
const statusOfReason = {
  CONCURRENCY_LIMIT: Status.RESOURCE_EXHAUSTED,
  LOAD_SHED: Status.RESOURCE_EXHAUSTED,
  BULKHEAD_FULL: Status.RESOURCE_EXHAUSTED,
  QUEUE_TIMEOUT: Status.RESOURCE_EXHAUSTED,
  BREAKER_OPEN: Status.UNAVAILABLE,
  BREAKER_PROBING: Status.UNAVAILABLE,
  BREAKER_RAMPING: Status.UNAVAILABLE,
  THROTTLED: Status.RESOURCE_EXHAUSTED,
  SERVER_SHEDDING: Status.RESOURCE_EXHAUSTED,
  RATE_LIMIT_EXCEEDED: Status.RESOURCE_EXHAUSTED,
  DEADLINE_EXPIRED: Status.DEADLINE_EXCEEDED,
  DEADLINE_INFEASIBLE: Status.DEADLINE_EXCEEDED,
  DEADLINE_EXCEEDED: Status.DEADLINE_EXCEEDED,
  DRAINING: Status.UNAVAILABLE,
  KILLED: Status.UNAVAILABLE,
  REQUEST_TIMEOUT: Status.DEADLINE_EXCEEDED,
  STREAM_AGED: Status.UNAVAILABLE,
  PARENT_CANCELLED: Status.CANCELLED,
  CLOSED: Status.UNAVAILABLE,
  CONNECTION_TIMEOUT: Status.UNAVAILABLE,
  ATTEMPT_TIMEOUT: Status.DEADLINE_EXCEEDED,
  FIRST_RESPONSE_TIMEOUT: Status.DEADLINE_EXCEEDED,
  IDLE_TIMEOUT: Status.DEADLINE_EXCEEDED,
  WORK_TIMEOUT: Status.DEADLINE_EXCEEDED,
  IDEMPOTENCY_KEY_MISSING: Status.INVALID_ARGUMENT,
  IDEMPOTENCY_KEY_INVALID: Status.INVALID_ARGUMENT,
  IDEMPOTENCY_KEY_REUSED: Status.INVALID_ARGUMENT,
  IDEMPOTENCY_IN_PROGRESS: Status.ABORTED,
  IDEMPOTENCY_STORE_FAILED: Status.UNAVAILABLE,
  IDEMPOTENCY_ANSWER_NOT_STORED: Status.UNAVAILABLE,
  IDEMPOTENCY_ANSWER_NOT_KEPT: Status.FAILED_PRECONDITION,
  IDEMPOTENCY_MISCONFIGURED: Status.INTERNAL,
} as const satisfies Record<RefusalReason, Status>;

/** The beginning of the status details, before the numbers. For the other reasons, the detail is a whole sentence. */
const titles: Readonly<Partial<Record<RefusalReason, string>>> = {
  CONCURRENCY_LIMIT: "Concurrency limit reached",
  LOAD_SHED: "Load shed",
  BULKHEAD_FULL: "Bulkhead full",
  QUEUE_TIMEOUT: "Waited too long in a queue",
  BREAKER_OPEN: "Breaker open",
  BREAKER_PROBING: "Breaker half-open",
  BREAKER_RAMPING: "Breaker just closed",
  THROTTLED: "Throttled",
  SERVER_SHEDDING: "Not sent, the server sheds load",
  RATE_LIMIT_EXCEEDED: "Rate limit exceeded",
  KILLED: "Switched off",
};

/** The status code of a refused call. */
export function statusOf(reason: RefusalReason): Status {
  return statusOfReason[reason];
}

/** The details of the status of a refused call: what happened, the numbers, and the reason code. */
export function refusalText({ reason, detail, retryAfterMs }: Refusal): string {
  const title = titles[reason];
  if (title === undefined) return withCode(detail, reason);
  return withCode(`${title}: ${detail}${again(retryAfterMs)}`, reason);
}

/**
 * The same details without the numbers of the moment, so that many refusals have them in common. `undefined` for reasons
 * whose detail is the whole sentence.
 */
export function standingText(
  reason: RefusalReason,
  retryAfterMs: number | undefined,
): string | undefined {
  const title = titles[reason];
  return title === undefined ? undefined : withCode(`${title}${again(retryAfterMs)}`, reason);
}

/** The end of the details: when to try again. */
function again(afterMs: number | undefined): string {
  return afterMs === undefined ? "" : `; try again in ${wireMs(afterMs)} ms`;
}

/** Behind the text, so that a log line of an error alone says what to look up in `docs/reasons.md`. */
function withCode(text: string, reason: RefusalReason): string {
  return `${text} [${reason}]`;
}

/**
 * Why the toolkit refused a call, in this process or in the server that answered.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/clients-and-servers.md
 */
export interface Rejection {
  readonly reason: Reason;
  /** True when this process refused the call; false when the status came from a server. */
  readonly local: boolean;
  /** After how many milliseconds another try may succeed. Absent where that is not known. */
  readonly retryAfterMs?: number;
  /**
   * How many services have passed the status on: 0 when the server that was called refused the call itself. A status
   * that was passed on is not retried here, because a service below has retried it or decided not to.
   */
  readonly hops: number;
  /** `ErrorInfo.metadata` of the status, such as `scope`, `priority` and `limit`. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * The statuses that this process made, by the identity of their metadata. Interceptors and grpc-js copy a status on its
 * way to the error that the application catches, but they hand the metadata on as it is. Nothing that a server sends
 * can add an entry.
 */
const madeHere = processWide("local rejections", () => new WeakMap<Metadata, Rejection>());

/**
 * The status of a call that a policy of this process refused.
 *
 * @param info Goes into `ErrorInfo.metadata`, beside `scope: "client"`.
 */
export function localRejection(
  refusal: Refusal,
  info: Readonly<Record<string, string>> = {},
): StatusObject {
  const code = statusOfReason[refusal.reason];
  const details = refusalText(refusal);
  const metadata = new Metadata();
  const errorInfo = { scope: "client", ...info };
  metadata.set(statusDetailsKey, encodeRejection(code, details, refusal, errorInfo));
  madeHere.set(metadata, rejection(refusal.reason, refusal.retryAfterMs, true, errorInfo));
  return { code, details, metadata };
}

/**
 * Whether the toolkit refused a call, in this process or in the server that answered, and why.
 *
 * @param failed A status, or an error that a client method gave to its callback, emitted or threw.
 * @returns `undefined` for every other failure.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/clients-and-servers.md
 */
export function rejectionOf(failed: unknown): Rejection | undefined {
  const metadata = metadataOf(failed);
  if (metadata === undefined) return undefined;
  const ours = madeHere.get(metadata);
  if (ours !== undefined) return ours;
  if (metadata.get(statusDetailsKey).length === 0) return undefined;
  const { errorInfo, retryDelayMs } = decodeStatusDetails(metadata);
  if (errorInfo?.domain !== rejectionDomain || !isReason(errorInfo.reason)) return undefined;
  return rejection(errorInfo.reason, retryDelayMs, false, errorInfo.metadata);
}

/** The reasons of refusals before the handler of a server. */
const notRun: ReadonlySet<Reason> = new Set([
  "CONCURRENCY_LIMIT",
  "LOAD_SHED",
  "QUEUE_TIMEOUT",
  "BULKHEAD_FULL",
  "RATE_LIMIT_EXCEEDED",
  "DRAINING",
  "IDEMPOTENCY_IN_PROGRESS",
  "IDEMPOTENCY_STORE_FAILED",
]);

/**
 * Whether a service below has refused the call of a handler, or has retried it already or decided not to. Retries here
 * would multiply the attempts of that service.
 */
export function dealtWithBelow(metadata: Metadata, rejection: Rejection | undefined): boolean {
  return (
    (rejection !== undefined && rejection.hops > 0) || metadata.get(retriesExhaustedKey).length > 0
  );
}

/** Whether the server that was called refused the call before its handler ran. */
export function handlerNotRun(rejection: Rejection | undefined): boolean {
  return (
    rejection !== undefined &&
    !rejection.local &&
    rejection.hops === 0 &&
    notRun.has(rejection.reason)
  );
}

/**
 * Whether the status is no evidence of the server's health: it shed the call, the method is switched off, or the stream was as
 * old as the server lets streams be.
 */
export function saysNothingOfHealth(rejection: Rejection | undefined): boolean {
  return handlerNotRun(rejection) || isKilled(rejection) || isOfServer(rejection, "STREAM_AGED");
}

/** Whether the server that was called refused the call because somebody has switched the method off. */
export function isKilled(rejection: Rejection | undefined): boolean {
  return isOfServer(rejection, "KILLED");
}

function isOfServer(rejection: Rejection | undefined, reason: Reason): boolean {
  return rejection?.local === false && rejection.hops === 0 && rejection.reason === reason;
}

function metadataOf(failed: unknown): Metadata | undefined {
  if (typeof failed !== "object" || failed === null) return undefined;
  try {
    if (!("metadata" in failed)) return undefined;
    const { metadata } = failed;
    return metadata instanceof Metadata ? metadata : undefined;
  } catch {
    // An error with a property that throws. The toolkit makes none.
    return undefined;
  }
}

/** Whether this process made the status. What a server sends has no influence on the answer. */
export function isLocal(failed: { readonly metadata?: Metadata }): boolean {
  return failed.metadata !== undefined && madeHere.has(failed.metadata);
}

function rejection(
  reason: Reason,
  retryAfterMs: number | undefined,
  local: boolean,
  metadata: Readonly<Record<string, string>>,
): Rejection {
  const counted = readHops(metadata);
  const { scope } = metadata;
  // A refusal by a client reaches another process only if a handler passed it on, whether or not that was counted.
  const hops = local || scope !== "client" ? counted : Math.max(1, counted);
  return retryAfterMs === undefined
    ? { reason, local, hops, metadata }
    : { reason, local, retryAfterMs, hops, metadata };
}

/** The serialised `google.rpc.Status` of a refusal. */
export function encodeRejection(
  code: Status,
  message: string,
  { reason, detail, retryAfterMs, subject }: Refusal,
  info: Readonly<Record<string, string>>,
): Buffer {
  return encodeStatusDetails(code, message, {
    errorInfo: { reason, domain: rejectionDomain, metadata: info },
    ...(retryAfterMs === undefined ? {} : { retryDelayMs: retryAfterMs }),
    ...(subject === undefined ? {} : { quotaViolations: [{ subject, description: detail }] }),
  });
}

/** Key of `ErrorInfo.metadata` that counts how many services have passed the status on. */
const hopsKey = "hops";

function readHops(metadata: Readonly<Record<string, string>>): number {
  const value = metadata[hopsKey];
  return value !== undefined && /^\d{1,4}$/.test(value) ? Number(value) : 0;
}

/**
 * The `ErrorInfo` of a refusal that a service below sent, with one hop more: for the status that this server passes on.
 * `undefined` where the details are no refusal of the toolkit.
 */
export function oneHopFurther(details: StatusDetails): StatusDetails["errorInfo"] {
  const { errorInfo } = details;
  // Of any reason: the next reader may be a later version, which knows more of them.
  if (errorInfo?.domain !== rejectionDomain) return undefined;
  const { reason, domain, metadata } = errorInfo;
  return { reason, domain, metadata: { ...metadata, [hopsKey]: String(readHops(metadata) + 1) } };
}

// ---- `google.rpc.Status` in trailers (https://google.aip.dev/193).

/** Trailer that carries a serialised `google.rpc.Status`. */
export const statusDetailsKey = "grpc-status-details-bin";

const typePrefix = "type.googleapis.com/google.rpc.";
/** Larger details are not decoded: the toolkit writes none, and decoding is on the path of every failed call. */
const maxDetailsBytes = 16 * 1024;

/** The details that the toolkit reads and writes. */
export interface StatusDetails {
  readonly errorInfo?: {
    readonly reason: string;
    readonly domain: string;
    readonly metadata: Readonly<Record<string, string>>;
  };
  readonly retryDelayMs?: number;
  readonly quotaViolations?: readonly { readonly subject: string; readonly description: string }[];
}

/**
 * Serialises a `google.rpc.Status` with one detail of each kind at most (AIP-193).
 *
 * @internal Exported for its tests.
 */
export function encodeStatusDetails(code: number, message: string, details: StatusDetails): Buffer {
  const packed: Any[] = [];
  const pack = (name: string, value: Uint8Array) =>
    packed.push({ typeUrl: typePrefix + name, value: Buffer.from(value) });
  if (details.errorInfo !== undefined) {
    const { reason, domain, metadata } = details.errorInfo;
    const info = ErrorInfo.encode({ reason, domain, metadata: { ...metadata } });
    pack("ErrorInfo", info.finish());
  }
  if (details.retryDelayMs !== undefined) {
    const ms = wireMs(details.retryDelayMs);
    const retryDelay = { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
    pack("RetryInfo", RetryInfo.encode({ retryDelay }).finish());
  }
  if (details.quotaViolations !== undefined) {
    const violations = details.quotaViolations.map((violation) => ({ ...violation }));
    pack("QuotaFailure", QuotaFailure.encode({ violations }).finish());
  }
  return Buffer.from(RpcStatus.encode({ code: wireCode(code), message, details: packed }).finish());
}

/** The longest `google.protobuf.Duration`, in milliseconds: 10,000 years. */
const longestMs = 315_576_000_000 * 1000;

/**
 * Whole milliseconds, rounded up, from 0 to `mostMs`. NaN becomes 0. The encoder throws for other numbers, and the
 * refused call would then get no status.
 */
export function wireMs(ms: number, mostMs = longestMs): number {
  return ms > 0 ? Math.min(Math.ceil(ms), mostMs) : 0;
}

/** UNKNOWN for a code that is no int32: a handler may give anything. gRPC reads such codes as UNKNOWN, too. */
function wireCode(code: number): number {
  return (code | 0) === code ? code : statusCode.unknown;
}

/**
 * The details of a status that a server passes on: without RetryInfo and without the `ErrorInfo` of `domain`, which
 * were meant for this server, and with `errorInfo` instead. Other details stay.
 *
 * @returns `undefined` when no details are left; `unreadable` when the given ones are malformed, repeated or too large.
 */
export function passOnStatusDetails(
  metadata: Metadata,
  status: { readonly code: number; readonly details: string },
  domain: string,
  errorInfo: StatusDetails["errorInfo"],
): Buffer | undefined | "unreadable" {
  const values: readonly unknown[] = metadata.get(statusDetailsKey);
  let given: RpcStatus = { code: status.code, message: status.details, details: [] };
  if (values.length > 0) {
    if (!isReadable(values)) return "unreadable";
    try {
      given = RpcStatus.decode(values[0]);
      given.details = given.details.filter((one) => !isOfThisHop(one, domain));
    } catch {
      return "unreadable";
    }
  }
  if (errorInfo !== undefined) {
    const { reason, domain: own, metadata: info } = errorInfo;
    const value = ErrorInfo.encode({ reason, domain: own, metadata: { ...info } }).finish();
    given.details.push({ typeUrl: `${typePrefix}ErrorInfo`, value: Buffer.from(value) });
  }
  return given.details.length === 0 ? undefined : Buffer.from(RpcStatus.encode(given).finish());
}

function isOfThisHop({ typeUrl, value }: Any, domain: string): boolean {
  if (typeUrl === `${typePrefix}RetryInfo`) return true;
  return typeUrl === `${typePrefix}ErrorInfo` && ErrorInfo.decode(value).domain === domain;
}

function isReadable(values: readonly unknown[]): values is readonly [Buffer] {
  const [bytes] = values;
  return values.length === 1 && bytes instanceof Buffer && bytes.length <= maxDetailsBytes;
}

/** Decoded details by their bytes: the attempt, the inbound call, spans and the application read the same status. */
const decoded = new WeakMap<Buffer, StatusDetails>();

/** Reads the details of a status. Details that are malformed, repeated or too large count as absent. */
export function decodeStatusDetails(metadata: Metadata): StatusDetails {
  const values: readonly unknown[] = metadata.get(statusDetailsKey);
  if (!isReadable(values)) return {};
  const [bytes] = values;
  let details = decoded.get(bytes);
  if (details === undefined) {
    details = decode(bytes);
    decoded.set(bytes, details);
  }
  return details;
}

/** Gives a clone the same bytes instead of a copy, so that they are not decoded again. */
export function shareStatusDetails(from: Metadata, clone: Metadata): void {
  const values: readonly unknown[] = from.get(statusDetailsKey);
  if (isReadable(values)) clone.set(statusDetailsKey, values[0]);
}

function decode(bytes: Buffer): StatusDetails {
  try {
    let found: StatusDetails = {};
    for (const { typeUrl, value } of RpcStatus.decode(bytes).details) {
      if (typeUrl === `${typePrefix}ErrorInfo`) {
        const { reason, domain, metadata: info } = ErrorInfo.decode(value);
        found = { ...found, errorInfo: { reason, domain, metadata: info } };
      } else if (typeUrl === `${typePrefix}RetryInfo`) {
        const { retryDelay } = RetryInfo.decode(value);
        if (retryDelay === undefined) continue;
        const ms = retryDelay.seconds * 1000 + retryDelay.nanos / 1_000_000;
        if (Number.isFinite(ms) && ms >= 0) found = { ...found, retryDelayMs: ms };
      } else if (typeUrl === `${typePrefix}QuotaFailure`) {
        found = { ...found, quotaViolations: QuotaFailure.decode(value).violations };
      }
    }
    return found;
  } catch {
    return {};
  }
}
