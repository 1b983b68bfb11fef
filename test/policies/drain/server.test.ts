import { Metadata, type Server, status as Status } from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import { describe, expect, it } from "vitest";
import { isRefusal } from "../../../src/core/permit.js";
import type { InboundCall } from "../../../src/grpc/context/inbound-call.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import {
  type DrainableServer,
  DrainGate,
  type DrainOptions,
  drainServer,
  resolveDrainOptions,
} from "../../../src/policies/drain/server.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, kinds, scene } from "../../scene.js";

/** A server that ends when it is told to, once nothing runs or by force. */
function serverThatEnds(): DrainableServer & { end: () => void; forced: () => boolean } {
  let callback: ((error?: Error) => void) | undefined;
  let forced = false;
  return {
    tryShutdown: (done) => {
      callback = done;
    },
    forceShutdown: () => {
      forced = true;
      callback?.();
    },
    end: () => callback?.(),
    forced: () => forced,
  };
}

describe.each(kinds)("a drain, with %s calls", (kind) => {
  it("lets calls in flight end, and refuses those who wait and those who come; nothing is lost", async () => {
    const made = await scene({
      client: { retry: false, breaker: false },
      server: { admission: { limit: 1, streams: { limit: 1, maxQueued: 1 }, maxWaitMs: 10_000 } },
      handlers: handlers((_call, answer) => void made.clock.schedule(500, answer)),
    });
    const { start, weir, link, clock } = made;
    const server = serverThatEnds();
    const running = start(kind);
    await clock.pass(50);
    const waiting = start(kind);
    await clock.pass(50);
    const drained = weir.drain(server, { graceMs: 5_000 });
    const late = start(kind);
    const ended = await link.until(Promise.all([running.ended, waiting.ended, late.ended]), 1e9);
    expect(ended.map(({ code }) => code)).toEqual([
      Status.OK,
      Status.UNAVAILABLE,
      Status.UNAVAILABLE,
    ]);
    for (const { error } of ended.slice(1)) {
      expect(rejectionOf(error)).toMatchObject({ reason: "DRAINING", local: false });
    }
    server.end();
    const report = await link.until(drained, 1e9);
    // The one that waited was past this gate, and not yet at its handler.
    expect(report).toMatchObject({ inFlight: 1, cutOff: 0 });
    expect(server.forced()).toBe(false);
    expect(clock.pending.refs).toBe(0);
  });
});

describe("what a server counts for its drain", () => {
  const permitOf = (answer: ReturnType<DrainGate["enter"]>) => {
    if (isRefusal(answer)) throw new Error(answer.detail);
    return answer;
  };

  it("is the calls in flight, and those that it has served: neither failures nor calls that went away", () => {
    const gate = new DrainGate();
    const outcomes = ["success", "success", "success", "failure", "ignored"] as const;
    const permits = outcomes.map((outcome) => ({ outcome, permit: permitOf(gate.enter()) }));
    expect([gate.inFlight, gate.served]).toEqual([5, 0]);
    for (const { outcome, permit } of permits) permit.settle(outcome);
    expect([gate.inFlight, gate.served]).toEqual([0, 3]);
  });

  it("says once that no call is in flight, at once where there is none", () => {
    const gate = new DrainGate();
    const told: string[] = [];
    const telling = (what: string) => () => void told.push(what);
    gate.whenIdle(telling("none"));
    expect(told).toEqual(["none"]);
    const permits = [1, 2].map(() => permitOf(gate.enter()));
    gate.whenIdle(telling("first"));
    gate.whenIdle(telling("second"));
    permits[0]?.settle("success");
    expect(told).toEqual(["none"]);
    permits[1]?.settle("failure");
    expect(told).toEqual(["none", "first", "second"]);
    permitOf(gate.enter()).settle("success");
    expect(told).toHaveLength(3);
  });

  it("lets calls of health services in while it drains", () => {
    const gate = new DrainGate();
    gate.drain();
    expect(gate.enter()).toMatchObject({ reason: "DRAINING" });
    const mode = (method: string) => gate.modeFor({ method } as InboundCall);
    expect(mode("/grpc.health.v1.Health/Check")).toBe("off");
    expect(mode("/a.B/C")).toBe("enforce");
  });
});

