import { type Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { Reason } from "../../core/decision.js";
import type { ResetBudgets } from "../../core/reset-budget.js";
import type { StatusOrigin } from "../../core/status.js";
import { type ReportError, reportSafely } from "../../core/user-code.js";
import { previousAttemptsKey } from "../metadata.js";
import { type Rejection, rejectionOf } from "./rejection.js";

/** What an interceptor knows of an attempt when its status comes, besides the status. */
export interface AttemptEvidence {
  /** Response headers arrived. */
  readonly sawHeaders: boolean;
  /** `call.getPeer()` when the status came. */
  readonly peer: string;
  /** The channel's target; the empty string where it is not known. */
  readonly target: string;
  /** The caller has cancelled the attempt, and the status repeats the text of that cancellation. */
  readonly ownCancel?: boolean;
  /** Notified of a text that was made in this process and that no version of Node or grpc-js is known to make. */
  readonly unknown?: UnknownTexts;
  /** Notified whether the attempt ended by a reset of its stream. */
  readonly resets?: ResetBudgets | undefined;
  /** A call of the toolkit below notifies them. */
  readonly countedBelow?: boolean;
}

// The texts of grpc-js and of Node. They are no API and differ between versions, so a test pins each of them on every
// supported version. A text that is not known gives the origin `transport`, so that the call is retried only if its
// method is idempotent.
const sizeLimit =
  /^(Attempted to send message with a size larger than|Received message larger than max|Sent message larger than max|Received message that decompresses to a size larger than)/;
/** The last two are texts of the toolkit: an interceptor below threw, or ended the call without a status. */
const local =
  /^(Request message serialization failure|Response message parsing error|Call could not be started|An interceptor ended the call without a status)/;
/** grpc-js puts a prefix before the text where it replaces a code that only servers may use. */
const setup =
  /^(?:Invalid status from control plane: \d+ \w+ )?(?:Getting metadata from plugin failed with error: |"authorization" metadata cannot have multiple values$|Channel closed before call started$|Channel has been shut down$)/;
const deadlineText = /^Deadline exceeded/;
const cancelText = /^Cancelled (on client|by parent call)/;
/** The text with which the toolkit cancels an attempt when another one has decided the call. */
export const supersededText = "Another attempt has decided the call";
/** No stream could be created on an existing connection. grpc-js retries by itself, unless that is switched off. */
const notStartedText = /^Failed to start HTTP\/2 stream with error /;
/** Broken streams and connections, without an HTTP/2 code in the text. The text of a write error or reset is Node's. */
const transportText =
  /^(Received RST_STREAM with code |Write error: |Write failed with error |Connection dropped|Stream removed)|\b(read|write) E[A-Z]+\b/;
const httpStatusText = /^Received HTTP status code \d/;
/** The text of `@grpc/grpc-js-xds` for a call that the control plane wants dropped, by a limit or by a share. */
const droppedText = /^Call dropped by load balancing policy\b/;
/** A target has a scheme. Once a stream has been created, the peer is an address instead. */
const targetScheme = /^(dns|ipv4|ipv6|unix|unix-abstract|xds|passthrough|weir-memory):/;

/** HTTP/2 error codes, in the order of their numbers (RFC 9113, section 7). */
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

/** Texts that grpc-js uses instead of the name of a code. */
const http2Words: Readonly<Partial<Record<string, Http2Name>>> = {
  "Stream refused by server": "REFUSED_STREAM",
  "Call cancelled": "CANCEL",
  "Bandwidth exhausted or memory limit exceeded": "ENHANCE_YOUR_CALM",
  "Protocol not secure enough": "INADEQUATE_SECURITY",
};
const http2Named = new RegExp(
  String.raw`\bNGHTTP2_(${http2Names.join("|")})\b|\b(${http2Names.filter((name) => name.includes("_")).join("|")})\b`,
);
/** A number is a code only behind a word of HTTP/2, because HTTP statuses and exit codes are numbers as well. */
const http2Numbered = /\b(?:RST_STREAM|GOAWAY|stream|session|connection)\b.*?\bcode:? (\d+)\b/i;
/** Texts of connections that ended, and not only a stream. */
const connectionEnd =
  /\b(session closed|GOAWAY|connection (?:dropped|closed|reset))\b|\b(read|write) E(?:CONNRESET|PIPE|TIMEDOUT|CONNABORTED)\b/i;

/** Whether the text of a status says that the whole connection ended, with all calls on it. */
export function endsConnection(details: string): boolean {
  return connectionEnd.test(details);
}

/** The HTTP/2 error code in a text. */
function http2CodeIn(details: string): Http2Name | undefined {
  const word = http2Words[details];
  if (word !== undefined) return word;
  const named = http2Named.exec(details);
  if (named !== null) return http2Names.find((name) => name === (named[1] ?? named[2]));
  const numbered = http2Numbered.exec(details);
  return numbered === null ? undefined : http2Names[Number(numbered[1])];
}

/** Statuses that this process made for another reason than a refusal by a policy. */
const originOfReason: Readonly<Partial<Record<Reason, StatusOrigin>>> = {
  DEADLINE_EXCEEDED: "deadline",
  PARENT_CANCELLED: "caller",
  CONNECTION_TIMEOUT: "never-sent",
  ATTEMPT_TIMEOUT: "attempt-timeout",
  FIRST_RESPONSE_TIMEOUT: "attempt-timeout",
  IDLE_TIMEOUT: "attempt-timeout",
};

/** Where a status came from that this process made for this reason. */
export function originOfLocal(reason: Reason): StatusOrigin {
  return originOfReason[reason] ?? "local-policy";
}

/**
 * Whether a status only repeats a cancellation with this text. The code may be any but DEADLINE_EXCEEDED: that a
 * deadline passed is evidence about the server.
 */
export function echoes({ code, details }: StatusObject, cancelled: string | undefined): boolean {
  return cancelled === details && code !== Status.DEADLINE_EXCEEDED;
}

/**
 * Where a status came from. An OK status is always `remote`.
 *
 * @param ours The rejection in the status, where the caller has read it already.
 */
export function originOf(
  received: StatusObject,
  seen: AttemptEvidence,
  ours: Rejection | undefined = rejectionOf(received),
): StatusOrigin {
  const { code, details } = received;
  if (code === Status.OK) return "remote";
  if (ours?.local === true) {
    return originOfLocal(ours.reason);
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
      // Behind headers it is no refusal: the server had begun to process the call.
      return seen.sawHeaders ? "transport" : "refused";
    }
    if (http2Code !== undefined || transportText.test(details)) return "transport";
    if (httpStatusText.test(details)) return "transport";
    if (neverLeft(seen)) return droppedText.test(details) ? "local-policy" : "never-sent";
    if (!seen.sawHeaders) {
      seen.unknown?.note(details);
      return "transport";
    }
  }
  return httpStatusText.test(details) && !speaksGrpc(received.metadata) ? "transport" : "remote";
}

