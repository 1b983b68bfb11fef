import { status as Status, type StatusObject } from "@grpc/grpc-js";
import type { StatusOrigin } from "../core/origin.js";
import type { Reason } from "../core/reasons.js";
import { rejectionOf } from "./rejection.js";

/** What an interceptor saw of an attempt, besides its status. */
export interface AttemptEvidence {
  /** Response headers arrived. */
  readonly sawHeaders: boolean;
  /** `call.getPeer()` when the status came. */
  readonly peer: string;
  /** The channel's target; empty where it is not known. */
  readonly target: string;
  /** The caller has called it off, with these words. */
  readonly calledOff?: boolean;
}

// The texts of grpc-js. They are no API: a test pins each to the installed version. A text that is not
// known leaves the origin `transport`, which is the careful reading.
const sizeLimit =
  /^(Attempted to send message with a size larger than|Received message larger than max|Sent message larger than max|Received message that decompresses to a size larger than)/;
/** The last is the toolkit's own, of an interceptor below that threw. */
const local =
  /^(Request message serialization failure|Response message parsing error|Call could not be started)/;
const deadlineText = /^Deadline exceeded/;
const cancelText = /^Cancelled (on client|by parent call)/;
/** What the toolkit cancels an attempt with when another one has decided the call. */
export const supersededText = "Another attempt has decided the call";
const refusedText = "Stream refused by server";
const transportText =
  /^(Received RST_STREAM with code |Connection dropped|Received HTTP status code |Bandwidth exhausted or memory limit exceeded|Call cancelled$|Stream removed)/;
/** A target has a scheme; the peer of a stream that was created is an address. */
const targetScheme = /^(dns|ipv4|ipv6|unix|unix-abstract|xds|passthrough|weir-memory):/;

/** Reasons of statuses made here that are no refusal. */
const originOfReason: Readonly<Partial<Record<Reason, StatusOrigin>>> = {
  DEADLINE_EXCEEDED: "deadline",
  PARENT_CANCELLED: "caller",
  CONNECTION_TIMEOUT: "never-sent",
  ATTEMPT_TIMEOUT: "attempt-timeout",
  FIRST_RESPONSE_TIMEOUT: "attempt-timeout",
  IDLE_TIMEOUT: "attempt-timeout",
};

/** Tells where a status that is not OK came from. An OK status is the server's. */
export function originOf(received: StatusObject, seen: AttemptEvidence): StatusOrigin {
  const { code, details } = received;
  if (code === Status.OK) return "remote";
  const ours = rejectionOf(received);
  if (ours?.local === true) {
    return originOfReason[ours.reason] ?? "local-policy";
  }
  if (seen.calledOff === true) return "caller";
  // A trailers-only answer keeps the HTTP headers that came with it; nothing made here has them. A proxy that
  // answers for a server it could not reach, or gave up on, sends headers too, but not those of gRPC.
  const [type] = received.metadata.get("content-type");
  const spoken = typeof type === "string" && type.startsWith("application/grpc");
  if (!spoken) {
    if (sizeLimit.test(details) || local.test(details)) return "local-limit";
    if (code === Status.DEADLINE_EXCEEDED && deadlineText.test(details)) return "deadline";
    if (code === Status.CANCELLED && (cancelText.test(details) || details === supersededText)) {
      return "caller";
    }
    if (details === refusedText) return "refused";
    if (transportText.test(details)) return "transport";
    if (neverLeft(seen)) return "never-sent";
  }
  return spoken || seen.sawHeaders ? "remote" : "transport";
}

function neverLeft({ sawHeaders, peer, target }: AttemptEvidence): boolean {
  return !sawHeaders && (peer === target ? target !== "" : targetScheme.test(peer));
}
