import { type Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { Reason } from "../../core/decision.js";
import type { ResetBudgets } from "../../core/reset-budget.js";
import type { StatusOrigin } from "../../core/status.js";
import { type ReportError, safely } from "../../core/user-code.js";
import { previousAttemptsKey } from "../metadata.js";
import { type Rejection, rejectionOf } from "./rejection.js";

/** What an interceptor saw of an attempt, besides its status. */
export interface AttemptEvidence {
  /** Response headers arrived. */
  readonly sawHeaders: boolean;
  /** `call.getPeer()` when the status came. */
  readonly peer: string;
  /** The channel's target; empty where it is not known. */
  readonly target: string;
  /** The caller has called it off, with these words. */
  readonly ownCancel?: boolean;
  /** Told of a text that was made in this process and is not known. */
  readonly unknown?: UnknownTexts;
  /** Told whether the attempt ended by a reset of its stream. */
  readonly resets?: ResetBudgets | undefined;
}

// The texts of grpc-js and of Node. They are no API, and differ between versions: a test pins each on every version
// that is supported. A text that is not known leaves the origin `transport`, which is the careful reading.
const sizeLimit =
  /^(Attempted to send message with a size larger than|Received message larger than max|Sent message larger than max|Received message that decompresses to a size larger than)/;
/** The last two are the toolkit's own, of an interceptor below that threw or gave no status. */
const local =
  /^(Request message serialization failure|Response message parsing error|Call could not be started|An interceptor ended the call without a status)/;
/** grpc-js replaces the codes that it takes for the server's own, and says so before the text. */
const setup =
  /^(?:Invalid status from control plane: \d+ \w+ )?(?:Getting metadata from plugin failed with error: |"authorization" metadata cannot have multiple values$|Channel closed before call started$|Channel has been shut down$)/;
const deadlineText = /^Deadline exceeded/;
const cancelText = /^Cancelled (on client|by parent call)/;
/** What the toolkit cancels an attempt with when another one has decided the call. */
export const supersededText = "Another attempt has decided the call";
/** A stream could not be created on a connection that was there. grpc-js tries again by itself, unless told not to. */
const notStartedText = /^Failed to start HTTP\/2 stream with error /;
/** What is no server's doing, and names no HTTP/2 code. Node words the cause of a write error, and of a reset. */
const transportText =
  /^(Received RST_STREAM with code |Write error: |Write failed with error |Connection dropped|Stream removed)|\b(read|write) E[A-Z]+\b/;
const httpStatusText = /^Received HTTP status code \d/;
/** A target has a scheme; the peer of a stream that was created is an address. */
const targetScheme = /^(dns|ipv4|ipv6|unix|unix-abstract|xds|passthrough|weir-memory):/;

/** By their numbers (RFC 9113, section 7). */
const http2Names = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
] as const;
type Http2Name = (typeof http2Names)[number];

/** grpc-js has words of its own for some codes. */
const http2Words: Readonly<Partial<Record<string, Http2Name>>> = {
  "Stream refused by server": "REFUSED_STREAM",
  "Call cancelled": "CANCEL",
  "Bandwidth exhausted or memory limit exceeded": "ENHANCE_YOUR_CALM",
  "Protocol not secure enough": "INADEQUATE_SECURITY",
};
const http2Named = new RegExp(
  String.raw`\bNGHTTP2_(${http2Names.join("|")})\b|\b(${http2Names.filter((name) => name.includes("_")).join("|")})\b`,
);
/** A number is a code only behind a word of HTTP/2: an HTTP status and an exit code have numbers, too. */
const http2Numbered = /\b(?:RST_STREAM|GOAWAY|stream|session|connection)\b.*?\bcode:? (\d+)\b/i;
/** The connection ended, not only the stream. */
const connectionEnd =
  /\b(session closed|GOAWAY|connection (?:dropped|closed|reset))\b|\b(read|write) E(?:CONNRESET|PIPE|TIMEDOUT|CONNABORTED)\b/i;

/** The text of a status says that the connection ended, and with it all that was on it. */
export function endsConnection(details: string): boolean {
  return connectionEnd.test(details);
}

/** The HTTP/2 code in a text, whatever stands around it. */
function http2CodeIn(details: string): Http2Name | undefined {
  const word = http2Words[details];
  if (word !== undefined) return word;
  const named = http2Named.exec(details);
  if (named !== null) return http2Names.find((name) => name === (named[1] ?? named[2]));
  const numbered = http2Numbered.exec(details);
  return numbered === null ? undefined : http2Names[Number(numbered[1])];
}

/** Reasons of statuses made here that are no refusal. */
const originOfReason: Readonly<Partial<Record<Reason, StatusOrigin>>> = {
  DEADLINE_EXCEEDED: "deadline",
  PARENT_CANCELLED: "caller",
  CONNECTION_TIMEOUT: "never-sent",
  ATTEMPT_TIMEOUT: "attempt-timeout",
  FIRST_RESPONSE_TIMEOUT: "attempt-timeout",
  IDLE_TIMEOUT: "attempt-timeout",
};

/**
 * Whether a status is the echo of a cancellation with this text, whatever code the caller chose for it. A deadline that
 * passed says something about the server.
 */
export function echoes({ code, details }: StatusObject, cancelled: string | undefined): boolean {
  return cancelled === details && code !== Status.DEADLINE_EXCEEDED;
}