describe("a drain", () => {
  it("cuts off what runs longer than the grace, and counts it", async () => {
    const made = await scene({ server: {}, handlers: handlers(() => {}) });
    const { start, weir, link, clock } = made;
    const calls = [start("unary"), start("bidiStream")];
    await clock.pass(50);
    const server = serverThatEnds();
    const report = await link.until(weir.drain(server, { graceMs: 300 }), 1e9);
    expect(report).toEqual({ inFlight: 2, cutOff: 2, tookMs: 300 });
    expect(server.forced()).toBe(true);
    for (const call of calls) call.cancel();
    await link.until(Promise.all(calls.map(({ ended }) => ended)), 1e9);
  });

  it.each([1, 2_000])(
    "says NOT_SERVING first, and goes on serving for the %i ms that others need to notice",
    async (noticeMs) => {
      const { weir, clock, link, start } = await scene({ client: { retry: false }, server: {} });
      const said: string[] = [];
      const health = {
        setStatus: (service: string, status: string) => said.push(`${service} ${status}`),
      };
      const server = serverThatEnds();
      let done = false;
      const drained = weir.drain(server, { health, services: ["", "a.B"], noticeMs });
      void drained.then(() => {
        done = true;
      });
      expect(said).toEqual([" NOT_SERVING", "a.B NOT_SERVING"]);
      const meanwhile = start("unary");
      await clock.pass(noticeMs - 1);
      server.end();
      await clock.pass(0);
      expect(done).toBe(false);
      expect(await link.until(meanwhile.ended)).toMatchObject({ code: Status.OK });
      await clock.pass(1);
      const late = await link.until(start("unary").ended);
      expect(rejectionOf(late.error)?.reason).toBe("DRAINING");
      server.end();
      expect(await link.until(drained)).toMatchObject({ inFlight: 0, cutOff: 0 });
    },
  );

  it("speaks for the server as a whole unless services are named", async () => {
    const said: string[] = [];
    const health = {
      setStatus: (service: string, status: string) => said.push(`${service} ${status}`),
    };
    const server = serverThatEnds();
    const drained = createWeir().drain(server, { health });
    server.end();
    await drained;
    expect(said).toEqual([" NOT_SERVING"]);
  });

  it("flips the health service of grpc-health-check", async () => {
    const health = new HealthImplementation({ "": "SERVING", "a.B": "SERVING" });
    const made = await scene({ server: {} });
    const server = serverThatEnds();
    const drained = made.weir.drain(server, { health, services: ["", "a.B"] });
    server.end();
    await made.link.until(drained, 1e9);
    // The map is its own business, but the only way to ask without a client.
    const { statusMap } = health as unknown as { statusMap: ReadonlyMap<string, string> };
    expect([...statusMap]).toEqual([
      ["", "NOT_SERVING"],
      ["a.B", "NOT_SERVING"],
    ]);
  });

  it("passes on what the server says went wrong", async () => {
    const error = new Error("not started");
    const reported: unknown[] = [];
    const server = {
      tryShutdown: (done: (error?: Error) => void) => done(error),
      forceShutdown: () => {},
    };
    const weir = createWeir({ onError: (...told) => reported.push(told) });
    expect(await weir.drain(server)).toMatchObject({ cutOff: 0, errors: [error] });
    expect(reported).toEqual([[error, "drain.server"]]);
  });

  it.each(["says so again", "throws"])(
    "is over when the server says so, and then %s",
    async (how) => {
      const error = new Error("not started");
      const clock = new VirtualClock();
      const reported: unknown[] = [];
      let forced = 0;
      const server = {
        tryShutdown: (done: (error?: Error) => void) => {
          done();
          if (how === "throws") throw error;
          done(error);
        },
        forceShutdown: () => {
          forced += 1;
        },
      };
      const weir = createWeir({ clock, onError: (told) => reported.push(told) });
      expect(await weir.drain(server)).toMatchObject({ cutOff: 0, tookMs: 0 });
      expect([forced, clock.pending.refs]).toEqual([0, 0]);
      expect(reported).toEqual(how === "throws" ? [error] : []);
    },
  );

  it("ends a moment after the grace though the server never does, and whatever it throws", async () => {
    for (const throws of [false, true]) {
      const clock = new VirtualClock();
      const weir = createWeir({ clock, onError: () => {} });
      let forced = 0;
      const server = {
        tryShutdown: () => {},
        forceShutdown: () => {
          forced += 1;
          if (throws) throw new Error("broken");
        },
      };
      // The server has calls in flight of which this weir knows nothing: it has no server.
      const drained = weir.drain(server, { graceMs: 5_000 });
      await clock.pass(5_250);
      expect(await drained).toEqual({
        inFlight: 0,
        cutOff: 0,
        tookMs: 5_250,
        ...(throws ? { errors: [expect.objectContaining({ message: "broken" })] } : {}),
      });
      expect([forced, clock.pending.refs]).toEqual([1, 0]);
    }
  });

  it("forces a server that cannot even be asked to end", async () => {
    const error = new Error("broken");
    let forced = 0;
    const server = {
      tryShutdown: () => {
        throw error;
      },
      forceShutdown: () => {
        forced += 1;
      },
    };
    const clock = new VirtualClock();
    const drained = createWeir({ clock, onError: () => {} }).drain(server);
    await clock.pass(250);
    expect(await drained).toMatchObject({ errors: [error], tookMs: 250 });
    expect(forced).toBe(1);
  });

  it("waits for nobody once all calls have ended, though peers keep their connections open", async () => {
    const made = await scene({
      server: {},
      handlers: handlers((_call, answer) => void made.clock.schedule(2_000, answer)),
    });
    const { start, weir, link, clock } = made;
    const running = start("unary");
    await clock.pass(50);
    let forced = 0;
    const server = {
      tryShutdown: () => {},
      forceShutdown: () => {
        forced += 1;
      },
    };
    const drained = weir.drain(server, { graceMs: 30_000 });
    expect((await link.until(running.ended, 1e9)).code).toBe(Status.OK);
    const { tookMs, ...report } = await link.until(drained, 1e9);
    expect(report).toEqual({ inFlight: 1, cutOff: 0 });
    expect(tookMs).toBeGreaterThan(2_900);
    expect(tookMs).toBeLessThan(3_500);
    expect(forced).toBe(1);
  });

  it("gives calls of which nobody knows half a minute, unless told otherwise", async () => {
    const clock = new VirtualClock();
    const server = { tryShutdown: () => {}, forceShutdown: () => {} };
    const drained = createWeir({ clock }).drain(server);
    await clock.pass(30_250);
    expect(await drained).toEqual({ inFlight: 0, cutOff: 0, tookMs: 30_250 });
  });

  it("counts a call that is answered until its answer has reached the caller", async () => {
    const made = await scene({
      server: {},
      handlers: handlers((_call, answer) => void made.clock.schedule(500, answer)),
      network: { latencyMs: 40 },
    });
    const { start, weir, link, clock } = made;
    const running = start("unary");
    await clock.pass(600);
    const server = serverThatEnds();
    const drained = weir.drain(server);
    expect((await link.until(running.ended)).code).toBe(Status.OK);
    server.end();
    expect(await link.until(drained)).toMatchObject({ inFlight: 1 });
  });

  it.each([
    [30_000, 1_250],
    [1_000, 1_250],
    [500, 750],
    [0, 250],
  ])(
    "with a grace of %d ms, a server without calls that does not end is left after %d ms",
    async (graceMs, tookMs) => {
      const { weir, link } = await scene({ server: {} });
      const server = { tryShutdown: () => {}, forceShutdown: () => {} };
      const report = await link.until(weir.drain(server, { graceMs }), 1e9);
      expect(report).toEqual({ inFlight: 0, cutOff: 0, tookMs });
    },
  );

  it("waits for the calls of all gates that lead to its server", async () => {
    const clock = new VirtualClock();
    const gates = [new DrainGate(), new DrainGate()];
    const permit = gates[1]?.enter();
    clock.schedule(5_000, () => {
      if (permit !== undefined && !isRefusal(permit)) permit.settle("success");
    });
    const server = { tryShutdown: () => {}, forceShutdown: () => {} };
    const options = resolveDrainOptions(server, { graceMs: 30_000 });
    const environment = { clock, report: () => {} };
    const drained = drainServer(server, { gates, stop: () => {} }, options, environment);
    await clock.pass(7_000);
    // A server without calls has a second for its connections, and a moment to be forced.
    expect(await drained).toEqual({ inFlight: 1, cutOff: 0, tookMs: 6_250 });
  });

  it.each(["throws", "rejects"])(
    "stops admission first, and goes on when the health service %s",
    async (how) => {
      const errors: unknown[] = [];
      const made = await scene({
        server: {},
        client: { retry: false },
        onError: (told) => errors.push(told),
      });
      const { start, weir, link } = made;
      const error = new Error("unknown service");
      const during: Promise<unknown>[] = [];
      const health = {
        setStatus: () => {
          during.push(start("unary").ended);
          if (how === "throws") throw error;
          return Promise.reject(error);
        },
      };
      const server = serverThatEnds();
      const drained = weir.drain(server, { health, services: ["", "a.B"] });
      const [late] = await link.until(Promise.all(during), 1e9);
      expect(late).toMatchObject({ code: Status.UNAVAILABLE });
      server.end();
      expect(await link.until(drained, 1e9)).toMatchObject({ errors: [error, error] });
      expect(errors).toEqual([error, error]);
    },
  );

  it("is one drain, however often it is asked for", async () => {
    const clock = new VirtualClock();
    const weir = createWeir({ clock });
    let asked = 0;
    const server = {
      tryShutdown: () => {
        asked += 1;
      },
      forceShutdown: () => {},
    };
    await expect(weir.drain(server, { graceMs: -1 })).rejects.toThrow("drain.graceMs");
    const first = weir.drain(server, { graceMs: 100 });
    const second = weir.drain(server);
    await clock.pass(350);
    expect(await second).toBe(await first);
    expect(await weir.drain(server)).toBe(await first);
    expect(asked).toBe(1);
  });

  it("sends away those who wait for a key that has been forgotten since", async () => {
    let handled = 0;
    const made = await scene({
      client: { retry: false, breaker: false },
      server: {
        bulkhead: {
          maxConcurrent: 1,
          maxWaitMs: 10_000,
          maxKeys: 1,
          key: ({ metadata }) => String(metadata.get("tenant")[0]),
        },
      },
      handlers: handlers((_call, answer) => {
        handled += 1;
        made.clock.schedule(500, answer);
      }),
    });
    const { start, weir, link, clock } = made;
    const of = (tenant: string) => {
      const metadata = new Metadata();
      metadata.set("tenant", tenant);
      return start("unary", {}, metadata);
    };
    const calls = [of("a"), of("a")];
    await clock.pass(50);
    calls.push(of("b"), of("c"));
    await clock.pass(50);
    // A key that was forgotten while its call runs has no second place.
    calls.push(of("a"));
    await clock.pass(50);
    const server = serverThatEnds();
    const drained = weir.drain(server, { graceMs: 5_000 });
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)), 1e9);
    expect(ended.map(({ code }) => code)).toEqual([
      Status.OK,
      Status.UNAVAILABLE,
      Status.OK,
      Status.OK,
      Status.UNAVAILABLE,
    ]);
    server.end();
    expect(await link.until(drained, 1e9)).toMatchObject({ cutOff: 0 });
    expect(handled).toBe(3);
  });

  it.each([
    ["drain.server", {}, {}],
    ["drain.graceMs", undefined, { graceMs: -1 }],
    ["drain.noticeMs", undefined, { noticeMs: "1s" }],
    ["drain.health", undefined, { health: {} }],
    ["drain.services", undefined, { services: "all" }],
    ["drain.timeoutMs", undefined, { timeoutMs: 5 }],
  ])("refuses nonsense and names %s", async (option, server, options) => {
    const drained = createWeir().drain(
      (server ?? serverThatEnds()) as Server,
      options as DrainOptions,
    );
    await expect(drained).rejects.toThrow(
      expect.objectContaining({ name: "InvalidOptionError", option }),
    );
  });
});
