import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  status as Status,
} from "@grpc/grpc-js";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import type { ConformanceServiceServer } from "../../../src/gen/weir/v1/conformance.js";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import { environmentOf } from "../../../src/grpc/environment.js";
import type { ServerPolicyOptions } from "../../../src/grpc/server/policy.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import type { FaultsSnapshot } from "../../../src/policies/faults/faults.js";
import {
  type ServerFaultsOptions,
  ServerFaultsPolicy,
} from "../../../src/policies/faults/server.js";
import type { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../../src/weir.js";
import { echo, failing, handlers, kinds, payload, scene } from "../../scene.js";

const bare = { retry: false, breaker: false } as const;

beforeEach(() => {
  vi.stubEnv("GRPC_WEIR_FAULTS", "1");
  return () => vi.unstubAllEnvs();
});

async function faulty(
  faults: ServerFaultsOptions & Pick<ServerPolicyOptions, "mode">,
  policy: ServerPolicy = {},
  own?: ConformanceServiceServer,
  interceptors: ServerInterceptor[] = [],
  clock?: VirtualClock,
) {
  let handled = 0;
  const world = await scene({
    ...(clock === undefined ? {} : { clock }),
    client: bare,
    server: { ...policy, faults },
    ownServer: { interceptors },
    handlers:
      own ??
      handlers((_call, answer) => {
        handled += 1;
        answer();
      }),
  });
  const snapshot = () => world.weir.policy("faults").snapshot()[0] as FaultsSnapshot;
  return {
    ...world,
    handled: () => handled,
    snapshot,
    async expectQuiet() {
      await world.link.pass(100);
      expect(world.link.inFlight()).toBe(0);
      expect(world.clock.pending.refs).toBe(0);
      expect(snapshot().active).toBe(0);
    },
  };
}

describe.each(kinds)("faults of a %s server call", (method) => {
  it("hold the handler back, in the context of its own call", async () => {
    let seen: string | undefined;
    const world = await faulty(
      { latency: { rate: 1, ms: [200, 200] } },
      {},
      handlers((_call, answer) => {
        seen = currentCall()?.method;
        answer();
      }),
    );
    const beganMs = world.clock.now();
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(world.clock.now() - beganMs).toBeGreaterThanOrEqual(200);
    expect(world.clock.now() - beganMs).toBeLessThan(220);
    expect(seen?.toLowerCase()).toContain(method.toLowerCase());
    expect(world.decisions).toMatchObject([
      { policy: "faults", side: "server", detail: "latency: 200 ms", enforced: true },
    ]);
    await world.expectQuiet();
  });

  it("answer in its place, with the pushback that was asked for", async () => {
    const world = await faulty({
      status: { rate: 1, code: Status.RESOURCE_EXHAUSTED, details: "too much", pushbackMs: 250 },
    });
    const ended = await world.call(method);
    expect(ended).toMatchObject({ code: Status.RESOURCE_EXHAUSTED, details: "too much" });
    expect(ended.trailers.get("grpc-retry-pushback-ms")).toEqual(["250"]);
    expect(rejectionOf(ended.error)).toBeUndefined();
    expect(world.handled()).toBe(0);
    expect(world.snapshot().injected).toMatchObject({ status: 1, latency: 0 });
    await world.expectQuiet();
  });

  it.each<[string, ServerFaultsOptions]>([
    ["held back", { latency: { rate: 1, ms: 10_000 } }],
    ["left without an answer", { drop: { rate: 1 } }],
  ])("forget it when the caller leaves or its time is up, while it is %s", async (_how, faults) => {
    const world = await faulty(faults, { admission: { streams: "together", limit: 5 } });
    const cancelled = world.start(method);
    const late = world.start(method, { deadline: world.clock.wallNow() + 100 });
    await world.link.pass(20);
    expect(world.snapshot().active).toBe(2);
    cancelled.cancel();
    const ended = await world.link.until(Promise.all([cancelled.ended, late.ended]));
    expect(ended.map(({ code }) => code)).toEqual([Status.CANCELLED, Status.DEADLINE_EXCEEDED]);
    await world.expectQuiet();
    expect(world.handled()).toBe(0);
    expect(world.weir.policy("admission").snapshot()).toMatchObject([{ running: 0, queued: 0 }]);
  });

  it("stand inside admission: a call that is held back holds its permit", async () => {
    const world = await faulty(
      { drop: { rate: 1 } },
      { admission: { streams: "together", limit: 1, maxQueued: 0 } },
    );
    const dropped = world.start(method);
    await world.link.pass(5);
    const refused = await world.call(method);
    expect(rejectionOf(refused.error)?.reason).toBe("LOAD_SHED");
    dropped.cancel();
    await world.link.until(dropped.ended);
    await world.expectQuiet();
  });

  it("keep nothing of a call that is over before its metadata is handed on", async () => {
    for (const faults of [{ latency: { rate: 1, ms: 60_000 } }, { drop: { rate: 1 } }]) {
      const late: ServerInterceptor = (_method, call) =>
        new ServerInterceptingCall(call, {
          start: (next) =>
            next({
              onReceiveMetadata: (metadata, goOn) => {
                world.clock.schedule(100, () => goOn(metadata));
              },
            }),
        });
      const world: Awaited<ReturnType<typeof faulty>> = await faulty(faults, {}, undefined, [late]);
      const running = world.start(method);
      await world.link.pass(50);
      running.cancel();
      await world.link.until(running.ended);
      await world.expectQuiet();
    }
  });

  it.each<ServerFaultsOptions>([{ drop: { rate: 1 } }, { latency: { rate: 1, ms: 50 } }])(
    "%j end with the weir, as a refusal by this server, whatever copies its metadata",
    async (faults) => {
      const copying: ServerInterceptor = (_method, call) =>
        new ServerInterceptingCall(call, {
          sendStatus: ({ metadata, ...status }, next) =>
            next({ ...status, metadata: metadata?.clone() ?? null }),
        });
      const world = await faulty(faults, {}, undefined, [copying]);
      const held = world.start(method);
      await world.link.pass(5);
      world.weir.close();
      const ended = await world.link.until(held.ended);
      expect(rejectionOf(ended.error)).toMatchObject({
        reason: "DRAINING",
        local: false,
        hops: 0,
      });
      await world.expectQuiet();
      expect(world.handled()).toBe(0);
    },
  );

  it("hold it no longer than they delay it", async () => {
    const world: Awaited<ReturnType<typeof faulty>> = await faulty(
      { latency: { rate: 1, ms: 100 } },
      {},
      handlers((_call, answer) => void world.clock.schedule(500, answer)),
    );
    const running = world.start(method);
    await world.link.pass(50);
    expect(world.snapshot().active).toBe(1);
    await world.link.pass(100);
    expect(world.snapshot().active).toBe(0);
    expect((await world.link.until(running.ended)).code).toBe(Status.OK);
  });

  it.each<[ServerFaultsOptions]>([[{ status: { rate: 1 } }], [{ midStream: { rate: 1 } }]])(
    "%j are not taken for a failure below that has the same words",
    async (faults) => {
      const below = await scene({
        client: { retry: { maxAttempts: 2 }, breaker: false },
        handlers: failing(9, { code: Status.UNAVAILABLE, details: "Fault injected" }).handlers,
      });
      const asking: ServerInterceptor = (_method, call) =>
        new ServerInterceptingCall(call, {
          start: (next) =>
            next({
              onReceiveMetadata: (metadata, goOn) => {
                void below.start("unary").ended.then(() => goOn(metadata));
              },
            }),
        });
      const world = await faulty(faults, {}, undefined, [asking], below.clock);
      const ended = await world.call(method);
      expect(ended).toMatchObject({ code: Status.UNAVAILABLE, details: "Fault injected" });
      expect(rejectionOf(ended.error)).toBeUndefined();
    },
  );

  it("are not even noted while they are off", async () => {
    const world = await faulty({ mode: "off", status: { rate: 1 } });
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(world.snapshot().injected).toMatchObject({ status: 0 });
    expect(world.decisions).toEqual([]);
  });

  it("are only noted while they are observed", async () => {
    const world = await faulty({
      mode: "observe",
      latency: { rate: 1, ms: 5_000 },
      midStream: { rate: 1 },
    });
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(world.decisions).toMatchObject([
      { enforced: false, detail: "latency: 5000 ms" },
      { enforced: false, detail: "midStream: UNAVAILABLE" },
    ]);
    expect(world.snapshot()).toMatchObject({ active: 0, injected: { latency: 0, midStream: 0 } });
  });

  it.each<[ServerFaultsOptions, string]>([
    [{ status: { rate: 1 } }, "status: UNAVAILABLE"],
    [{ drop: { rate: 1 } }, "drop: no answer"],
  ])("%j are only noted while they are observed", async (faults, detail) => {
    const world = await faulty({ mode: "observe", ...faults });
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(world.decisions).toMatchObject([{ enforced: false, detail }]);
    await world.expectQuiet();
  });

  it("are what the call asks for in its metadata, where it may", async () => {
    const asked = new Metadata();
    asked.set("x-fault-delay-ms", "300");
    asked.set("x-fault-status", String(Status.ABORTED));
    for (const options of [{ headers: true }, { headers: false }, {}]) {
      const world = await faulty(options);
      const beganMs = world.clock.now();
      const { code } = await world.call(method, {}, asked);
      const may = options.headers === true;
      expect(code).toBe(may ? Status.ABORTED : Status.OK);
      expect(world.clock.now() - beganMs >= 300).toBe(may);
      expect((await world.call(method)).code).toBe(Status.OK);
      await world.expectQuiet();
    }
  });

  it("are a delay or a status where the call asks for one of them, and no other fault", async () => {
    for (const [key, value, code, tookMs] of [
      ["x-fault-delay-ms", "300", Status.OK, 300],
      ["x-fault-status", "16", Status.UNAUTHENTICATED, 0],
    ] as const) {
      const asked = new Metadata();
      asked.set(key, value);
      const world = await faulty({ headers: true, midStream: { rate: 1 } });
      const beganMs = world.clock.now();
      expect((await world.call(method, {}, asked)).code).toBe(code);
      expect(Math.round(world.clock.now() - beganMs)).toBe(tookMs);
      expect((await world.call(method)).code).toBe(Status.UNAVAILABLE);
    }
  });

  it.each(["-1", "60001", "1e3", "", "17", "0x1", "5, 5"])(
    "are not what the call asks for with %j",
    async (value) => {
      const asked = new Metadata();
      asked.set("x-fault-delay-ms", value === "17" ? "nonsense" : value);
      asked.set("x-fault-status", value === "5, 5" ? "0" : value);
      const world = await faulty({ headers: true });
      expect((await world.call(method, {}, asked)).code).toBe(Status.OK);
      expect(world.decisions).toEqual([]);
    },
  );

  it("break its response off, and tell the handler that it is over", async () => {
    let aborted: boolean | undefined;
    let ends = 0;
    const world = await faulty(
      { midStream: { rate: 1, code: Status.DATA_LOSS, details: "torn" } },
      {},
      handlers((_call, answer) => {
        const { signal } = currentCall() ?? {};
        signal?.addEventListener("abort", () => {
          aborted = true;
          ends += 1;
        });
        answer();
      }),
    );
    const ended = await world.call(method);
    expect(ended).toMatchObject({ code: Status.DATA_LOSS, details: "torn" });
    const streams = method === "serverStream" || method === "bidiStream";
    expect(ended.received).toEqual(streams ? [1] : []);
    expect(aborted).toBe(true);
    expect(ends).toBe(1);
    await world.expectQuiet();
  });
});

describe("a streamed response that breaks off", () => {
  const bytes = (size: number): ConformanceServiceServer => ({
    ...echo,
    serverStream(call) {
      for (let sequence = 1; sequence <= 3; sequence++) {
        call.write({ payload: Buffer.alloc(size), sequence });
      }
      call.end();
    },
  });

  it.each([
    [0, []],
    [1, [1]],
    [1_005, [1]],
    [1_006, [1, 2]],
    [2_100, [1, 2, 3]],
  ])("after %i bytes of messages of a thousand has brought %j", async (afterBytes, received) => {
    const world = await faulty({ midStream: { rate: 1, afterBytes } }, {}, bytes(1_000));
    const ended = await world.call("serverStream");
    expect(ended).toMatchObject({ code: Status.UNAVAILABLE, received });
  });

  it.each([
    [0, []],
    [2, [1, 2]],
  ])(
    "after %i messages completes the writes of a handler that goes on",
    async (afterMessages, received) => {
      const written: number[] = [];
      const world = await faulty(
        { midStream: { rate: 1, afterMessages } },
        {},
        {
          ...echo,
          serverStream(call) {
            const write = (sequence: number) => {
              if (sequence > 10) call.end();
              else {
                call.write({ payload, sequence }, () => {
                  written.push(sequence);
                  write(sequence + 1);
                });
              }
            };
            write(1);
          },
        },
      );
      expect(await world.call("serverStream")).toMatchObject({ code: 14, received });
      await world.expectQuiet();
      expect(written.length).toBeGreaterThan(2);
    },
  );

  it("ends as it would without the fault where a message cannot be sent", async () => {
    const world = await faulty(
      { midStream: { rate: 1, afterBytes: 1 } },
      {},
      {
        ...echo,
        serverStream(call) {
          call.write({ payload: "no bytes", sequence: 1 } as never);
          call.end();
        },
      },
    );
    const { code, details } = await world.call("serverStream");
    expect([code, details]).toEqual([Status.INTERNAL, expect.stringContaining("serializ")]);
    expect(world.snapshot().injected.midStream).toBe(0);
  });

  it("is whole when it is over before", async () => {
    const world = await faulty({ midStream: { rate: 1, afterMessages: 9 } });
    expect(await world.call("bidiStream")).toMatchObject({ code: 0, received: [1, 2, 3] });
    expect(world.snapshot().injected.midStream).toBe(0);
  });
});

describe("faults of a server", () => {
  it("strike those for whom the predicate is true", async () => {
    const world = await faulty({
      status: { rate: 1 },
      when: ({ priority, method }) => priority === "low" && method.endsWith("/Unary"),
    });
    const low = new Metadata();
    low.set("x-request-priority", "low");
    expect((await world.call("unary", {}, low)).code).toBe(Status.UNAVAILABLE);
    expect((await world.call("unary")).code).toBe(Status.OK);
    expect((await world.call("serverStream", {}, low)).code).toBe(Status.OK);
  });

  it("leave health, reflection and channelz alone, unless a predicate says otherwise", () => {
    const environment = environmentOf({}, "test");
    const concerned = (options: ServerFaultsOptions) => {
      const policy = new ServerFaultsPolicy(options, environment, "faults");
      const call = { kind: "unary", peer: "", priority: "normal", previousAttempts: 0 } as const;
      return ["/grpc.health.v1.Health/Check", "/shop.v1.Orders/List"].map((method) =>
        policy.concerns({ ...call, method }),
      );
    };
    expect(concerned({})).toEqual([false, true]);
    expect(concerned({ when: () => true })).toEqual([true, true]);
  });

  it("are out of the way unless the environment allows them", async () => {
    vi.stubEnv("GRPC_WEIR_FAULTS", undefined);
    const world = await faulty({ status: { rate: 1 }, headers: true });
    expect((await world.call("unary")).code).toBe(Status.OK);
    expect(world.snapshot().enabled).toBe(false);
    const interceptors = (policy: ServerPolicy) => createWeir().server(policy).interceptors ?? [];
    expect(interceptors({ faults: {} })).toHaveLength(interceptors({}).length);
  });

  it.each<[unknown, string]>([
    [{ reset: {} }, "server.faults.reset"],
    [{ headers: 1 }, "server.faults.headers"],
    [{ when: true }, "server.faults.when"],
    [{ mode: "on" }, "server.faults.mode"],
    [{ rate: 1 }, "server.faults.rate"],
  ])("refuse %j while they are built", (faults, option) => {
    const build = () => createWeir().server({ faults: faults as ServerFaultsOptions });
    expect(build).toThrowError(InvalidOptionError);
    expect(build).toThrowError(expect.objectContaining({ option }));
  });
});
