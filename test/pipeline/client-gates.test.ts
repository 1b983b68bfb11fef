import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { KeyedCall } from "../../src/grpc/client/policy.js";
import { rejectionOf } from "../../src/grpc/status/rejection.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import { breaker } from "../../src/policies/breaker/client.js";
import { failing, handlers, kinds, scene } from "../scene.js";

describe.each(kinds)("breaker of %s", (method) => {
  it("opens after failures in a row, refuses without asking the server, and closes by probes", async () => {
    const server = failing(3);
    const { call, clock, link, weir } = await scene({
      handlers: server.handlers,
      client: {
        retry: false,
        breaker: { consecutiveFailures: 3, openMs: 1_000, openJitter: 0, probes: 1 },
      },
    });
    for (let n = 0; n < 3; n++) expect((await call(method)).code).toBe(Status.UNAVAILABLE);
    const refused = await call(method);
    expect(refused.code).toBe(Status.UNAVAILABLE);
    const rejection = rejectionOf(refused.error ?? {});
    expect(rejection).toMatchObject({ reason: "BREAKER_OPEN", local: true, retryAfterMs: 1_000 });
    expect(server.calls()).toBe(3);
    await link.pass(1_000);
    expect((await call(method)).code).toBe(Status.OK);
    expect((await call(method)).code).toBe(Status.OK);
    expect(JSON.stringify(weir.snapshot())).toContain('"state":"closed"');
    expect(clock.pending.refs).toBe(0);
  });

  it("does not count what the caller did", async () => {
    const { start, link, call, clock } = await scene({
      handlers: handlers((_call, answer) => clock.schedule(20, answer)),
      client: { retry: false, breaker: { consecutiveFailures: 1 } },
    });
    for (let n = 0; n < 5; n++) {
      const running = start(method);
      await link.pass(1);
      running.cancel();
      expect((await link.until(running.ended)).code).toBe(Status.CANCELLED);
    }
    expect((await call(method)).code).toBe(Status.OK);
  });

  it("does not count what a server of ours sheds, and still serves the next", async () => {
    const { start, link, clock, call } = await scene({
      client: { retry: false, breaker: { consecutiveFailures: 1 } },
      server: { admission: { streams: "together", limit: 1, maxQueued: 0 } },
      handlers: handlers((_call, answer) => clock.schedule(20, answer)),
    });
    const calls = [1, 2, 3].map(() => start(method));
    const ended = await link.until(Promise.all(calls.map((one) => one.ended)));
    expect(ended.map(({ code }) => code).toSorted((a, b) => a - b)).toEqual([0, 8, 8]);
    await link.pass(10);
    expect((await call(method)).code).toBe(Status.OK);
  });

  it("lets everything pass while it observes, and says what it would have refused", async () => {
    const server = failing(2);
    const { call, decisions } = await scene({
      handlers: server.handlers,
      client: { retry: false, breaker: { consecutiveFailures: 2, mode: "observe" } },
    });
    await call(method);
    await call(method);
    expect((await call(method)).code).toBe(Status.OK);
    expect(decisions).toMatchObject([
      { policy: "breaker", verdict: "reject", reason: "BREAKER_OPEN", enforced: false },
    ]);
  });
});

describe.each(kinds)("an open breaker above a full bulkhead, for %s", (method) => {
  it("refuses at once those who would only wait to be refused", async () => {
    const { start, call, clock, link, weir, decisions } = await scene({
      handlers: handlers((_call, answer) => clock.schedule(5_000, answer)),
      client: {
        retry: false,
        breaker: {},
        bulkhead: { maxConcurrent: 1, maxQueued: 5, maxWaitMs: 10_000 },
      },
    });
    const running = start(method);
    await link.pass(5);
    weir.policy("breaker").forceOpen();
    const beganMs = clock.now();
    const refused = await call(method);
    expect(rejectionOf(refused.error ?? {})).toMatchObject({ reason: "BREAKER_OPEN", local: true });
    expect(clock.now()).toBe(beganMs);
    expect(decisions).toMatchObject([
      { policy: "breaker", verdict: "reject", reason: "BREAKER_OPEN", enforced: true },
    ]);
    // One that only observes sends nobody away, and counts the call when it would have admitted it.
    weir.policy("breaker").mode = "observe";
    const waiting = start(method);
    await link.pass(5);
    expect(decisions).toHaveLength(1);
    expect((await link.until(waiting.ended)).code).toBe(Status.OK);
    expect(decisions.slice(1)).toMatchObject([
      { policy: "bulkhead", verdict: "queue" },
      { policy: "breaker", verdict: "reject", reason: "BREAKER_OPEN", enforced: false },
    ]);
    expect((await link.until(running.ended)).code).toBe(Status.OK);
  });
});

