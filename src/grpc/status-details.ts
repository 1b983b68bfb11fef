import { Buffer } from "node:buffer";
import type { Metadata } from "@grpc/grpc-js";
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
    const ms = Math.max(0, Math.ceil(details.retryDelayMs));
    const retryDelay = { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
    pack("RetryInfo", RetryInfo.encode({ retryDelay }).finish());
  }
  if (details.quotaViolations !== undefined) {
    const violations = details.quotaViolations.map((violation) => ({ ...violation }));
    pack("QuotaFailure", QuotaFailure.encode({ violations }).finish());
  }
  return Buffer.from(Status.encode({ code, message, details: packed }).finish());
}

/** Reads the details of a status. What is malformed, repeated or too large reads as absent. */
export function decodeStatusDetails(metadata: Metadata): StatusDetails {
  const values = metadata.get(statusDetailsKey);
  const [bytes] = values;
  if (values.length !== 1 || !(bytes instanceof Buffer) || bytes.length > maxDetailsBytes)
    return {};
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
