import { Metadata, Server, ServerCredentials, type ServiceDefinition, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { codeOf, originOf, UnknownTexts } from "../../../src/grpc/status/origin.js";
import { endOfCall, type Seen } from "./origin-watch.js";
import { RawPeer } from "./raw-peer.js";
import { ok, type Row, rows } from "./status-origin-rows.js";

const silent = () => {};

function expectRow(
  seen: Seen,
  { code, details, origin, headers = false }: Omit<Row, "what">,
): void {
  expect(status[seen.status.code]).toBe(status[code]);
  if (typeof details === "string") expect(seen.status.details).toBe(details);
  else expect(seen.status.details).toMatch(details);
  expect(seen.evidence.sawHeaders).toBe(headers);
  expect(seen.origin).toBe(origin);
}

describe("the origin of a status, over sockets", () => {
  it.each(rows.map((row) => [row.what, row] as const))("is told of %s", async (_what, row) => {
    const listening = RawPeer.listen((raw) => {
      void listening.then((peer) => (row.peer ?? ok)(raw, peer));
    });
    const peer = await listening;
    try {
      expectRow(await endOfCall(peer.address, { deadlineMs: 10_000, ...row.plan }), row);
      expect(peer.streams).toBe(row.streams ?? 1);
    } finally {
      await peer.close();
    }
  });

  /** An address that nobody listens at. */
  async function deadAddress(): Promise<string> {
    const peer = await RawPeer.listen(silent);
    await peer.close();
    return peer.address;
  }

  it("is told of an address that nobody listens at", async () => {
    const address = await deadAddress();
    expectRow(await endOfCall(address), {
      code: status.UNAVAILABLE,
      details: `No connection established. Last error: Error: connect ECONNREFUSED ${address}. Resolution note: `,
      origin: "never-sent",
    });
  });

  it("is told of a deadline while a call waits for a connection", async () => {
    const metadata = new Metadata({ waitForReady: true });
    expectRow(await endOfCall(await deadAddress(), { metadata, deadlineMs: 300 }), {
      code: status.DEADLINE_EXCEEDED,
      details: /^Deadline exceeded after 0\.[2-9]\d\ds,.*wait_for_ready,Waiting for LB pick$/,
      origin: "deadline",
    });
  });

  it("is told of a name that cannot be resolved", async () => {
    expectRow(await endOfCall("nowhere.invalid:1"), {
      code: status.UNAVAILABLE,
      details: "Name resolution failed for target dns:nowhere.invalid:1",
      origin: "never-sent",
    });
  });

  it("is told of a server whose grace ends while it drains", async () => {
    const server = new Server();
    const bytes = (buffer: Buffer) => buffer;
    const service: ServiceDefinition = {
      M: {
        path: "/t.S/M",
        requestStream: false,
        responseStream: false,
        requestSerialize: bytes,
        requestDeserialize: bytes,
        responseSerialize: bytes,
        responseDeserialize: bytes,
      },
    };
    let address = "127.0.0.1:0";
    server.addService(service, { M: () => server.drain(address, 20) });
    address = await new Promise<string>((resolve, reject) => {
      server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) resolve(`127.0.0.1:${port}`);
        else reject(error);
      });
    });
    try {
      expectRow(await endOfCall(address, { deadlineMs: 10_000 }), {
        code: status.CANCELLED,
        details: "Call cancelled",
        origin: "transport",
      });
    } finally {
      server.forceShutdown();
    }
  });
});

