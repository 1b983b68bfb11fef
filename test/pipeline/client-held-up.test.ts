import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { Clock } from "../../src/core/clock.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../src/weir.js";
import { echo, handlers, kinds, startCall } from "../scene.js";

/**
 * A client in a process whose timers are late, by so much, in front of a server that never answers, but for the first
 * calls.
 */
async function heldUp(lateMs: number, client: ClientPolicy, answered = 0) {
  let begun = 0;
  let latencyMs = 1;
  const transport = inMemoryTransport({ network: { latencyMs: () => latencyMs } });
  const { clock, random } = transport;
  const late: Clock = {
    now: () => clock.now(),
    wallNow: () => clock.wallNow(),
    afterPoll: (task) => clock.afterPoll(task),
    schedule: (ms, task, options) => clock.schedule(ms + lateMs, task, options),
  };
  const weir = createWeir({ clock: late, random });
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: handlers((_call, answer) => {
      begun += 1;
      if (begun <= answered) answer();
    }),
    clientOptions: weir.client(client),
    serverInterceptors: [],
  });
  const stub = link.client(ConformanceServiceClient);
  const connected = new Promise((resolve) => {
    stub.waitForReady(clock.wallNow() + 1_000, resolve);
  });
  await link.until(connected, 1e6);
  for (let nth = 0; nth < answered; nth += 1) {
    await link.until(startCall(stub, "unary", {}, new Metadata()).ended, 1e6);
  }
  // Nothing comes back, not even that the server has given up.
  latencyMs = 60_000;
  return {
    weir,
    pass: <T>(promise: Promise<T>) => link.until(promise, 1e6),
    call: (kind: (typeof kinds)[number], deadlineMs?: number) => {
      const options = deadlineMs === undefined ? {} : { deadline: clock.wallNow() + deadlineMs };
      return link.until(startCall(stub, kind, options, new Metadata()).ended, 1e6);
    },
    state: () =>
      weir
        .policy("breaker")
        .snapshot()
        .flatMap(({ breakers }) => Object.values(breakers))
        .map(({ state }) => state),
    retries: () => JSON.stringify(weir.policy("retry").snapshot()),
  };
}

describe.each(kinds)("%s calls that run out of time", (kind) => {
  it.each([
    ["their attempt's own", { attemptMs: 100 }, undefined],
    ["the first response's", { firstResponseMs: 100 }, undefined],
    ["their deadline", {}, 100],
  ] as const)(
    "by timers that were late say nothing of the server: %s",
    async (_whose, timeouts, deadlineMs) => {
      const breaker = { consecutiveFailures: 5 };
      const retry = { idempotent: true, maxAttempts: 1, codes: [Status.DEADLINE_EXCEEDED] };
      const paused = await heldUp(500, { breaker, retry, timeouts });
      for (let nth = 0; nth < 8; nth += 1) {
        expect((await paused.call(kind, deadlineMs)).code).toBe(Status.DEADLINE_EXCEEDED);
      }
      expect(paused.state()).toEqual(["closed"]);
      expect(paused.retries()).toContain('"left":100');
    },
  );

  it("by timers in time say it", async () => {
    const world = await heldUp(0, {
      breaker: { consecutiveFailures: 5 },
      retry: { idempotent: true, maxAttempts: 1, codes: [Status.DEADLINE_EXCEEDED] },
      timeouts: { attemptMs: 100 },
    });
    for (let nth = 0; nth < 8; nth += 1) await world.call(kind);
    expect(world.state()).toEqual(["open"]);
    expect(world.retries()).not.toContain('"left":100');
  });
});

it.each([
  [500, "closed"],
  [0, "open"],
] as const)(
  "calls whose deadline leaves the time that such calls take, and whose timers are %d ms late, leave a breaker %s",
  async (lateMs, state) => {
    const world = await heldUp(lateMs, { breaker: { consecutiveFailures: 5 }, retry: false }, 100);
    for (let nth = 0; nth < 8; nth += 1) {
      expect((await world.call("unary", 100)).code).not.toBe(Status.OK);
    }
    expect(world.state()).toEqual([state]);
  },
);

describe("guarded work that runs out of time", () => {
  it.each([
    [{ timeouts: { totalMs: 100 } }, 500, "closed"],
    [{ timeouts: { attemptMs: 100 } }, 500, "closed"],
    [{ timeouts: { totalMs: 100 } }, 0, "open"],
    [{ timeouts: { attemptMs: 100 } }, 0, "open"],
  ] as const)(
    "%o by timers that are %d ms late leaves its breaker %s",
    async (times, lateMs, state) => {
      const { weir, pass } = await heldUp(lateMs, {});
      const guard = weir.guard("db", { ...times, breaker: { consecutiveFailures: 2 } });
      for (let nth = 0; nth < 2; nth += 1) {
        const run = guard.run(() => new Promise(() => {}));
        await expect(pass(run)).rejects.toMatchObject({ reason: "WORK_TIMEOUT" });
      }
      const { breakers } = weir.policy("breaker").snapshot().at(-1) ?? {};
      expect(Object.values(breakers ?? {}).map((breaker) => breaker.state)).toEqual([state]);
    },
  );
});

describe("a handler whose caller's deadline comes near", () => {
  it("has the margin left when its guarded work and its calls run out of time", async () => {
    const transport = inMemoryTransport({ network: { latencyMs: 1 } });
    const { clock, random } = transport;
    const weir = createWeir({ clock, random });
    const left: number[] = [];
    const never = await transport.open({
      service: ConformanceServiceService,
      implementation: handlers(() => {}),
      clientOptions: weir.client(),
      serverInterceptors: [],
    });
    const below = never.client(ConformanceServiceClient);
    const guard = weir.guard("db", {});
    const implementation: ConformanceServiceServer = {
      ...echo,
      unary(call, callback) {
        const due = Number(call.getDeadline());
        const partial = () => {
          left.push(Math.round(due - clock.wallNow()));
          callback(null, call.request);
        };
        if (call.request.sequence === 3) guard.run(() => new Promise(() => {})).catch(partial);
        else below.unary(call.request, partial);
      },
      serverStream(call) {
        const due = Number(call.getDeadline());
        below.unary({ payload: call.request.payload, sequence: 1 }, () => {
          left.push(Math.round(due - clock.wallNow()));
          call.end();
        });
      },
    };
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation,
      clientOptions: weir.client(),
      serverInterceptors: weir.server({ admission: false }).interceptors ?? [],
    });
    const stub = link.client(ConformanceServiceClient);
    for (const kind of ["unary", "serverStream"] as const) {
      const options = { deadline: clock.wallNow() + 400 };
      const { code } = await link.until(startCall(stub, kind, options, new Metadata()).ended, 1e6);
      expect(code).toBe(Status.OK);
    }
    expect(left).toEqual([5, 5]);
  });
});
