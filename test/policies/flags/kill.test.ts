import { type Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../../src/core/clock.js";
import { context } from "../../../src/grpc/server/context.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { staticValue } from "../../../src/policies/fallback/client-providers.js";
import { killSwitch as killSwitchOfClient } from "../../../src/policies/flags/client.js";
import { Flags } from "../../../src/policies/flags/flags.js";
import {
  killSwitch as killSwitchOfServer,
  serverKillGates,
} from "../../../src/policies/flags/server.js";
import { staticFlags } from "../../../src/policies/flags/source.js";
import { handlers, kinds, type Method, path, scene } from "../../scene.js";
import { apart, service } from "./kill-scene.js";

const bare = { retry: false, breaker: false } as const;

/** Handlers that count, and answer after `ms`. */
function counting(ms = 0) {
  const counts = { handled: 0 };
  const make = (clock: { schedule(ms: number, task: () => void): unknown }) =>
    handlers((_call, answer) => {
      counts.handled += 1;
      if (ms === 0) answer();
      else clock.schedule(ms, answer);
    });
  return { counts, make };
}

function pushback(trailers: Metadata): unknown {
  return trailers.get("grpc-retry-pushback-ms")[0];
}

describe.each(kinds)("a server whose %s method is switched off", (method: Method) => {
  const flagsOf = [`kill.${path[method].slice(1)}`, `kill.${service}`, "kill"];

  it.each(flagsOf)(
    "by %s refuses the call before its handler, and asks for no retry",
    async (flag) => {
      const { counts, make } = counting();
      const world = await apart({ client: bare, handlers: make });
      world.server.flags.set(flag, true);
      const ended = await world.call(method);
      expect(ended).toMatchObject({ code: Status.UNAVAILABLE, details: "Switched off [KILLED]" });
      expect(pushback(ended.trailers)).toBe("-1");
      expect(rejectionOf(ended.error)).toMatchObject({
        reason: "KILLED",
        local: false,
        metadata: { scope: "instance" },
      });
      expect(counts.handled).toBe(0);
      expect(world.server.decisions).toMatchObject([
        { verdict: "switch", detail: `static: ${flag}: not set → true` },
        {
          policy: "flags",
          verdict: "reject",
          reason: "KILLED",
          enforced: true,
          side: "server",
          method: path[method],
          detail: `by the flag ${flag} (static)`,
        },
      ]);
      world.server.flags.unset(flag);
      expect((await world.call(method)).code).toBe(Status.OK);
    },
  );

  it("is not called again by a client that retries, and counts against nothing there", async () => {
    const { counts, make } = counting();
    const world = await apart({
      client: {
        retry: { idempotent: true, maxAttempts: 5, budget: { maxTokens: 4, tokenRatio: 1 } },
        breaker: { consecutiveFailures: 2 },
        throttle: {},
      },
      handlers: make,
    });
    world.server.flags.set("kill", true);
    for (let n = 0; n < 20; n += 1) {
      expect(await world.call(method)).toMatchObject({ code: Status.UNAVAILABLE });
    }
    const { weir, decisions } = world.caller;
    expect(decisions.map(({ reason }) => reason)).toEqual(Array(20).fill("RETRY_PUSHBACK_STOP"));
    const [breakers] = weir.policy("breaker").snapshot();
    expect(Object.values(breakers?.breakers ?? {})).toMatchObject([
      { state: "closed", failures: 0 },
    ]);
    const [throttles] = weir.policy("throttle").snapshot();
    expect(Object.values(throttles?.throttles ?? {})).toMatchObject([{ throttled: 0 }]);
    const [retries] = weir.policy("retry").snapshot();
    expect(Object.values(retries?.budgets ?? {})).toMatchObject([{ tokens: { left: 4 } }]);
    world.server.flags.set("kill", false);
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(counts.handled).toBe(1);
  });

  it("refuses calls that wait in a queue, and lets those go on that run", async () => {
    const { counts, make } = counting(100);
    const world = await apart({
      client: bare,
      server: {
        admission: {
          limit: 1,
          streams: { limit: 1, maxQueued: 5 },
          maxQueued: 5,
          maxWaitMs: 5_000,
        },
      },
      handlers: make,
    });
    const calls = [world.start(method), world.start(method), world.start(method)];
    await world.link.pass(20);
    world.server.flags.set(`kill.${service}`, true);
    const ended = await world.link.until(Promise.all(calls.map((call) => call.ended)), 1e9);
    expect(ended.map(({ code }) => code)).toEqual([
      Status.OK,
      Status.UNAVAILABLE,
      Status.UNAVAILABLE,
    ]);
    expect(ended.slice(1).map(({ error }) => rejectionOf(error)?.reason)).toEqual([
      "KILLED",
      "KILLED",
    ]);
    expect(counts.handled).toBe(1);
    expect(world.server.weir.policy("admission").snapshot()).toMatchObject([
      { running: 0, queued: 0 },
    ]);
  });
});

describe.each(kinds)("a client whose %s method is switched off", (method: Method) => {
  const flagsOf = [`kill.${path[method].slice(1)}`, `kill.${service}`, "kill"];

  it.each(flagsOf)("by %s sends nothing", async (flag) => {
    const { counts, make } = counting();
    const world = await apart({
      client: { retry: { idempotent: true, maxAttempts: 4 } },
      handlers: make,
    });
    world.caller.flags.set(flag, true);
    const ended = await world.call(method);
    expect(ended).toMatchObject({
      code: Status.UNAVAILABLE,
      details: `Switched off: by the flag ${flag} (static) [KILLED]`,
    });
    expect(rejectionOf(ended.error)).toMatchObject({ reason: "KILLED", local: true });
    expect(counts.handled).toBe(0);
    expect(world.link.inFlight()).toBe(0);
    expect(world.caller.decisions).toMatchObject([
      { verdict: "switch" },
      {
        policy: "flags",
        verdict: "reject",
        reason: "KILLED",
        side: "client",
        method: path[method],
      },
    ]);
    const [breakers] = world.caller.weir.policy("breaker").snapshot();
    expect(Object.values(breakers?.breakers ?? {}).map(({ state }) => state)).not.toContain("open");
    world.caller.flags.unset(flag);
    expect((await world.call(method)).code).toBe(Status.OK);
  });

  it("does not send what waits in the queue of a bulkhead, and lets those go on that run", async () => {
    const { counts, make } = counting(100);
    const world = await apart({
      client: { ...bare, bulkhead: { maxConcurrent: 1, maxQueued: 5, maxWaitMs: 5_000 } },
      handlers: make,
    });
    const calls = [world.start(method), world.start(method), world.start(method)];
    await world.link.pass(20);
    world.caller.flags.set(`kill.${service}`, true);
    const ended = await world.link.until(Promise.all(calls.map((call) => call.ended)), 1e9);
    expect(ended.map(({ code }) => code)).toEqual([
      Status.OK,
      Status.UNAVAILABLE,
      Status.UNAVAILABLE,
    ]);
    expect(counts.handled).toBe(1);
    const [bulkheads] = world.caller.weir.policy("bulkhead").snapshot();
    expect(Object.values(bulkheads?.bulkheads ?? {})).toMatchObject([{ running: 0, queued: 0 }]);
  });

  it("does not send what waits between two attempts: the call ends with what the first attempt ended with", async () => {
    let handled = 0;
    const world = await apart({
      client: {
        retry: { idempotent: true, maxAttempts: 3, backoff: { baseMs: 1_000, jitter: "none" } },
      },
      handlers: () =>
        handlers((call) => {
          handled += 1;
          call.fail({ code: Status.UNAVAILABLE, details: "not now" });
        }),
    });
    const running = world.start(method);
    await world.link.pass(100);
    world.caller.flags.set("kill", true);
    const ended = await world.link.until(running.ended, 1e9);
    expect(ended).toMatchObject({
      code: Status.UNAVAILABLE,
      details: expect.stringMatching("not now"),
    });
    expect(handled).toBe(1);
    expect(world.caller.decisions.map(({ reason }) => reason)).toContain("KILLED");
  });
});

describe("a kill switch", () => {
  it("lets streams go on that run, message by message", async () => {
    const world = await apart({
      client: bare,
      handlers: (clock) => handlers((_call, answer) => void clock.schedule(50, answer)),
    });
    const running = [world.start("serverStream"), world.start("bidiStream")];
    await world.link.pass(10);
    world.server.flags.set("kill", true);
    world.caller.flags.set("kill", true);
    const ended = await world.link.until(Promise.all(running.map((call) => call.ended)), 1e9);
    expect(ended).toMatchObject([
      { code: Status.OK, received: [1, 2, 3] },
      { code: Status.OK, received: [1, 2, 3] },
    ]);
  });

  it("on a client is answered by a fallback, as for a method that fails", async () => {
    const world = await apart({
      client: { ...bare, fallback: { providers: [staticValue({ sequence: 7 })] } },
    });
    world.caller.flags.set("kill", true);
    expect(await world.call("unary")).toMatchObject({ code: Status.OK, received: [7] });
  });

  it("says why in the span of the call, in its history and when it is explained", async () => {
    const flags = staticFlags({ kill: true });
    const world = await scene({ client: bare, server: {}, flags });
    const ended = await world.call("unary");
    const [known] = world.weir.history().last;
    expect(known).toMatchObject({ reason: "KILLED", refusedBy: "flags", status: "UNAVAILABLE" });
    expect(world.weir.explain(ended.error)).toMatch(
      /A policy of this process refused it \(flags\).*\n.*Somebody has switched the method/,
    );
  });

  it("is in the snapshot of the weir, with its last changes", async () => {
    const flags = staticFlags();
    const world = await scene({ client: bare, server: {}, flags });
    flags.set("kill", true);
    await world.call("unary");
    await world.call("unary");
    expect(world.weir.snapshot().flags).toMatchObject({
      source: "static",
      values: { kill: true },
      changes: [{ flag: "kill", from: undefined, to: true }],
      killed: 2,
    });
  });

  it("is no part of a weir without flags", async () => {
    const world = await scene({ client: bare, server: {} });
    expect(world.weir.snapshot()).not.toHaveProperty("flags");
  });

  it("stays as it is when the weir is closed", async () => {
    const flags = staticFlags({ kill: true });
    const world = await scene({ client: bare, server: {}, flags });
    world.weir.close();
    flags.unset("kill");
    expect(world.weir.snapshot().flags?.values).toEqual({ kill: true });
  });
});

describe.each(kinds)(
  "the kill switch as an interceptor of its own, for %s calls",
  (method: Method) => {
    it("refuses on a client", async () => {
      const flags = staticFlags();
      const world = await scene({
        client: bare,
        ownClient: { interceptors: [killSwitchOfClient({ flags })] },
      });
      expect((await world.call(method)).code).toBe(Status.OK);
      flags.set("kill", true);
      const ended = await world.call(method);
      expect(rejectionOf(ended.error)).toMatchObject({ reason: "KILLED", local: true });
    });

    it("refuses on a server", async () => {
      const flags = staticFlags();
      const world = await scene({
        client: bare,
        ownServer: { interceptors: [context(), killSwitchOfServer({ flags })] },
      });
      expect((await world.call(method)).code).toBe(Status.OK);
      flags.set("kill", true);
      const ended = await world.call(method);
      expect(rejectionOf(ended.error)).toMatchObject({ reason: "KILLED", local: false });
      expect(pushback(ended.trailers)).toBe("-1");
    });
  },
);

it("health checks and reflection are never switched off", () => {
  const flags = new Flags(staticFlags({ kill: true, "kill.grpc.health.v1.Health": true }), {
    clock: systemClock,
    report: () => {},
    onDecision: undefined,
  });
  const { first, behindQueues } = serverKillGates(flags);
  const mode = (method: string) =>
    [first, behindQueues].map((gate) => gate.modeFor({ method } as never));
  expect(mode("/grpc.health.v1.Health/Check")).toEqual(["off", "off"]);
  expect(mode("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")).toEqual(["off", "off"]);
  expect(mode("/shop.v1.Orders/Place")).toEqual(["enforce", "enforce"]);
});
