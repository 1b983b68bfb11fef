import { Buffer } from "node:buffer";
import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import { isReason, type Reason, type RefusalReason } from "../../core/decision.js";
import type { Refusal } from "../../core/permit.js";
import { statusCode } from "../../core/status.js";
import type { Any } from "../../gen/google/protobuf/any.js";
import { ErrorInfo, QuotaFailure, RetryInfo } from "../../gen/google/rpc/error_details.js";
import { Status as RpcStatus } from "../../gen/google/rpc/status.js";
import { retriesExhaustedKey } from "../metadata.js";

/** `ErrorInfo.domain` of every rejection of the toolkit. */
export const rejectionDomain = "grpc-weir";

/** What a refused call ends with. */
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
  REQUEST_TIMEOUT: Status.DEADLINE_EXCEEDED,
  STREAM_AGED: Status.UNAVAILABLE,
  PARENT_CANCELLED: Status.CANCELLED,
  CLOSED: Status.UNAVAILABLE,
  CONNECTION_TIMEOUT: Status.UNAVAILABLE,
  ATTEMPT_TIMEOUT: Status.DEADLINE_EXCEEDED,
  FIRST_RESPONSE_TIMEOUT: Status.DEADLINE_EXCEEDED,
  IDLE_TIMEOUT: Status.DEADLINE_EXCEEDED,
  WORK_TIMEOUT: Status.DEADLINE_EXCEEDED,
} as const satisfies Record<RefusalReason, Status>;

/** What a refused call is told before the numbers. The other reasons say it in words of their own. */
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
};

/** The status of a refused call. */
export function statusOf(reason: RefusalReason): Status {
  return statusOfReason[reason];
}

/** The details of the status of a refused call. */
export function refusalText({ reason, detail, retryAfterMs }: Refusal): string {
  const title = titles[reason];
  if (title === undefined) return detail;
  return `${title}: ${detail}${again(retryAfterMs)}`;
}

/** What a refusal is called, where it has numbers beside its name. */
export function titleOf(reason: RefusalReason): string | undefined {
  return titles[reason];
}

export function again(afterMs: number | undefined): string {
  return afterMs === undefined ? "" : `; try again in ${wireMs(afterMs)} ms`;
}

