import { constants } from "node:http2";
import { status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { StatusOrigin } from "../../../src/core/status.js";
import { codeOf } from "../../../src/grpc/status/origin.js";
import type { CallKind } from "../../../src/grpc/types.js";
import { type Activity, endOfKind } from "./origin-watch.js";
import { RawPeer, type RawStream } from "./raw-peer.js";

const nodeMajor = Number(process.versions.node.split(".")[0]);

/** What ends a stream, and what grpc-js says then. */
interface Row {
  readonly what: string;
  readonly end: (raw: RawStream, peer: RawPeer) => void;
  /** Code and text. There are several where it is a matter of microseconds. */
  readonly says: readonly Said[];
  /** From Node 24 on, for a call that writes when it happens. */
  readonly saysWriting?: readonly Said[];
  /** Up to Node 22 a call that writes does not notice it, and ends with its deadline. */
  readonly unnoticed?: boolean;
  readonly origin: StatusOrigin;
  /** Once the server has begun to answer. */
  readonly originBehindHeaders?: StatusOrigin;
  /** The code that it counts as. */
  readonly counts: status;
}

type Said = readonly [code: status, details: string];

const { UNAVAILABLE, INTERNAL, CANCELLED, RESOURCE_EXHAUSTED, PERMISSION_DENIED } = status;

const resetNames = [
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
];

const ownWords: Readonly<Record<string, Said>> = {
  NO_ERROR: [INTERNAL, "Received RST_STREAM with code 0 (Call ended without gRPC status)"],
  INTERNAL_ERROR: [INTERNAL, "Received RST_STREAM with code 2 (Internal server error)"],
  REFUSED_STREAM: [UNAVAILABLE, "Stream refused by server"],
  CANCEL: [CANCELLED, "Call cancelled"],
  ENHANCE_YOUR_CALM: [RESOURCE_EXHAUSTED, "Bandwidth exhausted or memory limit exceeded"],
  INADEQUATE_SECURITY: [PERMISSION_DENIED, "Protocol not secure enough"],
};

const resets = resetNames.map((name, code): Row => {
  const said: Said = ownWords[name] ?? [INTERNAL, `Received RST_STREAM with code ${code}`];
  const error: Said = [UNAVAILABLE, `Write error: Stream closed with error code NGHTTP2_${name}`];
  return {
    what: `a stream that is reset with ${name}`,
    end: ({ stream }) => stream.close(code),
    says: [said],
    // Node makes no error of these two.
    ...(name === "NO_ERROR" || name === "CANCEL" ? {} : { saysWriting: [error] }),
    unnoticed: name === "NO_ERROR",
    origin: name === "REFUSED_STREAM" ? "refused" : "transport",
    originBehindHeaders: "transport",
    counts: said[0],
  };
});

const dropped: Said = [UNAVAILABLE, "Connection dropped"];
const wasReset: Said = [UNAVAILABLE, "read ECONNRESET"];
const writeEnded: readonly Said[] = [
  [UNAVAILABLE, "Write error: read ECONNRESET"],
  [UNAVAILABLE, "Write error: write ECONNRESET"],
  [UNAVAILABLE, "Write error: write EPIPE"],
];
const sessionEnded = (code: number): Said => [
  INTERNAL,
  `Received RST_STREAM with code 2 triggered by internal client error: Session closed with error code ${code}`,
];

const connections: readonly Row[] = [
  {
    what: "a connection that breaks",
    end: (_raw, peer) => peer.cut(),
    // A break with unread data in the socket is a reset for TCP.
    says: [dropped, wasReset],
    saysWriting: writeEnded,
    origin: "transport",
    counts: UNAVAILABLE,
  },
  {
    what: "a connection that is hung up",
    end: (_raw, peer) => peer.hangUp(),
    says: [dropped],
    origin: "transport",
    counts: UNAVAILABLE,
  },
  {
    what: "a connection that is reset",
    end: (_raw, peer) => peer.reset(),
    says: [wasReset, dropped],
    saysWriting: writeEnded,
    origin: "transport",
    counts: UNAVAILABLE,
  },
  {
    what: "a connection that the server ends with INTERNAL_ERROR, as Node does after too many resets",
    end: (_raw, peer) => peer.destroySessions(constants.NGHTTP2_INTERNAL_ERROR),
    says: [sessionEnded(2)],
    saysWriting: [[UNAVAILABLE, "Write error: Session closed with error code 2"]],
    origin: "transport",
    counts: UNAVAILABLE,
  },
  {
    what: "a GOAWAY behind which the connection breaks",
    end: ({ stream }, peer) => {
      stream.session?.goaway(constants.NGHTTP2_NO_ERROR, stream.id ?? 1);
      setTimeout(() => peer.cut(), 10);
    },
    // Up to Node 22 the stream of a call that writes may end on its own before.
    says: [
      dropped,
      wasReset,
      [INTERNAL, "Received RST_STREAM with code 0 (Call ended without gRPC status)"],
    ],
    saysWriting: writeEnded,
    origin: "transport",
    counts: UNAVAILABLE,
  },
  {
    what: "a GOAWAY with INTERNAL_ERROR",
    end: ({ stream }) => stream.session?.goaway(constants.NGHTTP2_INTERNAL_ERROR, 0),
    says: [sessionEnded(2)],
    saysWriting: [[UNAVAILABLE, "Write error: Session closed with error code 2"]],
    origin: "transport",
    counts: UNAVAILABLE,
  },
  {
    what: "a connection that the server ends with ENHANCE_YOUR_CALM",
    end: (_raw, peer) => peer.destroySessions(constants.NGHTTP2_ENHANCE_YOUR_CALM),
    // For calls that read grpc-js takes the code of the connection for that of the stream.
    says: [[RESOURCE_EXHAUSTED, "Bandwidth exhausted or memory limit exceeded"]],
    saysWriting: [[UNAVAILABLE, "Write error: Session closed with error code 11"]],
    origin: "transport",
    counts: RESOURCE_EXHAUSTED,
  },
];

const kindsOf: Readonly<Record<Activity, readonly CallKind[]>> = {
  writing: ["client-stream", "bidi"],
  blocked: ["client-stream", "bidi"],
  idle: ["client-stream", "bidi"],
  reading: ["unary", "server-stream", "client-stream", "bidi"],
};
const activities = ["writing", "blocked", "idle", "reading"] as const satisfies Activity[];

async function seenOf({ end }: Row, kind: CallKind, activity: Activity, headers: boolean) {
  const listening = RawPeer.listen((raw) => {
    void listening.then((peer) => {
      if (headers) {
        // With trailers to come Node keeps the stream open behind a request that has ended.
        raw.stream.respond(
          { ":status": 200, "content-type": "application/grpc" },
          { waitForTrailers: true },
        );
      }
      if (activity !== "blocked") raw.stream.resume();
      // When the call has come to do what it does.
      setTimeout(() => end(raw, peer), 25);
    });
  });
  const peer = await listening;
  try {
    return await endOfKind(peer.address, kind, activity);
  } finally {
    await peer.close();
  }
}

/** The code of a connection is no word about the stream, where the text tells the one from the other. */
function countsAs(details: string, { counts }: Row): status {
  if (details.includes("code 0 ")) return INTERNAL;
  return details.includes("Session closed") ? UNAVAILABLE : counts;
}

describe.each([
  ["before headers", false],
  ["behind headers", true],
] as const)("the origin of a status %s", (_when, headers) => {
  describe.each(activities)("of calls that are %s", (activity) => {
    const writes = activity === "writing" || activity === "blocked";
    const noticed = [...resets, ...connections].filter(
      ({ unnoticed }) => unnoticed !== true || !writes || nodeMajor >= 24,
    );
    it.each(noticed.map((row) => [row.what, row] as const))("is told of %s", async (_what, row) => {
      const seen = await Promise.all(
        kindsOf[activity].map((kind) => seenOf(row, kind, activity, headers)),
      );
      const later = writes && nodeMajor >= 24 ? (row.saysWriting ?? []) : [];
      const allowed = [...row.says, ...later];
      for (const each of seen) {
        const { code, details } = each.status;
        expect(allowed).toContainEqual([code, details]);
        expect(each.evidence.sawHeaders).toBe(headers);
        expect(each.origin).toBe(headers ? (row.originBehindHeaders ?? row.origin) : row.origin);
        expect(status[codeOf(each.status, each.origin)]).toBe(status[countsAs(details, row)]);
      }
    });
  });
});
