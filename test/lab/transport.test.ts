import {
  connectivityState,
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { hangingHandler, scene } from "./scene.js";

describe("a unary call", () => {
  it("connects first, and is answered after a round trip", async () => {
    const { world, client, server, call } = scene();
    server();
    const of = client();
    const first = call(of);
    const second = call(of, { atMs: 20 });
    await world.run(100);
    // 4 ms to connect: the operating system answers, then the server.
    expect(first.ended).toMatchObject({ code: status.OK, response: "lab", atMs: 6 });
    expect(second.ended).toMatchObject({ code: status.OK, response: "lab", atMs: 22 });
  });

  it("brings the metadata of the request to the server, and a copy of its own", async () => {
    const { world, client, server, call } = scene();
    const seen: unknown[] = [];
    const see: ServerInterceptor = (_method, below) =>
      new ServerInterceptingCall(below, {
        start: (next) =>
          next({
            onReceiveMetadata: (metadata, pass) => {
              seen.push(metadata.get("key"));
              metadata.set("key", "changed");
              pass(metadata);
            },
          }),
      });
    server(undefined, "server:1", () => [see]);
    const metadata = new Metadata();
    metadata.set("key", "value");
    call(client(), { metadata });
    await world.run(100);
    expect([seen, metadata.get("key")]).toEqual([[["value"]], ["value"]]);
  });

  it("fails with what the handler answers, as an answer of the server", async () => {
    const { world, client, server, call } = scene();
    server((handled) => handled.fail(status.UNAVAILABLE, "not today"));
    const made = call(client());
    await world.run(100);
    expect(made.ended).toMatchObject({
      code: status.UNAVAILABLE,
      details: "not today",
      response: undefined,
      origin: "remote",
    });
  });

  it("has its deadline on the wire: client and server end it", async () => {
    const { world, client, server, call } = scene();
    const { calls, handler } = hangingHandler();
    server(handler);
    const made = call(client(), { deadlineMs: 50 });
    await world.run(30);
    expect(calls.map(({ cancelled }) => cancelled)).toEqual([false]);
    await world.run(100);
    expect(made.ended).toMatchObject({
      code: status.DEADLINE_EXCEEDED,
      details: "Deadline exceeded after 0.050s,remote_addr=server:1",
      origin: "deadline",
      atMs: 50,
    });
    expect(calls.map(({ cancelled }) => cancelled)).toEqual([true]);
  });

  it("is ended by the server at its deadline, when the client is too busy to notice", async () => {
    const { world, clientProcess, client, server, call } = scene();
    const { calls, handler } = hangingHandler();
    server(handler);
    call(client(), { deadlineMs: 50 });
    world.at(20, () => clientProcess.block(500));
    await world.run(100);
    expect(calls.map(({ cancelled }) => cancelled)).toEqual([true]);
  });

  it("is cancelled at the server when the client cancels it", async () => {
    const { world, clientProcess, client, server, call } = scene();
    const { calls, handler } = hangingHandler();
    server(handler);
    const made = call(client());
    clientProcess.deliver(20, () => {
      made.call?.cancelWithStatus(status.CANCELLED, "Cancelled on client");
      expect(made.ended).toBeUndefined();
    });
    await world.run(20.5);
    expect(made.ended).toMatchObject({ code: status.CANCELLED, origin: "caller" });
    expect(calls.map(({ cancelled }) => cancelled)).toEqual([false]);
    await world.run(100);
    expect(calls.map(({ cancelled }) => cancelled)).toEqual([true]);
  });

  it("is never sent when it is cancelled while it waits for the connection", async () => {
    const { world, clientProcess, client, server, call } = scene();
    const { calls, handler } = hangingHandler();
    server(handler);
    const made = call(client());
    clientProcess.deliver(2, () => {
      made.call?.cancelWithStatus(status.CANCELLED, "Cancelled on client");
    });
    await world.run(100);
    expect([made.ended?.code, calls]).toEqual([status.CANCELLED, []]);
  });
});

describe("a server that is killed", () => {
  it("takes its calls with it, and the next ones find no connection", async () => {
    const { world, client, server, call } = scene();
    const { handler } = hangingHandler();
    const process = server(handler);
    const of = client();
    const running = call(of);
    world.at(20, () => process.kill());
    const later = call(of, { atMs: 30 });
    await world.run(100);
    expect(running.ended).toMatchObject({
      code: status.UNAVAILABLE,
      details: "Connection dropped",
      origin: "transport",
      atMs: 21,
    });
    expect(later.ended).toMatchObject({
      code: status.UNAVAILABLE,
      origin: "never-sent",
      details:
        "No connection established. Last error: Error: connect ECONNREFUSED server:1. Resolution note: ",
      atMs: 32,
    });
  });

  it("is found again when it is back, after the backoff of the channel", async () => {
    const { world, network, client, server, call } = scene();
    const first = server();
    const of = client(["server:1"], { options: { "grpc.initial_reconnect_backoff_ms": 100 } });
    call(of);
    world.at(20, () => first.kill());
    const lost = call(of, { atMs: 30 });
    world.at(40, () => server());
    const during = call(of, { atMs: 100 });
    const after = call(of, { atMs: 150 });
    await world.run(200);
    expect([lost, during, after].map(({ ended }) => ended?.code)).toEqual([
      status.UNAVAILABLE,
      status.UNAVAILABLE,
      status.OK,
    ]);
    expect(network.connectionsTo("server:1")).toHaveLength(1);
  });

  it("does not answer from a handler that it has lost", async () => {
    const { world, client, server, call } = scene();
    const process = server((handled) => {
      handled.process.schedule(50, () => handled.answer());
    });
    const made = call(client());
    world.at(20, () => process.kill());
    await world.run(200);
    expect(made.ended).toMatchObject({ code: status.UNAVAILABLE });
  });
});

describe("a connection", () => {
  it("ends all its calls when it is cut, and is replaced for the next one", async () => {
    const { world, network, client, server, call } = scene();
    const { calls, handler } = hangingHandler();
    server(handler);
    const of = client();
    const running = [call(of), call(of)];
    world.at(20, () => network.connectionsTo("server:1")[0]?.cut());
    const next = call(of, { atMs: 30 });
    await world.run(60);
    for (const { ended } of running) {
      expect(ended).toMatchObject({
        code: status.UNAVAILABLE,
        details: "read ECONNRESET",
        origin: "transport",
      });
    }
    expect(next.ended).toBeUndefined();
    expect(calls.map(({ cancelled }) => cancelled)).toEqual([true, true, false]);
  });

  it("is closed by the server when too many of its calls are reset", async () => {
    const { world, client, server, call } = scene();
    server(hangingHandler().handler);
    const of = client();
    const neighbour = call(of, { atMs: 0 });
    for (let number = 0; number < 1_100; number += 1) call(of, { atMs: 20, deadlineMs: 50 });
    await world.run(200);
    expect(neighbour.ended).toMatchObject({
      code: status.INTERNAL,
      details:
        "Received RST_STREAM with code 2 triggered by internal client error: Session closed with error code 2",
      origin: "transport",
    });
  });

  it("keeps the order of its messages, though each takes its own time", async () => {
    // To connect takes three, then each request has one.
    const drawn = [1, 1, 1, 1, 9, 1];
    const { world, client, server, call } = scene(() => drawn.shift() ?? 1);
    const seen: string[] = [];
    server((handled) => {
      seen.push(`${handled.method} at ${handled.process.now()}`);
      handled.answer();
    });
    const of = client();
    call(of, { method: "lab.Service/First" });
    call(of, { method: "lab.Service/Second" });
    await world.run(100);
    expect(seen).toEqual(["lab.Service/First at 13", "lab.Service/Second at 13"]);
  });
});

describe("a channel with several addresses", () => {
  it("stays with the first one that answers, with pick_first", async () => {
    const { world, client, server, call } = scene();
    const served: string[] = [];
    for (const name of ["b:1", "c:1"]) {
      server((handled) => {
        served.push(name);
        handled.answer();
      }, name);
    }
    const of = client(["a:1", "b:1", "c:1"]);
    for (const atMs of [0, 20, 30]) call(of, { atMs });
    await world.run(100);
    expect(served).toEqual(["b:1", "b:1", "b:1"]);
  });

  it("goes to the next one when the first is killed, with pick_first", async () => {
    const { world, client, server, call } = scene();
    const killed = server(undefined, "a:1");
    server(undefined, "b:1");
    const of = client(["a:1", "b:1"]);
    call(of);
    world.at(20, () => killed.kill());
    const next = call(of, { atMs: 30 });
    await world.run(100);
    expect(next.ended?.code).toBe(status.OK);
  });

  it("takes them in turn with round_robin, and leaves out those that are down", async () => {
    const { world, client, server, call } = scene();
    const served: string[] = [];
    const processes = ["a:1", "b:1", "c:1"].map((name) =>
      server((handled) => {
        served.push(name);
        handled.answer();
      }, name),
    );
    const of = client(["a:1", "b:1", "c:1"], { balancing: "round_robin" });
    call(of, { atMs: 0 });
    for (let number = 0; number < 6; number += 1) call(of, { atMs: 20 + number });
    world.at(40, () => processes[0]?.kill());
    const later = Array.from({ length: 4 }, (_, number) => call(of, { atMs: 50 + number }));
    await world.run(100);
    expect(served.slice(1, 7).toSorted()).toEqual(["a:1", "a:1", "b:1", "b:1", "c:1", "c:1"]);
    expect(later.map(({ ended }) => ended?.code)).toEqual([0, 0, 0, 0]);
    expect(served.slice(7).toSorted()).toEqual(["b:1", "b:1", "c:1", "c:1"]);
  });

  it("fails calls with round_robin when none answers, and serves again when one is back", async () => {
    const { world, client, server, call } = scene();
    const options = { "grpc.initial_reconnect_backoff_ms": 50 };
    const of = client(["a:1", "b:1"], { balancing: "round_robin", options });
    const refused = call(of);
    world.at(20, () => server(undefined, "b:1"));
    const later = call(of, { atMs: 100 });
    await world.run(200);
    expect(refused.ended).toMatchObject({ code: status.UNAVAILABLE, origin: "never-sent" });
    expect(later.ended?.code).toBe(status.OK);
  });

  it("tells its state to those that watch it", async () => {
    const { world, client, server, call } = scene();
    const process = server();
    const of = client();
    const seen: string[] = [];
    const watch = () => {
      const state = of.channel.getConnectivityState(false);
      seen.push(connectivityState[state]);
      of.channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, watch);
    };
    watch();
    call(of);
    world.at(20, () => process.kill());
    call(of, { atMs: 30 });
    await world.run(100);
    expect(seen).toEqual([
      "IDLE",
      "CONNECTING",
      "READY",
      "IDLE",
      "CONNECTING",
      "TRANSIENT_FAILURE",
    ]);
  });
});

