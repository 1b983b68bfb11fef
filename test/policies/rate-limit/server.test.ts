import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { InboundCall } from "../../../src/grpc/context/inbound-call.js";
import { environmentOf } from "../../../src/grpc/environment.js";
import { readPushback } from "../../../src/grpc/metadata.js";
import type { QuotaCall } from "../../../src/grpc/server/policy.js";
import { decodeStatusDetails, rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import {
  type QuotaOptions,
  quota,
  quotaPolicies,
} from "../../../src/policies/rate-limit/server.js";
import type { QuotaAnswer } from "../../../src/policies/rate-limit/store.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, kinds, path, scene } from "../../scene.js";

const bare = { retry: false, breaker: false } as const;
const tenantOf = ({ metadata }: QuotaCall) =>
  `tenant:${String(metadata.get("x-tenant")[0] ?? "none")}`;

function tenant(name: string): Metadata {
  const metadata = new Metadata();
  metadata.set("x-tenant", name);
  return metadata;
}

/** Counts the calls that handlers have seen. */
function counting() {
  let handled = 0;
  return {
    handled: () => handled,
    handlers: handlers((_call, answer) => {
      handled += 1;
      answer();
    }),
  };
}

describe.each(kinds)("quota of %s", (method) => {
  it("is for each tenant, and its refusals say whose it is and when to come back", async () => {
    const server = counting();
    const { call, clock, link, weir } = await scene({
      client: bare,
      server: { quota: { ratePerSecond: 2, burst: 1, key: tenantOf } },
      handlers: server.handlers,
    });
    expect((await call(method, {}, tenant("acme"))).code).toBe(Status.OK);
    expect((await call(method, {}, tenant("other"))).code).toBe(Status.OK);
    const refused = await call(method, {}, tenant("acme"));
    expect(refused.code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(refused.details).toContain('"tenant:acme" has used up 2 per second, burst 1');
    expect(rejectionOf(refused.error)).toMatchObject({
      reason: "RATE_LIMIT_EXCEEDED",
      local: false,
      hops: 0,
      metadata: { scope: "instance", priority: "normal" },
    });
    const { quotaViolations, retryDelayMs = 0 } = decodeStatusDetails(refused.trailers);
    expect(quotaViolations).toMatchObject([{ subject: "tenant:acme" }]);
    expect(retryDelayMs).toBeGreaterThan(0);
    expect(retryDelayMs).toBeLessThanOrEqual(550);
    expect(readPushback(refused.trailers)).toBe(retryDelayMs);
    expect(server.handled()).toBe(2);
    await link.pass(retryDelayMs);
    expect((await call(method, {}, tenant("acme"))).code).toBe(Status.OK);
    expect(weir.policy("quota").snapshot()).toMatchObject([
      { admitted: 3, refused: 1, queued: 0, asking: 0 },
    ]);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });

  it("is obeyed by a client with the toolkit: it comes back when it was told, whatever the method", async () => {
    const server = counting();
    const { call, clock, decisions } = await scene({
      client: { breaker: { consecutiveFailures: 1 }, retry: { idempotent: false } },
      server: { quota: { ratePerSecond: 2, burst: 1 } },
      handlers: server.handlers,
    });
    await call(method);
    const beganMs = clock.now();
    expect((await call(method)).code).toBe(Status.OK);
    expect(clock.now() - beganMs).toBeGreaterThanOrEqual(500);
    expect(clock.now() - beganMs).toBeLessThanOrEqual(560);
    expect(server.handled()).toBe(2);
    expect(decisions.map(({ policy, verdict }) => [policy, verdict])).toEqual([
      ["quota", "reject"],
      ["retry", "retry"],
    ]);
  });

  it("asks not to be retried by a call that can never pass", async () => {
    const { call, decisions } = await scene({
      client: { breaker: false },
      server: { quota: { ratePerSecond: 2, burst: 1, cost: () => 5 } },
    });
    const refused = await call(method);
    expect(rejectionOf(refused.error)?.reason).toBe("RATE_LIMIT_EXCEEDED");
    expect(readPushback(refused.trailers)).toBe("stop");
    expect(decodeStatusDetails(refused.trailers)).toMatchObject({
      quotaViolations: [{ subject: "server" }],
    });
    expect(decisions.map(({ verdict }) => verdict)).toEqual(["reject", "stop"]);
  });

  it("holds calls back that may wait, in order of priority, and their handlers with them", async () => {
    const at: [unknown, number][] = [];
    const { start, link, clock, weir } = await scene({
      client: bare,
      server: { quota: { ratePerSecond: 10, burst: 1, maxWaitMs: 1_000 } },
      handlers: handlers(({ metadata }, answer) => {
        at.push([metadata.get("x-request-priority")[0], clock.now()]);
        answer();
      }),
    });
    const wanted = ["normal", "low", "high"] as const;
    const calls = wanted.map((priority) => start(method, weir.with({}, { priority })));
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(at.map(([priority]) => priority)).toEqual(["normal", "high", "low"]);
    const [first = 0, second = 0, third = 0] = at.map(([, ms]) => ms);
    expect([second - first, third - second]).toEqual([100, 100]);
    expect(clock.pending.refs).toBe(0);
  });

  it("forgets a caller who leaves while it waits, and never runs the handler for him", async () => {
    const server = counting();
    const { start, link, clock, weir } = await scene({
      client: bare,
      server: { quota: { ratePerSecond: 10, burst: 1, maxWaitMs: 10_000 } },
      handlers: server.handlers,
    });
    const [first, second, third] = [start(method), start(method), start(method)];
    await link.pass(10);
    second.cancel();
    await link.until(Promise.all([first.ended, second.ended, third.ended]));
    await link.pass(1_000);
    expect(server.handled()).toBe(2);
    expect(weir.policy("quota").snapshot()).toMatchObject([{ queued: 0, left: 1, admitted: 2 }]);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });

  it("ends those who wait when the weir is closed", async () => {
    const { start, link, clock, weir, call } = await scene({
      client: bare,
      server: { quota: { ratePerSecond: 1, burst: 1, maxWaitMs: 10_000 } },
    });
    await call(method);
    const waiting = start(method);
    await link.pass(10);
    weir.close();
    expect(rejectionOf((await link.until(waiting.ended)).error)?.reason).toBe("DRAINING");
    expect(clock.pending.refs).toBe(0);
  });

  it("of several kinds must be passed all, and none is spent by a call that another refuses", async () => {
    const { call, weir } = await scene({
      client: bare,
      server: {
        quota: [
          { ratePerSecond: 0.001, burst: 3, key: tenantOf },
          { ratePerSecond: 0.001, burst: 2 },
        ],
      },
    });
    const codes = [];
    for (const name of ["acme", "acme", "acme", "acme", "acme"]) {
      codes.push((await call(method, {}, tenant(name))).code);
    }
    // Were its tokens not given back, the tenant's own quota would refuse from the fourth on.
    expect(codes).toEqual([0, 0, 8, 8, 8]);
    const refused = await call(method, {}, tenant("acme"));
    expect(decodeStatusDetails(refused.trailers)).toMatchObject({
      quotaViolations: [{ subject: "server" }],
    });
    weir.policy("quota").mode = "off";
    expect((await call(method, {}, tenant("acme"))).code).toBe(Status.OK);
  });

  it("of several kinds lets a tenant that has used up its own take no tokens from others that wait", async () => {
    const { start, call, link, clock } = await scene({
      client: bare,
      server: {
        quota: [
          { ratePerSecond: 10, burst: 1, maxWaitMs: 1_000 },
          { ratePerSecond: 0.001, burst: 1, key: tenantOf },
        ],
      },
    });
    await call(method, {}, tenant("acme"));
    const beganMs = clock.now();
    const waiting = ["acme", "acme", "acme", "other"].map((name) =>
      start(method, {}, tenant(name)),
    );
    const ended = await link.until(Promise.all(waiting.map((each) => each.ended)));
    expect(ended.map(({ code }) => code)).toEqual([8, 8, 8, 0]);
    // All had their turn when the first had: its token came back, and went on to the next.
    expect(clock.now() - beganMs).toBeLessThan(200);
  });

  it("that observes sees what those before it let pass", async () => {
    const { call, decisions } = await scene({
      client: bare,
      server: {
        quota: [
          { ratePerSecond: 0.001, burst: 2 },
          { ratePerSecond: 0.001, burst: 1, mode: "observe" },
        ],
      },
    });
    expect([
      (await call(method)).code,
      (await call(method)).code,
      (await call(method)).code,
    ]).toEqual([0, 0, 8]);
    expect(decisions.map(({ policy, enforced }) => [policy, enforced])).toEqual([
      ["quota", false],
      ["quota", true],
    ]);
  });

  it("that observes has its tokens back of a call that another refuses", async () => {
    const { call, weir, decisions } = await scene({
      client: bare,
      server: {
        quota: [
          { ratePerSecond: 0.001, burst: 2, mode: "observe" },
          { ratePerSecond: 0.001, burst: 1 },
        ],
      },
    });
    const codes = [];
    for (let n = 0; n < 3; n += 1) codes.push((await call(method)).code);
    expect(codes).toEqual([0, 8, 8]);
    expect(decisions.map(({ enforced }) => enforced)).toEqual([true, true]);
    weir.policy("quota").mode = "observe";
    await call(method);
    expect((await call(method)).code).toBe(Status.OK);
    expect(weir.observed().quota?.RATE_LIMIT_EXCEEDED?.refused).toBe(3);
  });

  describe("is spent by calls that handlers see: tokens come back", () => {
    const oneSlot = { limit: 1, streams: "together", thresholds: false, pressure: false } as const;
    /** A server that has room for one call, and whose handlers hold it until it is let go. */
    const full = async (server: ServerPolicy, quota: Partial<QuotaOptions> = {}) => {
      const answers: (() => void)[] = [];
      const made = await scene({
        client: bare,
        server: { quota: { ratePerSecond: 0.001, burst: 2, ...quota }, ...server },
        handlers: handlers((_call, answer) => answers.push(answer)),
      });
      const { start, link } = made;
      const running = start(method);
      await link.pass(10);
      expect(answers).toHaveLength(1);
      const letGo = async () => {
        for (const answer of answers) answer();
        const { code } = await link.until(running.ended);
        await link.pass(10);
        return code;
      };
      /** One call more is let through, and not two: there were two tokens, and one is spent. */
      const expectOneLeft = async () => {
        expect(await letGo()).toBe(Status.OK);
        const [next, beyond] = [start(method), start(method)];
        await link.pass(10);
        for (const answer of answers) answer();
        expect((await link.until(next.ended)).code).toBe(Status.OK);
        expect(rejectionOf((await link.until(beyond.ended)).error)?.reason).toBe(
          "RATE_LIMIT_EXCEEDED",
        );
        expect(made.clock.pending.refs).toBe(0);
      };
      return { ...made, answers, letGo, expectOneLeft };
    };

    it("of calls that the bulkhead refuses", async () => {
      const { call, expectOneLeft } = await full({ bulkhead: { maxConcurrent: 1, maxQueued: 0 } });
      for (let n = 0; n < 3; n += 1) {
        expect(rejectionOf((await call(method)).error)?.reason).toBe("BULKHEAD_FULL");
      }
      await expectOneLeft();
    });

    it("of calls that admission refuses", async () => {
      const { call, expectOneLeft } = await full({
        admission: { ...oneSlot, maxQueued: 0 },
      });
      for (let n = 0; n < 3; n += 1) {
        expect(rejectionOf((await call(method)).error)?.reason).toBe("CONCURRENCY_LIMIT");
      }
      await expectOneLeft();
    });

    it("of callers who leave while they wait for admission", async () => {
      const { start, link, expectOneLeft } = await full({
        admission: { ...oneSlot, maxQueued: 5 },
      });
      for (let n = 0; n < 3; n += 1) {
        const waiting = start(method);
        await link.pass(10);
        waiting.cancel();
        await link.until(waiting.ended);
        await link.pass(10);
      }
      await expectOneLeft();
    });

    it("through a shared store, where it can take them back", async () => {
      const givenBack: string[] = [];
      const store = {
        take: async () => ({ granted: true }) as const,
        giveBack: (key: string, cost: number) => givenBack.push(`${key} ${cost}`),
      };
      const { call, letGo } = await full(
        { bulkhead: { maxConcurrent: 1, maxQueued: 0 } },
        { store, cost: () => 2, key: "method" },
      );
      expect(rejectionOf((await call(method)).error)?.reason).toBe("BULKHEAD_FULL");
      expect(givenBack).toEqual([`${path[method]} 2`]);
      await letGo();
      expect(givenBack).toHaveLength(1);
    });

    it("not of calls that a bulkhead would have refused that observes", async () => {
      const { start, link, answers, letGo } = await full({
        bulkhead: { maxConcurrent: 1, maxQueued: 0, mode: "observe" },
      });
      const second = start(method);
      await link.pass(10);
      expect(answers).toHaveLength(2);
      const third = await link.until(start(method).ended);
      expect(rejectionOf(third.error)?.reason).toBe("RATE_LIMIT_EXCEEDED");
      await letGo();
      expect((await link.until(second.ended)).code).toBe(Status.OK);
    });
  });

  it("waits for the word of a shared store, and gives back what it says to a caller who has gone", async () => {
    const answers: ((said: QuotaAnswer) => void)[] = [];
    const givenBack: string[] = [];
    const server = counting();
    const { start, link, clock, weir } = await scene({
      client: bare,
      server: {
        quota: {
          ratePerSecond: 10,
          store: {
            take: () => new Promise((resolve) => answers.push(resolve)),
            giveBack: (key) => givenBack.push(key),
          },
          storeTimeoutMs: 1_000,
        },
      },
      handlers: server.handlers,
    });
    const calls = [1, 2, 3].map(() => start(method));
    await link.pass(5);
    calls[2]?.cancel();
    await link.pass(5);
    answers[0]?.({ granted: true });
    answers[1]?.({ granted: false, retryAfterMs: 70 });
    answers[2]?.({ granted: true });
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([
      Status.OK,
      Status.RESOURCE_EXHAUSTED,
      Status.CANCELLED,
    ]);
    expect(givenBack).toEqual(["server"]);
    expect(server.handled()).toBe(1);
    expect(weir.policy("quota").snapshot()).toMatchObject([{ asking: 0, queued: 0 }]);
    expect(clock.pending.refs).toBe(0);
  });

  it.each([
    ["allow", Status.OK],
    ["refuse", Status.RESOURCE_EXHAUSTED],
  ] as const)("on a store that is down can %s", async (onStoreError, code) => {
    const errors: unknown[] = [];
    const store = { take: () => Promise.reject(new Error("secret address 10.0.0.5")) };
    const { call } = await scene({
      client: bare,
      server: { quota: { ratePerSecond: 10, store, onStoreError } },
      onError: (error) => errors.push(error),
    });
    const ended = await call(method);
    expect(ended.code).toBe(code);
    expect(ended.details).not.toContain("secret");
    expect(errors).toHaveLength(1);
  });

  it("stands alone as an interceptor", async () => {
    const { call } = await scene({
      client: bare,
      server: {},
      ownServer: { interceptors: [quota({ ratePerSecond: 1, burst: 1 })] },
    });
    expect((await call(method)).code).toBe(Status.OK);
    expect(rejectionOf((await call(method)).error)?.reason).toBe("RATE_LIMIT_EXCEEDED");
  });
});

it.each([
  ["/grpc.health.v1.Health/Check", "off"],
  ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "off"],
  ["/grpc.channelz.v1.Channelz/GetServers", "off"],
  ["/shop.v1.grpc.health.Impostor/Check", "enforce"],
])("is for calls of %s in the mode %s", (method, mode) => {
  const environment = environmentOf({}, "test");
  const [gate] = quotaPolicies({ ratePerSecond: 1 }, environment, "quota");
  const { clock, report } = environment;
  const caller = { getPeer: () => "", getAuthContext: () => ({}) };
  const rest = { kind: "unary", caller, startedAtMs: 0, deadlineMs: Infinity, clock } as const;
  expect(gate?.modeFor(new InboundCall({ ...rest, method, report }))).toBe(mode);
});

describe("the key of a quota", () => {
  it.each([
    [undefined, Status.RESOURCE_EXHAUSTED],
    ["server", Status.RESOURCE_EXHAUSTED],
    ["service", Status.RESOURCE_EXHAUSTED],
    ["method", Status.OK],
    ["peer", Status.RESOURCE_EXHAUSTED],
  ] as const)("%s: another method of the same caller finds %i", async (key, code) => {
    const { call } = await scene({
      client: bare,
      server: { quota: { ratePerSecond: 1, burst: 1, ...(key === undefined ? {} : { key }) } },
    });
    await call("unary");
    expect((await call("serverStream")).code).toBe(code);
    expect((await call("unary")).code).toBe(Status.RESOURCE_EXHAUSTED);
  });

  it("peer is the address without the port, which differs with every connection", async () => {
    const { call } = await scene({
      client: bare,
      server: { quota: { ratePerSecond: 1, burst: 1, key: "peer" } },
    });
    await call("unary");
    const refused = await call("unary");
    const subject = decodeStatusDetails(refused.trailers).quotaViolations?.[0]?.subject;
    expect(subject).toMatch(/^[\d.]+$/);
  });

  it("may look at all that is known of the call", async () => {
    const seen: unknown[] = [];
    const { call } = await scene({
      client: bare,
      server: {
        quota: {
          ratePerSecond: 1,
          key: (inbound) => {
            const { method, kind, priority, peer } = inbound;
            seen.push({ method, kind, priority, peer, auth: inbound.authContext() });
            return "k";
          },
        },
      },
    });
    await call("unary");
    expect(seen).toEqual([
      {
        method: path.unary,
        kind: "unary",
        priority: "normal",
        peer: expect.stringMatching(/:\d+$/),
        auth: {},
      },
    ]);
  });

  it("that throws counts the call for the server, and is reported", async () => {
    const errors: unknown[] = [];
    const { call } = await scene({
      client: bare,
      server: {
        quota: {
          ratePerSecond: 1,
          burst: 1,
          key: () => {
            throw new Error("broken");
          },
        },
      },
      onError: (error) => errors.push(error),
    });
    expect((await call("unary")).code).toBe(Status.OK);
    const refused = await call("unary");
    expect(decodeStatusDetails(refused.trailers).quotaViolations?.[0]?.subject).toBe("server");
    expect(errors).toHaveLength(2);
  });

  it("that callers choose may be huge and of thousands of kinds", async () => {
    const { call, weir } = await scene({
      client: bare,
      server: { quota: { ratePerSecond: 0.001, burst: 1, maxKeys: 50, key: tenantOf } },
    });
    const huge = "x".repeat(7_000);
    for (let n = 0; n < 200; n += 1) {
      expect((await call("unary", {}, tenant(`${huge}${n}`))).code).toBe(Status.OK);
    }
    const refused = await call("unary", {}, tenant(`${huge}199`));
    expect(refused.code).toBe(Status.RESOURCE_EXHAUSTED);
    const subject = decodeStatusDetails(refused.trailers).quotaViolations?.[0]?.subject ?? "";
    expect(subject.length).toBeLessThan(256);
    expect(refused.details.length).toBeLessThan(200);
    expect(JSON.stringify(weir.snapshot()).length).toBeLessThan(2_000);
  });
});

it.each([
  ["server.quota", null],
  ["server.quota.ratePerSecond", {}],
  ["server.quota[1].ratePerSecond", [{ ratePerSecond: 1 }, {}]],
  ["server.quota[0]", [null]],
  ["server.quota.key", { ratePerSecond: 1, key: "target" }],
  ["server.quota.cost", { ratePerSecond: 1, cost: 1 }],
  ["server.quota.mode", { ratePerSecond: 1, mode: "shadow" }],
  ["server.quota.priority", { ratePerSecond: 1, priority: {} }],
])("a quota that makes no sense is refused while it is built: %s", (option, options) => {
  const build = () => createWeir().server({ quota: options as never });
  expect(build).toThrow(InvalidOptionError);
  expect(build).toThrow(expect.objectContaining({ name: "InvalidOptionError", option }));
});
