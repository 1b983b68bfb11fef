import { ServerInterceptingCall, status } from "@grpc/grpc-js";
import { expect, it } from "vitest";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { ended, open, payload, serverStream, unary } from "./scene.js";

it("holds a server back whose client stopped reading, and keeps its call open until all is read", async () => {
  let written = 0;
  const { link, client, trace } = await open(inMemoryTransport(), {
    serverStream(call) {
      for (let sequence = 1; sequence <= 100; sequence++) {
        call.write({ payload: Buffer.alloc(20_000), sequence }, () => {
          written += 1;
        });
      }
      call.end();
    },
  });
  const responses: number[] = [];
  const call = client.serverStream({ payload, sequence: 1 });
  const end = ended(call, responses);
  call.on("data", (response: { sequence: number }) => {
    responses.push(response.sequence);
    if (response.sequence === 1) call.pause();
  });
  await link.pass(100);
  // Sixteen in the client's readable, one window of HTTP/2 under way.
  expect(written).toBeGreaterThan(16);
  expect(written).toBeLessThan(25);
  expect(trace.server).not.toContain("end");
  call.resume();
  expect((await link.until(end)).responses).toHaveLength(100);
  expect(trace.server.at(-1)).toBe("end");
});

it("holds a client back whose server stopped reading", async () => {
  let written = 0;
  const { link, client } = await open(
    inMemoryTransport(),
    { clientStream: (call) => void call.once("data", () => call.pause()) },
    { channel: { "grpc.per_rpc_retry_buffer_size": 1 } },
  );
  const call = client.clientStream(() => {});
  for (let sequence = 0; sequence < 100; sequence++) {
    call.write({ payload: Buffer.alloc(10_000), sequence }, () => {
      written += 1;
    });
  }
  await link.pass(100);
  expect(written).toBeGreaterThan(16);
  expect(written).toBeLessThan(30);
});

it("silences a direction of a stream for good when a packet is lost, and only that stream", async () => {
  const transport = inMemoryTransport();
  const { clock, link, client, trace } = await open(transport);
  const call = client.clientStream(() => {});
  call.write({ payload, sequence: 1 });
  await link.pass(1);
  transport.network.set({ loss: 1 });
  call.write({ payload, sequence: 2 });
  await link.pass(1);
  transport.network.set({ loss: 0 });
  call.end({ payload, sequence: 3 });
  const other = await link.until(unary(client, { deadline: clock.wallNow() + 10 }));
  expect(other.code).toBe(status.OK);
  await link.pass(100);
  expect(trace.server).not.toContain("message 2");
  expect(trace.server).not.toContain("message 3");
});

it("lets a later message of a stream not arrive before an earlier one that takes longer", async () => {
  const transport = inMemoryTransport({ network: { latencyMs: 1 } });
  const { clock, link, client, trace } = await open(transport);
  const call = client.clientStream(() => {});
  await link.pass(10);
  transport.network.set({ latencyMs: 50 });
  const start = clock.now();
  call.write({ payload, sequence: 1 });
  await link.pass(5);
  transport.network.set({ latencyMs: 1 });
  call.write({ payload, sequence: 2 });
  await link.pass(44);
  expect(trace.server).not.toContain("message 1");
  await link.pass(1);
  expect(clock.now() - start).toBe(50);
  expect(trace.server.slice(-2)).toEqual(["message 1", "message 2"]);
});

it("changes only what is set of the network", async () => {
  const transport = inMemoryTransport({ network: { latencyMs: 5 } });
  const { clock, link, client } = await open(transport);
  await link.until(unary(client));
  transport.network.set({ toClient: { latencyMs: 20 } });
  const start = clock.now();
  await link.until(unary(client));
  expect(clock.now() - start).toBe(25);
});

it("does not try a refused stream again once the buffer for it was too small", async () => {
  const transport = inMemoryTransport({ network: { refusal: 1, latencyMs: 5 } });
  const { clock, link, client } = await open(
    transport,
    {},
    {
      channel: { "grpc.per_rpc_retry_buffer_size": 1 },
    },
  );
  await link.until(unary(client));
  const start = clock.now();
  const result = await link.until(serverStream(client, 1));
  expect(result.details).toBe("Stream refused by server");
  expect(clock.now() - start).toBe(10);
});

it("gives the buffer of a call back to its channel when the call ends, in whatever way", async () => {
  const transport = inMemoryTransport({ network: { latencyMs: 5 } });
  const { clock, link, client } = await open(
    transport,
    {},
    {
      channel: { "grpc.retry_buffer_size": 5 },
    },
  );
  for (let i = 0; i < 5; i++) await link.until(serverStream(client, 1));
  for (let i = 0; i < 5; i++) {
    await link.until(serverStream(client, 1, { deadline: clock.wallNow() + 3 }));
  }
  transport.network.set({ refusal: 1 });
  const start = clock.now();
  await link.until(serverStream(client, 1));
  expect(clock.now() - start).toBe(20); // so it was tried twice
});

it("tells a server interceptor of the end after it sent a status, not while it does", async () => {
  const order: string[] = [];
  const { link, client } = await open(
    inMemoryTransport(),
    {},
    {
      server: (_method, call) =>
        new ServerInterceptingCall(call, {
          start: (next) =>
            next({
              onReceiveMetadata() {
                call.sendStatus({ code: status.UNAVAILABLE, details: "draining" });
                order.push("sent");
              },
              onCancel: () => order.push("end"),
            }),
        }),
    },
  );
  await link.until(unary(client));
  expect(order).toEqual(["sent", "end"]);
});

it("destroys the handler's stream when its call is cancelled", async () => {
  let destroyed: unknown;
  const { link, client } = await open(inMemoryTransport(), {
    serverStream(call) {
      call.on("cancelled", () => process.nextTick(() => (destroyed = call.destroyed)));
    },
  });
  const call = client.serverStream({ payload, sequence: 1 });
  call.on("error", () => {});
  await link.pass(1);
  call.cancel();
  await link.pass(1);
  expect(destroyed).toBe(true);
});

it("rounds the time that is left up to whole milliseconds, as on the wire", async () => {
  let deadline = 0;
  const { clock, link, client } = await open(inMemoryTransport(), {
    unary(call, callback) {
      deadline = Number(call.getDeadline());
      callback(null, call.request);
    },
  });
  const now = clock.wallNow();
  await link.until(unary(client, { deadline: now + 50.5 }));
  expect(deadline).toBe(now + 51);
});

it("reconnects without keeping anything alive, also when connecting takes longer than its backoff", async () => {
  const transport = inMemoryTransport({ network: { latencyMs: 2_000 } });
  const { link, client } = await open(transport);
  transport.server.crash();
  const refused = await link.until(unary(client));
  expect(refused.code).toBe(status.UNAVAILABLE);
  for (let i = 0; i < 10; i++) {
    await link.pass(1_000);
    expect(transport.clock.pending).toMatchObject({ refs: 0 });
    expect(transport.clock.pending.unrefs).toBeGreaterThan(0);
  }
  transport.server.start();
  await link.pass(20_000);
  expect((await link.until(unary(client))).code).toBe(status.OK);
});