describe("a channel with a retry policy", () => {
  const policy = {
    maxAttempts: 3,
    initialBackoffMs: 100,
    maxBackoffMs: 1_000,
    backoffMultiplier: 2,
    retryableStatusCodes: [status.UNAVAILABLE],
    maxTokens: 10,
    tokenRatio: 0.1,
  };

  it("sends a call again that failed with one of its codes, and shows the last status", async () => {
    const { world, client, server, call } = scene();
    const failures = [status.UNAVAILABLE, status.UNAVAILABLE];
    server((handled) => {
      const code = failures.shift();
      if (code === undefined) handled.answer();
      else handled.fail(code, "not yet");
    });
    const made = call(client(["server:1"], { retryPolicy: policy }));
    await world.run(1_000);
    expect(made.ended).toMatchObject({ code: status.OK });
    expect(made.ended?.atMs).toBeGreaterThan(80 + 160);
    expect(made.ended?.atMs).toBeLessThan(120 + 240 + 20);
  });

  it("does not send it again with another code, or more often than it may", async () => {
    const { world, client, server, call } = scene();
    let calls = 0;
    let code = status.INTERNAL;
    server((handled) => {
      calls += 1;
      handled.fail(code, "broken");
    });
    const of = client(["server:1"], { retryPolicy: policy });
    call(of);
    await world.run(1_000);
    expect(calls).toBe(1);
    code = status.UNAVAILABLE;
    call(of);
    await world.run(3_000);
    expect(calls).toBe(4);
  });

  it("stops when half of the tokens are gone", async () => {
    const { world, client, server, call } = scene();
    let calls = 0;
    server((handled) => {
      calls += 1;
      handled.fail(status.UNAVAILABLE, "broken");
    });
    const of = client(["server:1"], { retryPolicy: policy });
    for (let number = 0; number < 20; number += 1) call(of, { atMs: number * 1_000 });
    await world.run(30_000);
    // Two calls of three attempts cost six tokens: the second had five left before its last one.
    expect(calls).toBe(23);
  });

  it("ends at the deadline while it waits", async () => {
    const { world, client, server, call } = scene();
    server((handled) => handled.fail(status.UNAVAILABLE, "broken"));
    const made = call(client(["server:1"], { retryPolicy: policy }), { deadlineMs: 50 });
    await world.run(1_000);
    expect(made.ended).toMatchObject({
      code: status.DEADLINE_EXCEEDED,
      details: "Deadline exceeded after 0.050s",
      atMs: 50,
    });
  });
});
