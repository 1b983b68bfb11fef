import { credentials, status } from "@grpc/grpc-js";
import type { StatusOrigin } from "../../../src/core/status.js";
import type { CallPlan } from "./origin-watch.js";
import { answer, type RawPeer, type RawStream, trailersOnly } from "./raw-peer.js";

/**
 * The texts by which the origin of a status is told are no API of grpc-js. Each stands here as the installed
 * version says it, over real sockets: a release that words one differently fails the row.
 */
export interface Row {
  readonly what: string;
  readonly peer?: (raw: RawStream, peer: RawPeer) => void;
  readonly plan?: CallPlan;
  readonly code: status;
  /** The exact text, or what it looks like where it holds numbers. */
  readonly details: string | RegExp;
  readonly origin: StatusOrigin;
  readonly headers?: boolean;
  /** Streams that reached the peer. @defaultValue 1 */
  readonly streams?: number;
}

const noRetries = { "grpc.enable_retries": 0 };
/** Answers as a server does whose handler succeeds. */
export const ok = (raw: RawStream) =>
  answer(raw, [Buffer.from("response")], { "grpc-status": "0" });
const throwing = () => {
  throw new Error("boom");
};
const silent = () => {};

/** Call credentials that fail, with this code if there is one. */
const failing = (code?: number) =>
  credentials.createFromMetadataGenerator((_options, callback) => {
    const error = new Error("no token");
    callback(code === undefined ? error : Object.assign(error, { code }));
  });
const pluginText = "Getting metadata from plugin failed with error: no token";

const neverLeft: readonly Row[] = [
  {
    what: "a request over the limit of this process",
    plan: { options: { "grpc.max_send_message_length": 5 } },
    code: status.RESOURCE_EXHAUSTED,
    details: "Attempted to send message with a size larger than 5",
    origin: "local-limit",
  },
  {
    what: "a request that cannot be serialised",
    plan: { serialize: throwing },
    code: status.INTERNAL,
    details: "Request message serialization failure: boom",
    origin: "local-limit",
  },
  {
    what: "a deadline that had passed before the call",
    plan: { deadlineMs: -10 },
    code: status.DEADLINE_EXCEEDED,
    details: /^Deadline exceeded after \d\.\d\d\ds,waiting for name resolution$/,
    origin: "deadline",
  },
  {
    what: "a caller who cancels before the call has left",
    plan: { cancelMs: 0 },
    code: status.CANCELLED,
    details: "Cancelled on client",
    origin: "caller",
  },
  {
    what: "call credentials that fail",
    plan: { credentials: failing() },
    code: status.UNKNOWN,
    details: pluginText,
    origin: "local-setup",
  },
  {
    what: "call credentials that fail with a code of gRPC",
    plan: { credentials: failing(status.UNAUTHENTICATED) },
    code: status.UNAUTHENTICATED,
    details: pluginText,
    origin: "local-setup",
  },
  {
    what: "call credentials that fail for the time being",
    plan: { credentials: failing(status.UNAVAILABLE) },
    code: status.UNAVAILABLE,
    details: pluginText,
    origin: "local-setup",
  },
  {
    what: "call credentials that fail with a code that only servers may use",
    plan: { credentials: failing(status.INVALID_ARGUMENT) },
    code: status.INTERNAL,
    details: `Invalid status from control plane: 3 INVALID_ARGUMENT ${pluginText}`,
    origin: "local-setup",
  },
  {
    what: "a channel that is closed before the call has left",
    plan: { close: true },
    code: status.UNAVAILABLE,
    details: "Channel closed before call started",
    origin: "local-setup",
  },
];

const resets: readonly (readonly [number, status, string, StatusOrigin])[] = [
  [
    0,
    status.INTERNAL,
    "Received RST_STREAM with code 0 (Call ended without gRPC status)",
    "transport",
  ],
  [1, status.INTERNAL, "Received RST_STREAM with code 1", "transport"],
  [2, status.INTERNAL, "Received RST_STREAM with code 2 (Internal server error)", "transport"],
  [3, status.INTERNAL, "Received RST_STREAM with code 3", "transport"],
  [7, status.UNAVAILABLE, "Stream refused by server", "refused"],
  [8, status.CANCELLED, "Call cancelled", "transport"],
  [11, status.RESOURCE_EXHAUSTED, "Bandwidth exhausted or memory limit exceeded", "transport"],
  [12, status.PERMISSION_DENIED, "Protocol not secure enough", "transport"],
];

const httpCodes: readonly (readonly [number, status])[] = [
  [400, status.INTERNAL],
  [401, status.UNAUTHENTICATED],
  [403, status.PERMISSION_DENIED],
  [404, status.UNIMPLEMENTED],
  [429, status.UNAVAILABLE],
  [500, status.UNKNOWN],
  [502, status.UNAVAILABLE],
  [503, status.UNAVAILABLE],
  [504, status.UNAVAILABLE],
];

const html = { "content-type": "text/html" };

