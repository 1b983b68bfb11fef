import { connectivityState, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { HandlerCall } from "../../src/lab/server.js";
import { hangingHandler, scene } from "./scene.js";

const slowly = (call: HandlerCall) => void call.process.schedule(50, () => call.answer());

describe("a server that has vanished", () => {
  it("is not noticed: calls on its connection run into their deadlines", async () => {
    const { world, network, client, server, call } = scene();
    server();
    const of = client();
    call(of);
    world.at(20, () => network.interrupt("server:1"));
    const lost = call(of, { atMs: 30, deadlineMs: 500 });
    await world.run(1_000);
    expect(lost.ended).toMatchObject({ code: status.DEADLINE_EXCEEDED, origin: "deadline" });
    expect(of.channel.getConnectivityState(false)).toBe(connectivityState.READY);
  });

  it("gets what was sent to it when TCP sends it again, in its order", async () => {
    const { world, network, client, server, call } = scene();
    const seen: string[] = [];
    server((handled) => {
      seen.push(`${handled.method} at ${handled.process.now()}`);
      handled.answer();
    });
    const of = client();
    call(of, { method: "lab.Service/First" });
    world.at(20, () => network.interrupt("server:1"));
    // Sent at 30, it is sent again 200, 600 and 1,400 ms later.
    call(of, { atMs: 30, method: "lab.Service/Second" });
    world.at(700, () => network.resume("server:1"));
    call(of, { atMs: 1_000, method: "lab.Service/Third" });
    await world.run(2_000);
    expect(seen).toEqual([
      "lab.Service/First at 5",
      "lab.Service/Second at 1431",
      "lab.Service/Third at 1431",
    ]);
  });

  it("is connected to when it is back, at the next attempt of TCP", async () => {
    const { world, network, client, server, call } = scene();
    server();
    network.interrupt("server:1");
    const made = call(client());
    world.at(1_500, () => network.resume("server:1"));
    await world.run(5_000);
    // It tries after 1 s and 3 s, and then takes 6 ms as ever.
    expect(made.ended).toMatchObject({ code: status.OK, atMs: 3_006 });
  });

  it("cannot be connected to, in the end", async () => {
    const { world, network, client, server, call } = scene();
    server();
    network.interrupt("server:1");
    const made = call(client());
    await world.run(130_000);
    expect(made.ended).toMatchObject({ code: status.UNAVAILABLE, atMs: 127_000 });
  });

  it("took the word of its death with it, until the way is free again", async () => {
    const { world, network, client, server, call } = scene();
    const process = server(hangingHandler().handler);
    const made = call(client());
    world.at(20, () => {
      network.interrupt("server:1");
      process.kill();
    });
    world.at(600, () => network.resume("server:1"));
    await world.run(2_000);
    expect(made.ended).toMatchObject({ code: status.UNAVAILABLE, atMs: 621 });
  });
});

describe("a network", () => {
  it("sends a message that got lost again, and what follows waits for it", async () => {
    const { world, client, server, call } = scene(1, { lossShare: 1 });
    server();
    const made = call(client());
    await world.run(1_000);
    // 4 ms to connect, and 201 ms each way.
    expect(made.ended).toMatchObject({ code: status.OK, atMs: 406 });
  });

  it("takes longer to one address than to another", async () => {
    const { world, network, client, server, call } = scene();
    server(undefined, "a:1");
    server(undefined, "b:1");
    network.delay("a:1", 10);
    const far = call(client(["a:1"]));
    const near = call(client(["b:1"]));
    await world.run(1_000);
    expect([far.ended?.atMs, near.ended?.atMs]).toEqual([66, 6]);
  });
});

describe("a server that goes away", () => {
  it("ends the calls that it has, and takes no more", async () => {
    const { world, client, labServer, call } = scene();
    const server = labServer(slowly);
    const of = client();
    const running = call(of);
    const told: number[] = [];
    server.process.deliver(20, () => server.tryShutdown(() => told.push(server.process.now())));
    // It leaves before the client knows.
    const onTheWay = call(of, { atMs: 20 });
    const later = call(of, { atMs: 30 });
    await world.run(200);
    expect([running, onTheWay, later].map(({ ended }) => ended?.code)).toEqual([
      status.OK,
      status.UNAVAILABLE,
      status.UNAVAILABLE,
    ]);
    expect(onTheWay.ended).toMatchObject({ details: "Connection dropped", origin: "transport" });
    expect(later.ended?.origin).toBe("never-sent");
    expect(told).toEqual([55]);
  });

  it("calls back at once where it has no calls", async () => {
    const { world, client, labServer, call } = scene();
    const server = labServer();
    call(client());
    const told: number[] = [];
    server.process.deliver(50, () => server.tryShutdown(() => told.push(server.process.now())));
    await world.run(200);
    expect(told).toEqual([50]);
  });

  it("is replaced by the others without a failed call", async () => {
    const { world, client, labServer, server, call } = scene();
    const first = labServer(slowly, "a:1");
    server(undefined, "b:1");
    const of = client(["a:1", "b:1"], { balancing: "round_robin" });
    call(of);
    first.process.deliver(100, () => first.tryShutdown(() => {}));
    const made = Array.from({ length: 20 }, (_, at) => call(of, { atMs: 110 + at }));
    await world.run(500);
    expect(made.map(({ ended }) => ended?.code)).toEqual(made.map(() => status.OK));
  });
});

describe("a connection that has come of age", () => {
  it("ends with its last call, and the next call gets a new one", async () => {
    const { world, network, client, server, call } = scene();
    server(slowly, "server:1", () => [], { maxConnectionAgeMs: 100 });
    const of = client();
    call(of);
    const running = call(of, { atMs: 80 });
    const next = call(of, { atMs: 120 });
    await world.run(180);
    expect([running.ended?.atMs, next.ended?.atMs]).toEqual([132, 176]);
    expect(network.connectionsTo("server:1")).toHaveLength(2);
  });
});

describe("a name that resolves late", () => {
  it("keeps calls waiting, and they are served then", async () => {
    const { world, client, server, call } = scene();
    server();
    const of = client(["server:1"], { resolveMs: 300 });
    const made = call(of);
    const late = call(of, { deadlineMs: 100 });
    await world.run(50);
    expect(of.channel.getConnectivityState(false)).toBe(connectivityState.CONNECTING);
    await world.run(1_000);
    expect(made.ended).toMatchObject({ code: status.OK, atMs: 306 });
    expect(late.ended).toMatchObject({ code: status.DEADLINE_EXCEEDED });
  });
});

describe("a source of tokens that is down", () => {
  it("fails calls before they are sent", async () => {
    const { world, client, server, call } = scene();
    const { calls, handler } = hangingHandler();
    server(handler);
    const of = client();
    of.channel.tokenFailure = "connect ECONNREFUSED";
    const made = call(of);
    await world.run(100);
    expect(made.ended).toMatchObject({
      code: status.UNKNOWN,
      details: "Getting metadata from plugin failed with error: connect ECONNREFUSED",
    });
    expect(calls).toEqual([]);
  });
});