/**
 * Tells where a status that is not OK came from. An OK status is the server's.
 *
 * @param ours What the toolkit says about it, where that has been read already.
 */
export function originOf(
  received: StatusObject,
  seen: AttemptEvidence,
  ours: Rejection | undefined = rejectionOf(received),
): StatusOrigin {
  const { code, details } = received;
  if (code === Status.OK) return "remote";
  if (ours?.local === true) {
    return originOfReason[ours.reason] ?? "local-policy";
  }
  if (seen.ownCancel === true) return "caller";
  if (madeHere(received, seen)) {
    if (sizeLimit.test(details) || local.test(details)) return "local-limit";
    if (!seen.sawHeaders && setup.test(details)) return "local-setup";
    if (code === Status.DEADLINE_EXCEEDED && deadlineText.test(details)) return "deadline";
    if (code === Status.CANCELLED && (cancelText.test(details) || details === supersededText)) {
      return "caller";
    }
    if (notStartedText.test(details)) return "never-sent";
    const http2Code = http2CodeIn(details);
    if (http2Code === "REFUSED_STREAM" && !connectionEnd.test(details)) {
      // A server that has begun to answer has not refused the stream before it looked at it.
      return seen.sawHeaders ? "transport" : "refused";
    }
    if (http2Code !== undefined || transportText.test(details)) return "transport";
    if (httpStatusText.test(details)) return "transport";
    if (neverLeft(seen)) return "never-sent";
    if (!seen.sawHeaders) {
      seen.unknown?.note(details);
      return "transport";
    }
  }
  return httpStatusText.test(details) && !speaksGrpc(received.metadata) ? "transport" : "remote";
}

/**
 * Whether the status may have been made in this process. A trailers-only answer keeps the HTTP headers that came with
 * it, and trailers behind headers may bring metadata; nothing made here has either. A proxy that answers for a server it
 * could not reach, or gave up on, sends headers too, but not those of gRPC.
 */
function madeHere({ metadata }: StatusObject, { sawHeaders }: AttemptEvidence): boolean {
  if (speaksGrpc(metadata)) return false;
  if (!sawHeaders) return true;
  // grpc-js counts its own attempts in the metadata of whatever they end with.
  return Object.keys(metadata.getMap()).every((key) => key === previousAttemptsKey);
}

function speaksGrpc(metadata: Metadata): boolean {
  const [type] = metadata.get("content-type");
  return typeof type === "string" && type.startsWith("application/grpc");
}

/**
 * The address whose stream this process has reset, if the attempt ended like that: it was called off, or ran out of time,
 * or was not read to its end, and a stream had been created for it. Until then its peer is the target.
 */
export function resetPeer(
  origin: StatusOrigin,
  { peer, target, sawHeaders }: AttemptEvidence,
): string | undefined {
  const cut =
    origin === "caller" || origin === "deadline" || (origin === "local-limit" && sawHeaders);
  return cut && isAddress(peer, target) ? peer : undefined;
}

/** Whether this is the peer of a stream that was created, and neither a target nor grpc-js's word for not knowing. */
export function isAddress(peer: string, target: string): boolean {
  return peer !== target && peer !== "unknown" && peer !== "" && !targetScheme.test(peer);
}

const codeOfHttp2: Readonly<Partial<Record<Http2Name, Status>>> = {
  REFUSED_STREAM: Status.UNAVAILABLE,
  CANCEL: Status.CANCELLED,
  ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
  INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
};

/**
 * The code by which a status counts. What grpc-js calls a broken stream depends on its version, on Node's and on whether
 * the call was writing: the HTTP/2 code in the text says more. A connection that ended is UNAVAILABLE, as it is in gRPC,
 * also where grpc-js says INTERNAL because of the code that it was closed with.
 */
export function codeOf({ code, details }: StatusObject, origin: StatusOrigin): Status {
  if (origin !== "transport") return code;
  if (connectionEnd.test(details)) return Status.UNAVAILABLE;
  const http2Code = http2CodeIn(details);
  return http2Code === undefined ? code : (codeOfHttp2[http2Code] ?? Status.INTERNAL);
}

/** It names a target, and no server of it. */
export function hasScheme(peer: string): boolean {
  return targetScheme.test(peer);
}

/** No server was chosen for it: it waited for a connection, or found none. */
export function neverLeft({ sawHeaders, peer, target }: AttemptEvidence): boolean {
  return !sawHeaders && (peer === target ? target !== "" : targetScheme.test(peer));
}

/** How many different texts are told before a stream of them is taken for noise. */
const maxUnknownTexts = 20;

/** Tells of each text that is not known once, so that a new version of Node or grpc-js is noticed. */
export class UnknownTexts {
  readonly #told = new Set<string>();
  readonly #report: ReportError;

  constructor(report: ReportError) {
    this.#report = report;
  }

  note(details: string): void {
    if (this.#told.size >= maxUnknownTexts) return;
    // Ports and times make no other text.
    const text = String(details).replaceAll(/\d+/g, "0");
    if (this.#told.has(text)) return;
    this.#told.add(text);
    const told = new Error(
      `"${details}" is no status text that is known of Node or grpc-js: it counts as a broken connection`,
    );
    safely(this.#report, told, "status origin");
  }
}
