import { Buffer } from "node:buffer";
import type { Metadata } from "@grpc/grpc-js";
import { statusCode } from "../core/status-code.js";
import type { Any } from "../gen/google/protobuf/any.js";
import { ErrorInfo, QuotaFailure, RetryInfo } from "../gen/google/rpc/error_details.js";
import { Status } from "../gen/google/rpc/status.js";

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

/** Serialises a `google.rpc.Status` with one detail of each kind at most (AIP-193). */
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
  return Buffer.from(Status.encode({ code: wireCode(code), message, details: packed }).finish());
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
  let given: Status = { code: status.code, message: status.details, details: [] };
  if (values.length > 0) {
    if (!isReadable(values)) return "unreadable";
    try {
      given = Status.decode(values[0]);
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
  return given.details.length === 0 ? undefined : Buffer.from(Status.encode(given).finish());
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
    for (const { typeUrl, value } of Status.decode(bytes).details) {
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
