import { type CallOptions, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { breaker } from "../../../src/client.js";
import { encodeStatusDetails, rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { BreakerStateChange } from "../../../src/policies/breaker/breakers.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import {
  callOf,
  ended as endedWith,
  fakeBelow,
  Hearer,
  optionsOf,
} from "../../grpc/client/fake-call.js";
import { type Ended, echo, failing, handlers, kinds, path, payload, scene } from "../../scene.js";
import { breakersOf, onlyBreaker } from "./client-scene.js";

const reasonOf = (ended: Ended) => rejectionOf(ended.error)?.reason;

const nervous = { consecutiveFailures: 1, openMs: 5_000, openJitter: 0 } as const;

describe("the key of a breaker", () => {
  it.each([
    ["target", ["weir-memory:0"]],
    ["service", ["weir-memory:0 weir.v1.ConformanceService"]],
    ["method", [path.bidiStream, path.unary].map((method) => `weir-memory:0 ${method.slice(1)}`)],
  ] as const)("may be the %s", async (key, keys) => {
    const { call, weir, link } = await scene({ client: { retry: false, breaker: { key } } });
    await call("unary");
    await call("bidiStream");
    const named = Object.keys(breakersOf(weir)).map((name) =>
      name.replace(/^\S+/, "weir-memory:0"),
    );
    expect(named).toEqual(keys);
    expect(link.inFlight()).toBe(0);
  });

  it("separates what fails from what does not", async () => {
    const server = handlers(({ fail }, answer) =>
      failingNow ? fail({ code: Status.INTERNAL, details: "broken" }) : answer(),
    );
    let failingNow = true;
    const { call } = await scene({
      handlers: server,
      client: { retry: false, breaker: { ...nervous, key: "method" } },
    });
    await call("unary");
    failingNow = false;
    expect(reasonOf(await call("unary"))).toBe("BREAKER_OPEN");
    expect((await call("serverStream")).code).toBe(Status.OK);
  });

  it("is kept for so many keys", async () => {
    const { call, weir } = await scene({
      client: { retry: false, breaker: { key: "method", maxKeys: 2 } },
    });
    for (const method of kinds) await call(method);
    expect(Object.keys(breakersOf(weir))).toHaveLength(2);
  });
});

describe.each(kinds)("a breaker of %s calls", (method) => {
  it("stays open for as long as the server asks, and longer each time", async () => {
    const { call, weir, clock, link } = await scene({
      handlers: failing(9, {
        code: Status.UNAVAILABLE,
        details: "later",
        metadata: encodedDelay(12_000),
      }).handlers,
      client: { retry: false, breaker: { ...nervous, probes: 1 } },
    });
    await call(method);
    expect(rejectionOf((await call(method)).error)?.retryAfterMs).toBe(12_000);
    await link.pass(12_000);
    await call(method);
    expect(onlyBreaker(weir)).toMatchObject({ state: "open", openedInARow: 2 });
    expect(clock.pending.refs).toBe(0);
  });

  it("counts RESOURCE_EXHAUSTED to the rate, and not as one of a row", async () => {
    const { call, weir } = await scene({
      handlers: failing(9, { code: Status.RESOURCE_EXHAUSTED, details: "too much" }).handlers,
      client: { retry: false, breaker: { ...nervous, minCalls: 3 } },
    });
    await call(method);
    await call(method);
    expect(onlyBreaker(weir)).toMatchObject({ failures: 2, consecutiveFailures: 0 });
    await call(method);
    expect(reasonOf(await call(method))).toBe("BREAKER_OPEN");
  });

  it("opens while calls hang, where it was told when that is", async () => {
    const { start, link, weir } = await scene({
      handlers: handlers(() => {}),
      client: { retry: false, breaker: { consecutiveFailures: 2, inFlightMs: 1_000 } },
    });
    const hanging = [start(method)];
    await link.pass(1_000);
    expect(onlyBreaker(weir)?.state).toBe("closed");
    hanging.push(start(method));
    await link.pass(1_000);
    // The length of a stream is the application's.
    expect(onlyBreaker(weir)?.state).toBe(method === "unary" ? "open" : "closed");
    for (const call of hanging) call.cancel();
    await link.until(Promise.all(hanging.map(({ ended }) => ended)));
    await link.pass(10);
    expect(link.inFlight()).toBe(0);
  });

  it("takes unary calls alone for slow", async () => {
    const { call, weir, clock } = await scene({
      handlers: handlers((_call, answer) => clock.schedule(101, answer)),
      client: { retry: false, breaker: { slowMs: 100, minCalls: 2 } },
    });
    await call(method);
    await call(method);
    expect(onlyBreaker(weir)?.state).toBe(method === "unary" ? "open" : "closed");
  });

  it("lets critical calls through its ramp, and refuses others by chance", async () => {
    const { call, start, link, weir, clock } = await scene({
      handlers: handlers((_call, answer) => clock.schedule(20, answer)),
      client: { retry: false, breaker: { ...nervous, probes: 1 } },
    });
    weir.policy("breaker").forceOpen();
    expect(rejectionOf((await call(method)).error)?.retryAfterMs).toBeUndefined();
    weir.policy("breaker").release();
    expect((await call(method)).code).toBe(Status.OK);
    const critical = weir.with({}, { priority: "critical" });
    const many = (options: CallOptions) => Array.from({ length: 20 }, () => start(method, options));
    const calls = [...many({}), ...many(critical)];
    const ended = await link.until(Promise.all(calls.map((one) => one.ended)));
    const reasons = ended.map(reasonOf);
    expect(new Set(reasons.slice(0, 20))).toEqual(new Set([undefined, "BREAKER_RAMPING"]));
    expect(new Set(reasons.slice(20))).toEqual(new Set([undefined]));
    expect(clock.pending.refs).toBe(0);
  });
});

describe.each(kinds)("a breaker of %s calls to a server that is gone", (method) => {
  it("lets probes through as soon as there is a connection again, however long its open period", async () => {
    const { call, weir, link, transport, clock } = await scene({
      client: { retry: false, breaker: { ...nervous, openMs: 3_600_000 } },
    });
    expect((await call(method)).code).toBe(Status.OK);
    transport.server.crash();
    await link.pass(10);
    await call(method);
    expect(reasonOf(await call(method))).toBe("BREAKER_OPEN");
    transport.server.start();
    const backAtMs = clock.now();
    for (;;) {
      const ended = await call(method);
      if (ended.code === Status.OK) break;
      expect(reasonOf(ended)).toBe("BREAKER_OPEN");
      await link.pass(10);
    }
    // The default wait between attempts to connect, a fifth longer by chance.
    expect(clock.now() - backAtMs).toBeLessThan(1_300);
    expect(onlyBreaker(weir)?.state).not.toBe("open");
    expect(clock.pending.refs).toBe(0);
  });

  it("takes what all calls hear of one failed connect for one failure", async () => {
    const { call, weir, link, transport } = await scene({
      client: { retry: false, breaker: { consecutiveFailures: 2 } },
    });
    await call(method);
    transport.server.crash();
    await link.pass(10);
    for (let n = 0; n < 20; n++) {
      expect(reasonOf(await call(method))).toBeUndefined();
      await link.pass(10);
    }
    expect(onlyBreaker(weir)).toMatchObject({ state: "closed", consecutiveFailures: 1 });
  });
});

describe.each(["serverStream", "bidiStream"] as const)("a breaker of %s calls", (method) => {
  it("closes on streams that deliver and go on", async () => {
    const { start, link, weir } = await scene({
      handlers: {
        ...echo,
        serverStream: (stream) => void stream.write({ payload, sequence: 1 }),
        bidiStream: (stream) => void stream.write({ payload, sequence: 1 }),
      },
      client: { retry: false, breaker: { ...nervous, probes: 2 } },
    });
    weir.policy("breaker").forceOpen();
    weir.policy("breaker").release();
    const streams = [start(method), start(method)];
    await link.pass(10);
    expect(onlyBreaker(weir)?.state).toBe("closed");
    for (const stream of streams) stream.cancel();
    await link.until(Promise.all(streams.map(({ ended }) => ended)));
    expect(onlyBreaker(weir)).toMatchObject({ state: "closed", failures: 0 });
  });
});

describe.each(["unary", "server-stream"] as const)("a breaker in front of %s calls", (kind) => {
  it.each([
    ["several servers stays closed while one of them serves", "10.0.0.2:443", []],
    ["one server opens though that has served before", "10.0.0.1:443", ["open"]],
    ["calls of which it is not known where they went opens", "unknown", ["open"]],
  ] as const)("to %s", (_, failingPeer, expected) => {
    const below = fakeBelow();
    const changes: string[] = [];
    const interceptor = breaker({
      clock: new VirtualClock(),
      consecutiveFailures: 3,
      onStateChange: ({ to }) => void changes.push(to),
    });
    // The metadata of a server that ends a call without headers.
    const sent = Metadata.fromHttp2Headers({ "content-type": "application/grpc" });
    const failed = endedWith(Status.UNAVAILABLE, "broken", sent);
    const latest = () => callOf(below.calls, below.calls.length - 1);
    const start = (peer: string) => {
      const started = interceptor(optionsOf(kind), (options) => {
        const call = below.nextCall(options);
        // Until it is sent, a call names its target.
        latest().peer = "dns:///service";
        return call;
      });
      started.start(new Metadata(), new Hearer());
      latest().peer = peer;
      return latest();
    };
    const served = start("10.0.0.1:443");
    served.headers();
    served.message("a");
    // A stream that has had a message counts as served, however long it goes on.
    if (kind === "unary") served.end(endedWith(Status.OK));
    for (const _call of [1, 2, 3]) start(failingPeer).end(failed);
    expect(changes).toEqual(expected);
  });
});

describe("the hand on breakers", () => {
  it("lets a key pass that is disabled, and counts nothing", async () => {
    const { call, weir, decisions } = await scene({
      handlers: failing(9).handlers,
      client: { retry: false, breaker: nervous },
    });
    await call("unary");
    const [key = ""] = Object.keys(breakersOf(weir));
    weir.policy("breaker").disable(key);
    for (let n = 0; n < 3; n++) expect(reasonOf(await call("unary"))).toBeUndefined();
    expect(decisions).toEqual([]);
    weir.policy("breaker").observe(key);
    expect(reasonOf(await call("unary"))).toBeUndefined();
    expect(decisions).toMatchObject([{ reason: "BREAKER_OPEN", enforced: false }]);
    weir.policy("breaker").release(key);
    expect(reasonOf(await call("unary"))).toBe("BREAKER_OPEN");
  });

  it("tells of changes, and takes states over to another weir", async () => {
    const told: BreakerStateChange[] = [];
    const policy = {
      retry: false,
      breaker: {
        ...nervous,
        onStateChange: (change: BreakerStateChange) => void told.push(change),
      },
    } as const;
    const one = await scene({ handlers: failing(1).handlers, client: policy });
    const heard: string[] = [];
    one.weir.policy("breaker").onStateChange(({ to, reason }) => heard.push(`${to}: ${reason}`));
    await one.call("unary");
    expect(heard).toEqual(["open: consecutive-failures"]);
    expect(told).toMatchObject([
      { key: expect.stringContaining("ConformanceService"), to: "open" },
    ]);
    await one.link.pass(2_000);
    const saved = JSON.stringify(one.weir.policy("breaker").snapshot());
    const other = await scene({ client: policy });
    other.weir.policy("breaker").restore(JSON.parse(saved));
    expect(rejectionOf((await other.call("unary")).error)?.retryAfterMs).toBe(3_000);
  });
});

function encodedDelay(retryDelayMs: number) {
  const metadata = new Metadata();
  const details = encodeStatusDetails(Status.UNAVAILABLE, "later", { retryDelayMs });
  metadata.set("grpc-status-details-bin", details);
  return metadata;
}
