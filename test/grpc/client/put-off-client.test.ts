import {
  Client,
  connectivityState,
  credentials,
  InterceptingCall,
  type Interceptor,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { isLocal } from "../../../src/grpc/status/rejection.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { open, payload, unary } from "../../testing/in-memory/scene.js";
import { settled } from "./fake-call.js";
import { puttingOff } from "./put-off-call.js";

const plainPutOff = () => {
  const goes: (() => void)[] = [];
  const interceptor: Interceptor = (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        goes.push(() => next(metadata, listener));
      },
    });
  const go = () => {
    for (const each of goes.splice(0)) each();
  };
  return { interceptor, go };
};

describe("a call of a real client whose start is put off", () => {
  it("is never told its end by plain grpc-js when it is cancelled, and is told by ours", async () => {
    for (const own of [false, true]) {
      const plain = plainPutOff();
      const ours = puttingOff();
      const client = new Client("127.0.0.1:9", credentials.createInsecure(), {
        interceptors: [own ? ours.interceptor : plain.interceptor],
      });
      const statuses: StatusObject[] = [];
      const identity = (buffer: Buffer) => buffer;
      const call = client.makeUnaryRequest("/t.S/M", identity, identity, payload, () => {});
      call.on("status", (received: StatusObject) => statuses.push(received));
      await settled();
      call.cancel();
      await settled();
      plain.go();
      for (const each of ours.calls) each.go();
      await settled();
      expect(statuses.map(({ code }) => code)).toEqual(own ? [status.CANCELLED] : []);
      client.close();
    }
  });

  it("is never told its end by plain grpc-js when its deadline passes, and is told by ours", async () => {
    for (const own of [false, true]) {
      const plain = plainPutOff();
      const ours = puttingOff();
      const { clock, link, client } = await open(
        inMemoryTransport(),
        {},
        { client: own ? ours.interceptor : plain.interceptor },
      );
      let code: status | undefined;
      void unary(client, { deadline: clock.wallNow() + 100 }).then((end) => {
        code = end.code;
      });
      await link.pass(200);
      plain.go();
      for (const each of ours.calls) each.go();
      await link.pass(60_000);
      expect(code).toBe(own ? status.DEADLINE_EXCEEDED : undefined);
      await link.close();
    }
  });

  it("keeps no call open below when it is never started", async () => {
    const { interceptor } = puttingOff();
    const { clock, link, client } = await open(inMemoryTransport(), {}, { client: interceptor });
    void unary(client, { deadline: clock.wallNow() + 60_000 });
    await link.pass(10);
    // A call that plain grpc-js has made and not started counts, and its timer runs.
    expect(link.inFlight()).toBe(0);
    expect(clock).toMatchObject({ pending: { refs: 0 } });
    await link.close();
  });

  it("ends as a local rejection when the client is closed meanwhile", async () => {
    const { interceptor, calls } = puttingOff();
    const { link, client } = await open(inMemoryTransport(), {}, { client: interceptor });
    let failed: Parameters<typeof isLocal>[0] & { code?: status } = {};
    client.unary({ payload, sequence: 1 }, (error) => {
      failed = error ?? {};
    });
    await link.pass(10);
    expect(client.getChannel().getConnectivityState(false)).toBe(connectivityState.IDLE);
    client.close();
    for (const call of calls) call.go();
    await link.pass(10);
    expect(failed.code).toBe(status.UNAVAILABLE);
    expect(isLocal(failed)).toBe(true);
    await link.close();
  });

  it("sends the messages of a stream whole and in order once it starts", async () => {
    const { interceptor, calls } = puttingOff();
    const { link, client } = await open(inMemoryTransport(), {}, { client: interceptor });
    const got: number[] = [];
    const finished: number[] = [];
    const stream = client.bidiStream();
    stream.on("data", ({ sequence }: { sequence: number }) => got.push(sequence));
    for (let sequence = 1; sequence <= 20; sequence++) {
      stream.write({ payload, sequence }, () => finished.push(sequence));
    }
    stream.end();
    const end = new Promise<StatusObject>((resolve) => stream.on("status", resolve));
    await link.pass(10);
    expect(got).toEqual([]);
    // The writer is held back: a stream that waits in a queue gathers no request.
    expect(finished).toEqual([]);
    for (const call of calls) call.go();
    expect((await link.until(end)).code).toBe(status.OK);
    const all = Array.from({ length: 20 }, (_, index) => index + 1);
    expect(got).toEqual(all);
    expect(finished).toEqual(all);
    await link.close();
  });
});