export const rows: readonly Row[] = [
  ...neverLeft.map((row) => ({ ...row, streams: 0 })),
  ...resets.map(
    ([code, received, details, origin]): Row => ({
      what: `a stream that is reset with code ${code}`,
      peer: ({ stream }) => stream.close(code),
      plan: { options: noRetries },
      code: received,
      details,
      origin,
    }),
  ),
  {
    what: "a stream that is refused, and once more when grpc-js tries again by itself",
    peer: ({ stream }) => stream.close(7),
    code: status.UNAVAILABLE,
    details: "Stream refused by server",
    origin: "refused",
    streams: 2,
  },
  ...httpCodes.flatMap(([http, code]): Row[] => [
    {
      what: `a proxy that answers HTTP ${http}`,
      peer: ({ stream }) => {
        stream.respond({ ":status": http, ...html });
        stream.end("no");
      },
      code,
      details: `Received HTTP status code ${http}`,
      origin: "transport",
      headers: true,
    },
    {
      what: `a proxy that answers HTTP ${http} without a body`,
      peer: ({ stream }) => stream.respond({ ":status": http, ...html }, { endStream: true }),
      code,
      details: `Received HTTP status code ${http}`,
      origin: "transport",
    },
  ]),
  {
    what: "something that answers with a page",
    peer: ({ stream }) => {
      stream.respond({ ":status": 200, ...html });
      stream.end("no");
    },
    code: status.INTERNAL,
    details: "Received RST_STREAM with code 0 (Call ended without gRPC status)",
    origin: "transport",
    headers: true,
  },
  {
    what: "something that answers with a page, whose first letters are taken for a length",
    peer: ({ stream }) => {
      stream.respond({ ":status": 200, ...html });
      stream.end("<html></html>");
    },
    code: status.RESOURCE_EXHAUSTED,
    details: `Received message larger than max (${Buffer.from("html").readUInt32BE()} vs 4194304)`,
    origin: "local-limit",
    headers: true,
  },
  {
    what: "an answer that ends without trailers",
    peer: (raw) => answer(raw, [Buffer.from("response")]),
    code: status.INTERNAL,
    details: "Received RST_STREAM with code 0 (Call ended without gRPC status)",
    origin: "transport",
    headers: true,
  },
  {
    what: "a connection that breaks before the answer",
    peer: (_raw, peer) => peer.cut(),
    code: status.UNAVAILABLE,
    details: "Connection dropped",
    origin: "transport",
  },
  {
    what: "a connection that is reset before the answer",
    peer: (_raw, peer) => peer.reset(),
    code: status.UNAVAILABLE,
    details: "read ECONNRESET",
    origin: "transport",
  },
  {
    what: "a connection that breaks after the headers",
    peer: ({ stream }, peer) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      setTimeout(() => peer.cut(), 50);
    },
    code: status.UNAVAILABLE,
    details: "Connection dropped",
    origin: "transport",
    headers: true,
  },
  {
    what: "a GOAWAY and a connection that breaks behind it",
    peer: ({ stream }, peer) => {
      stream.session?.goaway(0, stream.id ?? 1);
      setTimeout(() => peer.cut(), 50);
    },
    code: status.UNAVAILABLE,
    details: "Connection dropped",
    origin: "transport",
  },
  {
    what: "a caller who cancels after the call has left",
    peer: silent,
    plan: { cancelMs: 200 },
    code: status.CANCELLED,
    details: "Cancelled on client",
    origin: "caller",
  },
  {
    what: "the call's own deadline after the call has left",
    peer: silent,
    plan: { deadlineMs: 400 },
    code: status.DEADLINE_EXCEEDED,
    details: /^Deadline exceeded after 0\.[3-9]\d\ds,.*remote_addr=127\.0\.0\.1:\d+$/,
    origin: "deadline",
  },
  {
    what: "an answer over the limit of this process",
    peer: (raw) => answer(raw, [Buffer.alloc(100)], { "grpc-status": "0" }),
    plan: { options: { "grpc.max_receive_message_length": 10 } },
    code: status.RESOURCE_EXHAUSTED,
    details: "Received message larger than max (100 vs 10)",
    origin: "local-limit",
    headers: true,
  },
  {
    what: "an answer that cannot be parsed",
    peer: ok,
    plan: { deserialize: throwing },
    code: status.INTERNAL,
    details: "Response message parsing error: boom",
    origin: "local-limit",
    headers: true,
  },
  {
    what: "a status of the server in trailers alone",
    peer: (raw) => trailersOnly(raw, { "grpc-status": "14", "grpc-message": "not now" }),
    code: status.UNAVAILABLE,
    details: "not now",
    origin: "remote",
  },
  {
    what: "a status of the server after headers",
    peer: (raw) => answer(raw, [], { "grpc-status": "14", "grpc-message": "not now" }),
    code: status.UNAVAILABLE,
    details: "not now",
    origin: "remote",
    headers: true,
  },
  ...[
    "Connection dropped",
    "Stream refused by server",
    "Cancelled on client",
    "Received message larger than max (100 vs 10)",
    "Deadline exceeded after 0.100s,remote_addr=127.0.0.1:1",
  ].map(
    (text): Row => ({
      what: `a server that passes on what its own grpc-js said: ${text}`,
      peer: (raw) => trailersOnly(raw, { "grpc-status": "14", "grpc-message": text }),
      code: status.UNAVAILABLE,
      details: text,
      origin: "remote",
    }),
  ),
];