describe.each(kinds)("bulkhead of %s", (method) => {
  const slow = { client: { retry: false, breaker: false } } as const;

  it("runs no more than maxConcurrent, makes the next wait and refuses the rest", async () => {
    let running = 0;
    let peak = 0;
    const { start, clock, link } = await scene({
      client: { ...slow.client, bulkhead: { maxConcurrent: 2, maxQueued: 1, maxWaitMs: 1_000 } },
      handlers: handlers((_call, answer) => {
        running += 1;
        peak = Math.max(peak, running);
        clock.schedule(50, () => {
          running -= 1;
          answer();
        });
      }),
    });
    const calls = [1, 2, 3, 4].map(() => start(method));
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0, Status.RESOURCE_EXHAUSTED]);
    expect(rejectionOf(ended[3]?.error ?? {})).toMatchObject({
      reason: "BULKHEAD_FULL",
      local: true,
    });
    expect(peak).toBe(2);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });

  it("gives up a wait that lasts too long", async () => {
    const { start, link } = await scene({
      client: { ...slow.client, bulkhead: { maxConcurrent: 1, maxWaitMs: 30 } },
      handlers: handlers(() => {}),
    });
    const [first, second] = [start(method), start(method)];
    const ended = await link.until(second.ended);
    expect(rejectionOf(ended.error ?? {})?.reason).toBe("QUEUE_TIMEOUT");
    first.cancel();
    await link.until(first.ended);
  });

  it("frees the place of a call that is cancelled while it waits", async () => {
    let handled = 0;
    const { start, link, clock } = await scene({
      client: { ...slow.client, bulkhead: { maxConcurrent: 1, maxQueued: 1, maxWaitMs: 10_000 } },
      handlers: handlers((_call, answer) => {
        handled += 1;
        clock.schedule(100, answer);
      }),
    });
    const first = start(method);
    const second = start(method);
    await link.pass(10);
    second.cancel();
    expect((await link.until(second.ended)).code).toBe(Status.CANCELLED);
    const third = start(method);
    const ended = await link.until(Promise.all([first.ended, third.ended]));
    expect(ended.map(({ code }) => code)).toEqual([0, 0]);
    expect(handled).toBe(2);
    expect(clock.pending.refs).toBe(0);
  });

  it("ends a call at its deadline while it waits", async () => {
    const { start, link, clock } = await scene({
      client: { ...slow.client, bulkhead: { maxConcurrent: 1, maxWaitMs: 10_000 } },
      handlers: handlers(() => {}),
    });
    const first = start(method);
    const beganMs = clock.now();
    const second = start(method, { deadline: clock.wallNow() + 40 });
    expect((await link.until(second.ended)).code).toBe(Status.DEADLINE_EXCEEDED);
    expect(clock.now() - beganMs).toBe(40);
    first.cancel();
    await link.until(first.ended);
    await link.pass(10);
    expect(clock.pending.refs).toBe(0);
  });

  it("serves the better priority first", async () => {
    const order: unknown[] = [];
    const { start, link, clock, weir } = await scene({
      client: { ...slow.client, bulkhead: { maxConcurrent: 1, maxWaitMs: 10_000 } },
      handlers: handlers(({ metadata }, answer) => {
        order.push(metadata.get("x-request-priority")[0]);
        clock.schedule(10, answer);
      }),
    });
    const wanted = ["normal", "low", "critical", "high"] as const;
    const calls = wanted.map((priority) => start(method, weir.with({}, { priority })));
    await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(order).toEqual(["normal", "critical", "high", "low"]);
  });

  it("models the wait while it observes, and lets every call pass", async () => {
    const { start, link, clock, decisions, weir } = await scene({
      client: { ...slow.client, bulkhead: { maxConcurrent: 1, maxQueued: 1, mode: "observe" } },
      handlers: handlers((_call, answer) => clock.schedule(50, answer)),
    });
    const calls = [1, 2, 3].map(() => start(method));
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(decisions.map(({ reason, enforced }) => [reason, enforced])).toContainEqual([
      "BULKHEAD_FULL",
      false,
    ]);
    expect(JSON.stringify(weir.snapshot().policies.bulkhead)).toContain('"running":0,"queued":0');
    expect(clock.pending.refs).toBe(0);
  });
});