/**
 * Whether the status may have been made in this process:
 *
 * - The metadata of a trailers-only answer include its HTTP headers, such as `content-type: application/grpc`. A status
 *   made here has none, and the answer of a proxy that is no gRPC has another content type.
 * - Trailers behind headers may have metadata. A status made here has none.
 */
function madeHere({ metadata }: StatusObject, { sawHeaders }: AttemptEvidence): boolean {
  if (speaksGrpc(metadata)) return false;
  if (!sawHeaders) return true;
  // grpc-js adds the number of its own earlier attempts to every status.
  return Object.keys(metadata.getMap()).every((key) => key === previousAttemptsKey);
}

/** Whether the metadata have the HTTP headers of a trailers-only answer. Nobody sets those by hand. */
export function speaksGrpc(metadata: Metadata): boolean {
  const [type] = metadata.get("content-type");
  return typeof type === "string" && type.startsWith("application/grpc");
}

/**
 * The address of the server whose stream this process has reset; `undefined` where there was no reset. An attempt ends
 * by a reset when it was cancelled, ran out of time, or had a message over the size limit, and a stream had been
 * created for it.
 */
export function resetPeer(
  origin: StatusOrigin,
  { peer, target, sawHeaders, countedBelow }: AttemptEvidence,
): string | undefined {
  if (countedBelow === true) return undefined;
  const cut =
    origin === "caller" || origin === "deadline" || (origin === "local-limit" && sawHeaders);
  return cut && isAddress(peer, target) ? peer : undefined;
}

/** Whether the peer is the address of a server. Before a stream is created, it is the target or `unknown`. */
export function isAddress(peer: string, target: string): boolean {
  return peer !== target && peer !== "unknown" && peer !== "" && !targetScheme.test(peer);
}

/**
 * The mapping of https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "Errors"; INTERNAL for other codes.
 */
const codeOfHttp2: Readonly<Partial<Record<Http2Name, Status>>> = {
  REFUSED_STREAM: Status.UNAVAILABLE,
  CANCEL: Status.CANCELLED,
  ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
  INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
};

/**
 * The code by which policies count a status. For a broken stream, the code that grpc-js chooses depends on its version,
 * on that of Node, and on whether the call was writing. The HTTP/2 code in the text does not, so that one is used. A
 * connection that ended is UNAVAILABLE, as in other gRPC implementations, where grpc-js may say INTERNAL.
 */
export function codeOf({ code, details }: StatusObject, origin: StatusOrigin): Status {
  if (origin !== "transport") return code;
  if (connectionEnd.test(details)) return Status.UNAVAILABLE;
  const http2Code = http2CodeIn(details);
  return http2Code === undefined ? code : (codeOfHttp2[http2Code] ?? Status.INTERNAL);
}

/** Whether no server was chosen for the attempt: it waited for a connection, or found none. */
export function neverLeft({ sawHeaders, peer, target }: AttemptEvidence): boolean {
  return !sawHeaders && (peer === target ? target !== "" : targetScheme.test(peer));
}

/** How many different texts are reported. */
const maxUnknownTexts = 20;

/** Reports each unknown status text once, so that the change in a new version of Node or grpc-js is noticed. */
export class UnknownTexts {
  readonly #reported = new Set<string>();
  readonly #report: ReportError;

  constructor(report: ReportError) {
    this.#report = report;
  }

  note(details: string): void {
    if (this.#reported.size >= maxUnknownTexts) return;
    // Texts that differ in ports or times only count as one.
    const text = String(details).replaceAll(/\d+/g, "0");
    if (this.#reported.has(text)) return;
    this.#reported.add(text);
    const error = new Error(
      `"${details}" is no status text that is known of Node or grpc-js: it counts as a broken connection`,
    );
    reportSafely(this.#report, error, "status origin");
  }
}
