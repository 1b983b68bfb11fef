import { connectivityState, Metadata, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { Random } from "../../../src/core/clock.js";
import { InvalidOptionError } from "../../../src/core/options.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { ended, open, payload, unary } from "./scene.js";

describe("cancellation in memory", () => {
  it("reaches the server one latency later, after the end of the request", async () => {
    const { link, client, trace } = await open(inMemoryTransport({ network: { latencyMs: 10 } }));
    const call = client.clientStream(() => {});
    const end = ended(call);
    await link.pass(40);
    call.cancel();
    expect(await link.until(end)).toMatchObject({
      code: status.CANCELLED,
      details: "Cancelled on client",
    });
    expect(trace.server.at(-1)).toBe("metadata user-agent");
    await link.pass(9);
    expect(trace.server.at(-1)).toBe("metadata user-agent");
    await link.pass(1);
    expect(trace.server.slice(2)).toContain("half-close");
    expect(trace.server.at(-1)).toBe("end");
    expect(link.inFlight()).toBe(0);
  });
});

describe("a crash in memory", () => {
  it("drops the calls under way: the server's side at once, the client's a latency later", async () => {
    const { clock, link, client, trace } = await open(
      inMemoryTransport({ network: { latencyMs: 10 } }),
      { unary: () => {} },
    );
    const call = unary(client);
    await link.pass(50);
    const start = clock.now();
    await link.crash();
    expect(link.inFlight()).toBe(2);
    await link.pass(0);
    expect(trace.server.at(-1)).toBe("end");
    const result = await link.until(call);
    expect(result).toMatchObject({ code: status.UNAVAILABLE, details: "Connection dropped" });
    expect(clock.now() - start).toBe(10);
    expect(link.inFlight()).toBe(0);
  });

  it("refuses new connections, and says so for each call until one succeeds", async () => {
    const transport = inMemoryTransport({ network: { latencyMs: 1 } });
    const { link, client } = await open(transport);
    const channel = client.getChannel();
    await link.until(unary(client));
    transport.server.crash();
    await link.pass(5);
    expect(channel.getConnectivityState(false)).toBe(connectivityState.IDLE);
    const refused = await link.until(unary(client));
    expect(refused).toMatchObject({ code: status.UNAVAILABLE, peer: "dns:127.0.0.1:40001" });
    expect(refused.details).toBe(
      "No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:40001. Resolution note: ",
    );
    expect(channel.getConnectivityState(false)).toBe(connectivityState.TRANSIENT_FAILURE);
    transport.server.start();
    expect((await link.until(unary(client))).code).toBe(status.UNAVAILABLE);
    await link.pass(1_500); // longer than the first wait of grpc-js's reconnection
    expect((await link.until(unary(client))).code).toBe(status.OK);
    await link.close();
    expect(transport.clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("is waited out by a call that waits for ready", async () => {
    const transport = inMemoryTransport();
    const { clock, link, client } = await open(transport);
    transport.server.crash();
    clock.schedule(5_000, () => transport.server.start());
    const metadata = new Metadata({ waitForReady: true });
    const result = await link.until(unary(client, {}, metadata), 20_000);
    expect(result.code).toBe(status.OK);
  });
});

describe("closing a link in memory", () => {
  it("ends calls on both sides and leaves nothing scheduled", async () => {
    const transport = inMemoryTransport({ network: { latencyMs: 10 } });
    const { clock, link, client } = await open(transport, { unary: () => {} });
    const call = unary(client, { deadline: clock.wallNow() + 1_000 });
    await link.pass(50);
    expect(link.inFlight()).toBe(2);
    await link.close();
    expect(link.inFlight()).toBe(0);
    expect((await call).details).toBe("Connection dropped");
    expect(transport.clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });
});

describe("faults of the network in memory", () => {
  it("tries a refused stream once more by itself, then gives up", async () => {
    const transport = inMemoryTransport({ network: { refusal: 1, latencyMs: 5 } });
    const { clock, link, client, trace } = await open(transport);
    const result = await link.until(unary(client));
    expect(result).toMatchObject({
      code: status.UNAVAILABLE,
      details: "Stream refused by server",
      peer: "127.0.0.1:40001",
    });
    expect(trace.server).toEqual([]);
    const start = clock.now();
    await link.until(unary(client));
    expect(clock.now() - start).toBe(20); // two round trips
    const sentAgain = unary(client);
    await link.pass(7);
    transport.network.set({ refusal: 0 });
    expect(await link.until(sentAgain)).toMatchObject({ code: status.OK, responses: [1] });
  });

  it("does not try again when retries are off", async () => {
    const transport = inMemoryTransport({ network: { refusal: 1, latencyMs: 5 } });
    const { clock, link, client } = await open(
      transport,
      {},
      {
        channel: { "grpc.enable_retries": 0 },
      },
    );
    await link.until(unary(client));
    const start = clock.now();
    expect((await link.until(unary(client))).details).toBe("Stream refused by server");
    expect(clock.now() - start).toBe(10);
  });

  it("resets a stream before or after its handler ran, and ends the call on both sides", async () => {
    const { link, client, trace } = await open(inMemoryTransport({ network: { reset: 1 } }));
    for (let i = 0; i < 20; i++) {
      expect(await link.until(unary(client))).toMatchObject({
        code: status.INTERNAL,
        details: "Received RST_STREAM with code 2 (Internal server error)",
      });
    }
    await link.pass(1);
    const handled = trace.server.filter((event) => event === "call Unary").length;
    expect(handled).toBeGreaterThan(3);
    expect(handled).toBeLessThan(17);
    expect(trace.server.filter((event) => event === "end")).toHaveLength(handled);
    expect(link.inFlight()).toBe(0);
  });

  it("leaves a call whose request is lost to its deadline, and the server without a trace", async () => {
    const { clock, link, client, trace } = await open(
      inMemoryTransport({ network: { toServer: { loss: 1 } } }),
    );
    const result = await link.until(unary(client, { deadline: clock.wallNow() + 300 }));
    expect(result.code).toBe(status.DEADLINE_EXCEEDED);
    expect(trace.server).toEqual([]);
  });

  it("lets the handler run when only the response is lost", async () => {
    const { clock, link, client, trace } = await open(
      inMemoryTransport({ network: { toClient: { loss: 1 } } }),
    );
    const result = await link.until(unary(client, { deadline: clock.wallNow() + 300 }));
    expect(result.code).toBe(status.DEADLINE_EXCEEDED);
    expect(trace.server).toContain("sends status OK");
  });

  it("lets streams overtake each other, but not the messages of one stream", async () => {
    const latencyMs = (random: Random) => 1 + 50 * random();
    const { clock, link, client } = await open(
      inMemoryTransport({ seed: 3, network: { latencyMs } }),
    );
    await link.until(unary(client));
    const order: number[] = [];
    const calls = Array.from({ length: 10 }, (_, i) => unary(client).then(() => order.push(i)));
    const stream = client.clientStream((_error, response) => {
      expect(response.sequences).toEqual(Array.from({ length: 20 }, (_, i) => i));
    });
    for (let sequence = 0; sequence < 20; sequence++) {
      clock.schedule(sequence, () => stream.write({ payload, sequence }));
    }
    clock.schedule(20, () => stream.end());
    await link.until(Promise.all([...calls, ended(stream)]));
    expect(order).not.toEqual(order.toSorted((a, b) => a - b));
  });

  it.each([
    ["network.loss", { loss: 1.5 }],
    ["network.toServer.loss", { toServer: { loss: -1 } }],
    ["network.refusal", { refusal: Number.NaN }],
    ["network.reset", { reset: 2 }],
    ["network.latencyMs", { latencyMs: -1 }],
  ])("refuses nonsense for %s", (option, network) => {
    expect(() => inMemoryTransport({ network })).toThrow(InvalidOptionError);
    expect(() => inMemoryTransport().network.set(network)).toThrow(option);
  });
});

describe("a run in memory", () => {
  async function outage(seed: number, seconds: number, everyMs = 200): Promise<string[]> {
    const transport = inMemoryTransport({
      seed,
      network: { latencyMs: (random) => 2 + 8 * random(), loss: 0.02, refusal: 0.1, reset: 0.05 },
    });
    const { clock, link, client, trace } = await open(transport);
    const start = clock.now();
    clock.schedule(seconds * 300, () => transport.server.crash());
    clock.schedule(seconds * 500, () => transport.server.start());
    const log: string[] = [];
    const ask = () => {
      clock.schedule(everyMs, ask);
      const number = log.push("");
      void unary(client, { deadline: clock.wallNow() + 150 }).then(({ code }) => {
        log[number - 1] = `${code} at ${clock.now() - start}`;
      });
    };
    ask();
    await link.pass(seconds * 1_000);
    return [...log, ...trace.client, ...trace.server];
  }

  it("is the same for the same seed, and another for another", async () => {
    const first = await outage(1, 60);
    expect(await outage(1, 60)).toEqual(first);
    expect(await outage(2, 60)).not.toEqual(first);
    expect(first.filter((line) => line.startsWith("0 at")).length).toBeGreaterThan(150);
    expect(first.join()).toContain("Stream refused by server");
    expect(first.join()).toContain("ECONNREFUSED");
  });

  it("passes a thousand seconds of calls in well under a second of processor time", async () => {
    await outage(1, 10);
    const began = process.cpuUsage();
    await outage(1, 1_000, 1_000);
    const { user, system } = process.cpuUsage(began);
    expect((user + system) / 1_000).toBeLessThan(800);
  });
});