describe("an HTTP/2 code in a text", () => {
  const seen = { sawHeaders: false, peer: "10.0.0.1:443", target: "dns:orders:443" };
  const told = (details: string, code = status.UNAVAILABLE, sawHeaders = false) => {
    const received = { code, details, metadata: new Metadata() };
    const origin = originOf(received, { ...seen, sawHeaders });
    return [origin, status[codeOf(received, origin)]];
  };

  it.each([
    "Write error: Stream closed with error code NGHTTP2_REFUSED_STREAM",
    "Stream closed with error code NGHTTP2_REFUSED_STREAM",
    "Stream closed with error code 7",
    "Received RST_STREAM with code 7",
    "Received RST_STREAM with code 7 (REFUSED_STREAM)",
    "The peer has reset the stream: REFUSED_STREAM",
  ])("is that code, whatever stands around it: %s", (details) => {
    expect(told(details)).toEqual(["refused", "UNAVAILABLE"]);
    expect(told(details, status.INTERNAL)[0]).toBe("refused");
  });

  it.each<[string, string]>([
    ["Write error: Stream closed with error code NGHTTP2_ENHANCE_YOUR_CALM", "RESOURCE_EXHAUSTED"],
    ["Write error: Stream closed with error code NGHTTP2_INTERNAL_ERROR", "INTERNAL"],
    ["Write error: Stream closed with error code NGHTTP2_CANCEL", "CANCELLED"],
    ["Write error: Stream closed with error code 3", "INTERNAL"],
    ["Write error: Session closed with error code 2", "UNAVAILABLE"],
    ["Write error: Session closed with error code NGHTTP2_INTERNAL_ERROR", "UNAVAILABLE"],
    ["Write error: read ECONNRESET", "UNAVAILABLE"],
    ["Write error: Protocol error", "UNAVAILABLE"],
  ])("says what a broken stream counts as: %s", (details, counts) => {
    expect(told(details)).toEqual(["transport", counts]);
  });

  it("of a connection says that it has ended, and not that the server has looked at no stream", () => {
    expect(told("Write error: Session closed with error code 7")).toEqual([
      "transport",
      "UNAVAILABLE",
    ]);
    expect(told("Session closed after a GOAWAY with REFUSED_STREAM")[0]).toBe("transport");
  });

  it("of a refused stream is not believed of a server that has begun to answer", () => {
    expect(told("Stream refused by server", status.UNAVAILABLE, true)[0]).toBe("transport");
  });

  it("is none where the number is that of something else", () => {
    expect(told("The process exited with code 7")[0]).toBe("transport");
    expect(told("Received HTTP status code 503")).toEqual(["transport", "UNAVAILABLE"]);
  });

  it("is the server's, behind headers and in trailers of its own", () => {
    const metadata = new Metadata();
    metadata.set("x-request", "1");
    const details = "Write error: Stream closed with error code NGHTTP2_REFUSED_STREAM";
    const received = { code: status.UNAVAILABLE, details, metadata };
    expect(originOf(received, { ...seen, sawHeaders: true })).toBe("remote");
    metadata.remove("x-request");
    metadata.set("grpc-previous-rpc-attempts", "1");
    expect(originOf(received, { ...seen, sawHeaders: true })).toBe("transport");
  });
});

describe("the origin of a status that is not known", () => {
  const status14 = (details: string, metadata = new Metadata()) => ({
    code: status.UNAVAILABLE,
    details,
    metadata,
  });
  const address = { sawHeaders: false, peer: "10.0.0.1:443", target: "dns:orders:443" };

  it("is the transport, which is the careful reading", () => {
    expect(originOf(status14("Words of another version"), address)).toBe("transport");
  });

  it("is told once for each text, without its numbers, and not for ever", () => {
    const told: unknown[] = [];
    const unknown = new UnknownTexts((error) => told.push(error));
    const seen = (details: string, more = {}) =>
      originOf(status14(details), { ...address, unknown, ...more });
    seen("Socket 17 fell over");
    seen("Socket 18 fell over");
    seen("Connection dropped");
    seen("words of the server", { sawHeaders: true });
    seen("words of a call that waits", { peer: "dns:orders:443" });
    expect(told.map(String)).toEqual([expect.stringContaining('"Socket 17 fell over"')]);
    for (let i = 0; i < 100; i += 1) seen("y".repeat(i + 1));
    expect(told).toHaveLength(20);
  });

  it("is told without harm by a reporter that throws", () => {
    const unknown = new UnknownTexts(() => {
      throw new Error("broken");
    });
    expect(originOf(status14("Words"), { ...address, unknown })).toBe("transport");
  });

  it("is never-sent where the peer is still the target", () => {
    const waiting = { ...address, peer: "dns:orders:443" };
    expect(originOf(status14("Words of another version"), waiting)).toBe("never-sent");
    expect(originOf(status14("x"), { ...waiting, target: "" })).toBe("never-sent");
    expect(originOf(status14("x"), { ...waiting, sawHeaders: true })).toBe("remote");
  });

  it("is the server's where headers were seen, or the status has the headers of a gRPC answer", () => {
    const answered = new Metadata();
    answered.set("content-type", "application/grpc");
    expect(originOf(status14("x"), { ...address, sawHeaders: true })).toBe("remote");
    expect(originOf(status14("x", answered), address)).toBe("remote");
  });

  it.each([Number.NaN, undefined])(
    "is told without a throw for the code %s of a broken answer",
    (code) => {
      const broken = { code, details: undefined, metadata: new Metadata() };
      const told = originOf(broken as unknown as Parameters<typeof originOf>[0], address);
      expect(told).toBe("transport");
    },
  );
});