/** What the toolkit says about a status that it made itself, or that another toolkit made. */
export interface Rejection {
  readonly reason: Reason;
  /** True when this process refused the call; false when the answer of a server says so. */
  readonly local: boolean;
  /** When trying again is worth it, in milliseconds, where that is known. */
  readonly retryAfterMs?: number;
  /**
   * How many services have passed it on: 0 when the server that was called refused the call itself. A
   * rejection that was passed on is not worth a retry here; a layer below has dealt with it.
   */
  readonly hops: number;
  /** Details such as `scope`, `priority`, `limit`. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Statuses made in this process, by the identity of their metadata: that is the one part of a status
 * which survives the copies that interceptors and the client surface make of it, up to the error that
 * the application catches. What stands on the wire can never put an entry here.
 */
const madeHere = new WeakMap<Metadata, Rejection>();

/** A status for a call that a policy in this process refused, marked as ours. */
export function localRejection(
  refusal: Refusal,
  info: Readonly<Record<string, string>> = {},
): StatusObject {
  const code = statusOfReason[refusal.reason];
  const details = refusalText(refusal);
  const metadata = new Metadata();
  const told = { scope: "client", ...info };
  metadata.set(statusDetailsKey, encodeRejection(code, details, refusal, told));
  madeHere.set(metadata, rejection(refusal.reason, refusal.retryAfterMs, true, told));
  return { code, details, metadata };
}

/**
 * Tells whether the toolkit refused a call, here or in a server, and why.
 * @param failed a status, or whatever a client method gave to the application or threw
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

/** Reasons by which a server that runs the toolkit says that the handler was not reached. */
const notRun: ReadonlySet<Reason> = new Set([
  "CONCURRENCY_LIMIT",
  "LOAD_SHED",
  "QUEUE_TIMEOUT",
  "BULKHEAD_FULL",
  "RATE_LIMIT_EXCEEDED",
  "DRAINING",
]);

/**
 * A service below has dealt with the failure: it has refused what a handler asked of it, or somebody between it and us
 * has tried again or decided not to. Trying again here would multiply their attempts.
 */
export function dealtWithBelow(metadata: Metadata, rejection: Rejection | undefined): boolean {
  return (
    (rejection !== undefined && rejection.hops > 0) || metadata.get(retriesExhaustedKey).length > 0
  );
}

/** The server that was called has refused the call before its handler, and says so itself. */
export function handlerNotRun(rejection: Rejection | undefined): boolean {
  return (
    rejection !== undefined &&
    !rejection.local &&
    rejection.hops === 0 &&
    notRun.has(rejection.reason)
  );
}

/** What a server says of itself, and not of the call: it may serve the next one as well as ever. */
export function saysNothingOfHealth(rejection: Rejection | undefined): boolean {
  return (
    handlerNotRun(rejection) ||
    (rejection?.local === false && rejection.hops === 0 && rejection.reason === "STREAM_AGED")
  );
}

function metadataOf(failed: unknown): Metadata | undefined {
  if (typeof failed !== "object" || failed === null) return undefined;
  try {
    if (!("metadata" in failed)) return undefined;
    const { metadata } = failed;
    return metadata instanceof Metadata ? metadata : undefined;
  } catch {
    // Somebody else's error, with a property that throws: it is none of ours.
    return undefined;
  }
}

/** True for a status that this process made itself. Never deduced from what came over the wire. */
export function isLocal(failed: { readonly metadata?: Metadata }): boolean {
  return failed.metadata !== undefined && madeHere.has(failed.metadata);
}

function rejection(
  reason: Reason,
  retryAfterMs: number | undefined,
  local: boolean,
  metadata: Readonly<Record<string, string>>,
): Rejection {
  const told = readHops(metadata);
  const { scope } = metadata;
  // A client's own rejection reaches another process only by a handler that passed it on, counted or not.
  const hops = local || scope !== "client" ? told : Math.max(1, told);
  return retryAfterMs === undefined
    ? { reason, local, hops, metadata }
    : { reason, local, retryAfterMs, hops, metadata };
}

/** The details of a status, with what they say of the refusal. */
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

/** A refusal by the toolkit in details that came from the hop below, as the next hop is told of it: a hop further away. */
export function oneHopFurther(details: StatusDetails): StatusDetails["errorInfo"] {
  const { errorInfo } = details;
  // Whatever its reason: a later version, which knows more of them, may be the one that reads it.
  if (errorInfo?.domain !== rejectionDomain) return undefined;
  const { reason, domain, metadata } = errorInfo;
  return { reason, domain, metadata: { ...metadata, [hopsKey]: String(readHops(metadata) + 1) } };
}

/** Trailer that carries a serialised `google.rpc.Status`. */
export const statusDetailsKey = "grpc-status-details-bin";

const typePrefix = "type.googleapis.com/google.rpc.";
/** Details larger than this are not ours, and not worth decoding on the path of every failed call. */
const maxDetailsBytes = 16 * 1024;

/** The details of a status that the toolkit reads and writes. */
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
 * Whole milliseconds as they can be sent: a number that is too large for int64, or none at all, would throw where the
 * status is encoded, and the call that is refused would never be told.
 */
export function wireMs(ms: number, mostMs = longestMs): number {
  return ms > 0 ? Math.min(Math.ceil(ms), mostMs) : 0;
}

/** A handler may end a call with anything for a code. What is no int32 is UNKNOWN, as gRPC reads it. */
function wireCode(code: number): number {
  return (code | 0) === code ? code : statusCode.unknown;
}

/**
 * The details of a status that is passed on to the next hop: its RetryInfo and the `ErrorInfo` of this domain are taken
 * out, `errorInfo` comes in their place, and what others have put there stays as it is.
 *
 * @returns `undefined` when nothing is left; `unreadable` when they are malformed, repeated or too large.
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

/** What has been read already, by the bytes that it was read from: each layer asks about the same status. */
const decoded = new WeakMap<Buffer, StatusDetails>();

/** Reads the details of a status, once. What is malformed, repeated or too large reads as absent. */
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

/** Lets a clone have the same bytes, and not a copy of them, so that they are not read again. */
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
