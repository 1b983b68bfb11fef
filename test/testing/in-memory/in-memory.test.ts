import { AsyncLocalStorage } from "node:async_hooks";
import {
  connectivityState,
  InterceptingCall,
  Metadata,
  propagate,
  ServerInterceptingCall,
  status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { ended, open, payload, serverStream, unary } from "./scene.js";

describe("a call in memory", () => {
  it("runs the interceptors of both sides, for each kind of method", async () => {
    const { link, client, trace } = await open(inMemoryTransport());
    const clientStream = client.clientStream(() => {});
    clientStream.end({ payload, sequence: 5 });
    const bidi = client.bidiStream();
    bidi.resume();
    bidi.end({ payload, sequence: 6 });
    const all = [unary(client), serverStream(client, 2), ended(clientStream), ended(bidi)];
    const results = await link.until(Promise.all(all));
    expect(results.map((result) => result.code)).toEqual([0, 0, 0, 0]);
    expect(results[1]?.responses).toEqual([1, 2]);
    expect(trace.server.filter((event) => event.startsWith("call")).toSorted()).toEqual([
      "call BidiStream",
      "call ClientStream",
      "call ServerStream",
      "call Unary",
    ]);
    expect(trace.client.filter((event) => event.startsWith("status OK"))).toHaveLength(4);
    expect(trace.server.filter((event) => event === "end")).toHaveLength(4);
    expect(link.inFlight()).toBe(0);
  });

  it("lets server interceptors change what the handler and the client see", async () => {
    const { link, client } = await open(
      inMemoryTransport(),
      {},
      {
        server: (method, call) => {
          expect(Object.keys(method).toSorted()).toEqual([
            "path",
            "requestDeserialize",
            "requestStream",
            "responseSerialize",
            "responseStream",
          ]);
          return new ServerInterceptingCall(call, {
            start: (next) =>
              next({
                onReceiveMessage: (message: { sequence: number }, forward) =>
                  forward({ ...message, sequence: message.sequence + 10 }),
              }),
            sendMessage: (message: { sequence: number }, next) =>
              next({ ...message, sequence: message.sequence + 100 }),
          });
        },
      },
    );
    const result = await link.until(unary(client));
    expect(result.responses).toEqual([111]);
  });

  it("takes as long as the network says: a round trip to connect, and one for the call", async () => {
    const { clock, link, client } = await open(inMemoryTransport({ network: { latencyMs: 15 } }));
    const start = clock.now();
    await link.until(unary(client));
    expect(clock.now() - start).toBe(60);
    await link.until(unary(client));
    expect(clock.now() - start).toBe(90);
  });

  it("does not carry the async context of the client to the server, or to other callbacks", async () => {
    const storage = new AsyncLocalStorage<string>();
    let seen: string | undefined = "unset";
    const { link, client } = await open(inMemoryTransport(), {
      unary(call, callback) {
        seen = storage.getStore();
        callback(null, call.request);
      },
    });
    await storage.run("caller", () => link.until(unary(client)));
    expect(seen).toBeUndefined();
  });

  it("ends with the child's deadline or the parent's, whichever is nearer", async () => {
    const far = { deadline: 0 };
    const { clock, link, client } = await open(inMemoryTransport({ network: { latencyMs: 1 } }), {
      unary(call, callback) {
        if (far.deadline === Number.POSITIVE_INFINITY) far.deadline = Number(call.getDeadline());
        else {
          far.deadline = Number.POSITIVE_INFINITY;
          const options = { parent: call, propagate_flags: propagate.DEADLINE };
          client.unary(call.request, new Metadata(), options, () => callback(null, call.request));
        }
      },
    });
    const deadline = clock.wallNow() + 100;
    await link.until(unary(client, { deadline }));
    // Counted anew from each arrival, so two latencies later.
    expect(far.deadline).toBe(deadline + 2);
  });
});

describe("the peer of a call in memory", () => {
  it("is the target before the pick, unknown until headers or status, then an address", async () => {
    const seen: string[] = [];
    const { clock, link, client } = await open(
      inMemoryTransport({ network: { latencyMs: 10 } }),
      {},
      {
        client: (options, nextCall) => {
          const call = nextCall(options);
          seen.push(call.getPeer());
          clock.schedule(25, () => seen.push(call.getPeer()));
          return new InterceptingCall(call, {
            start: (metadata, _listener, next) =>
              next(metadata, {
                onReceiveMetadata(received, forward) {
                  seen.push(call.getPeer());
                  forward(received);
                },
              }),
          });
        },
      },
    );
    const { peer } = await link.until(unary(client));
    expect(seen).toEqual(["dns:127.0.0.1:40001", "unknown", "127.0.0.1:40001"]);
    expect(peer).toBe("127.0.0.1:40001");
  });
});

describe("deadlines in memory", () => {
  it("end the call on the client, with grpc-js's account of the time", async () => {
    const { clock, link, client } = await open(inMemoryTransport({ network: { latencyMs: 10 } }), {
      unary: () => {},
    });
    const result = await link.until(unary(client, { deadline: clock.wallNow() + 60 }));
    expect(result.code).toBe(status.DEADLINE_EXCEEDED);
    expect(result.details).toBe(
      "Deadline exceeded after 0.060s,LB pick: 0.020s,remote_addr=127.0.0.1:40001",
    );
  });

  it("end the call on the server below its interceptors, which hear only of the end", async () => {
    const { clock, link, client, trace } = await open(
      inMemoryTransport({ network: { toClient: { loss: 1 }, toServer: { latencyMs: 10 } } }),
      { clientStream: () => {} },
    );
    const call = client.clientStream(new Metadata(), { deadline: clock.wallNow() + 50 }, () => {});
    const result = await link.until(ended(call));
    expect(result.code).toBe(status.DEADLINE_EXCEEDED);
    expect(trace.server.at(-1)).not.toBe("end");
    await link.pass(20);
    expect(trace.server).toEqual(["call ClientStream", "metadata user-agent", "end"]);
    expect(link.inFlight()).toBe(0);
  });

  it("are sent as the time that is left, and not shown in the metadata", async () => {
    let deadline: unknown;
    const { clock, link, client, trace } = await open(
      inMemoryTransport({ network: { latencyMs: 5 } }),
      {
        unary(call, callback) {
          deadline = call.getDeadline();
          callback(null, call.request);
        },
      },
    );
    const own = clock.wallNow() + 1_000;
    await link.until(unary(client, { deadline: own }));
    expect(deadline).toBe(own + 5);
    expect(trace.server).toContain("metadata user-agent");
  });

  it("are not moved by a step of the wall clock", async () => {
    const transport = inMemoryTransport();
    const { clock, link, client } = await open(transport, { unary: () => {} });
    const start = clock.now();
    const result = unary(client, { deadline: clock.wallNow() + 80 });
    transport.clock.stepWall(-3_600_000);
    await link.until(result);
    expect(clock.now() - start).toBe(80);
  });

  it("of calls that have ended leave no timer behind", async () => {
    const transport = inMemoryTransport();
    const { clock, link, client } = await open(transport);
    await link.until(unary(client, { deadline: clock.wallNow() + 1_000 }));
    expect(transport.clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });
});

describe("a channel in memory", () => {
  it("refuses calls after it was closed, and lets those under way finish", async () => {
    const { link, client } = await open(inMemoryTransport({ network: { latencyMs: 5 } }));
    await link.until(unary(client));
    const underWay = unary(client);
    await link.pass(2);
    client.close();
    expect((await link.until(underWay)).code).toBe(status.OK);
    expect(() => client.unary({ payload, sequence: 1 }, () => {})).toThrow(
      "Channel has been shut down",
    );
    expect(client.getChannel().getConnectivityState(false)).toBe(connectivityState.SHUTDOWN);
  });

  it("cancels calls that wait for a connection when it is closed", async () => {
    const { link, client } = await open(inMemoryTransport({ network: { latencyMs: 50 } }));
    const waiting = unary(client);
    await link.pass(10);
    client.close();
    const result = await link.until(waiting);
    expect(result).toMatchObject({
      code: status.UNAVAILABLE,
      details: "Channel closed before call started",
    });
  });

  it("connects for waitForReady of the client, and tells of its state", async () => {
    const { clock, link, client } = await open(inMemoryTransport({ network: { latencyMs: 5 } }));
    const channel = client.getChannel();
    expect(channel.getConnectivityState(false)).toBe(connectivityState.IDLE);
    const ready = new Promise<void>((resolve, reject) => {
      client.waitForReady(clock.wallNow() + 100, (error) => (error ? reject(error) : resolve()));
    });
    await link.until(ready);
    expect(channel.getConnectivityState(false)).toBe(connectivityState.READY);
    expect(channel.getTarget()).toBe("dns:127.0.0.1:40001");
  });

  it("counts a call that an interceptor made and never started, because grpc-js leaks it too", async () => {
    const { link, client } = await open(
      inMemoryTransport(),
      {},
      {
        client: (options, nextCall) => {
          nextCall(options);
          return new InterceptingCall(nextCall(options));
        },
      },
    );
    await link.until(unary(client));
    expect(link.inFlight()).toBe(1);
  });
});
