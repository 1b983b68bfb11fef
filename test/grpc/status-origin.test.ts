import { Metadata, Server, ServerCredentials, type ServiceDefinition, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { originOf } from "../../src/grpc/status-origin.js";
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