const tenant = (name: string) => {
  const metadata = new Metadata();
  metadata.set("x-tenant", name);
  return metadata;
};

describe("functions by which a policy tells calls apart", () => {
  it("are told what each attempt is sent with", async () => {
    const seen: string[] = [];
    const note =
      <T>(who: string, answer: (name: string) => T) =>
      ({ metadata }: KeyedCall) => {
        const [name] = metadata.get("x-tenant");
        seen.push(`${who} ${String(name)} ${metadata.get("x-request-priority").join()}`);
        return answer(String(name));
      };
    const key = (who: string) => note(who, (name) => name);
    const { call, weir } = await scene({
      handlers: failing(1).handlers,
      client: {
        retry: { idempotent: true, backoff: { baseMs: 1 } },
        breaker: {
          key: key("breaker"),
          outcome: ({ call: ended }) => note("outcome", () => undefined)(ended),
        },
        rate: { ratePerSecond: 100, key: key("rate"), cost: note("cost", () => 1) },
        throttle: { key: key("throttle") },
        bulkhead: {
          maxConcurrent: 4,
          key: key("bulkhead"),
          weight: note("weight", () => 1),
          partitions: { a: { share: 0.5 } },
          partition: note("partition", () => "a"),
        },
      },
    });
    const metadata = tenant("a");
    const ended = call("unary", weir.with({}, { priority: "high" }), metadata);
    // The caller may use its object again at once.
    metadata.set("x-tenant", "b");
    expect((await ended).code).toBe(Status.OK);
    const who = [
      "breaker",
      "outcome",
      "rate",
      "cost",
      "throttle",
      "bulkhead",
      "weight",
      "partition",
    ];
    expect([...new Set(seen)].toSorted()).toEqual(who.map((one) => `${one} a high`).toSorted());
    const keys = ["breaker", "throttle", "bulkhead"] as const;
    for (const name of keys) {
      expect(JSON.stringify(weir.policy(name).snapshot()), name).toContain('"a":');
    }
  });

  const policies: readonly (readonly [string, ClientPolicy])[] = [
    ["breaker", { breaker: { consecutiveFailures: 1, key: ({ metadata }) => named(metadata) } }],
    [
      "rate",
      {
        breaker: false,
        rate: {
          ratePerSecond: 0.001,
          burst: 1,
          maxWaitMs: 0,
          key: ({ metadata }) => named(metadata),
        },
      },
    ],
  ];
  const named = (metadata: KeyedCall["metadata"]) => String(metadata.get("x-tenant")[0]);

  it.each(policies)("keep tenants apart: %s", async (_, policy) => {
    const { call } = await scene({
      handlers: handlers((one) => one.fail({ code: Status.UNAVAILABLE, details: "down" })),
      client: { retry: false, ...policy },
    });
    for (const name of ["a", "b"]) {
      const first = await call("unary", {}, tenant(name));
      expect(rejectionOf(first.error)).toBeUndefined();
      const second = await call("unary", {}, tenant(name));
      expect(rejectionOf(second.error)?.local).toBe(true);
    }
  });

  it("are told so in an interceptor of its own", async () => {
    const { call } = await scene({
      handlers: failing(1).handlers,
      client: { retry: false, breaker: false },
      ownClient: {
        interceptors: [breaker({ consecutiveFailures: 1, key: ({ metadata }) => named(metadata) })],
      },
    });
    await call("unary", {}, tenant("a"));
    expect(rejectionOf((await call("unary", {}, tenant("a"))).error)?.reason).toBe("BREAKER_OPEN");
    expect((await call("unary", {}, tenant("b"))).code).toBe(Status.OK);
  });
});
