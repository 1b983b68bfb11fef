import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { BreakerPolicyOptions, EndedAttempt } from "../../../src/policies/breaker/client.js";
import {
  echo,
  failing,
  handlers,
  kinds,
  path,
  payload,
  type SceneOptions,
  scene,
} from "../../scene.js";
import { onlyBreaker } from "./client-scene.js";

/** A server that answers after a time, and a breaker that no failure opens. */
async function slowServer(
  answerMs: () => number,
  breaker: BreakerPolicyOptions = {},
  more: SceneOptions = {},
) {
  const parts = await scene({
    client: { retry: false, breaker: { consecutiveFailures: 1_000, minCalls: 1_000, ...breaker } },
    handlers: handlers((_call, answer) => parts.clock.schedule(answerMs(), answer)),
    ...more,
  });
  const within = (ms: number, method: (typeof kinds)[number] = "unary") =>
    parts.call(method, { deadline: parts.clock.wallNow() + ms });
  return { ...parts, within, counted: () => onlyBreaker(parts.weir) };
}

describe.each(kinds)("a deadline of a %s call that is shorter than calls take", (method) => {
  it("is the caller's doing, once it is known how long they take", async () => {
    const { call, within, counted } = await slowServer(() => 50);
    for (let n = 0; n < 100; n++) await call("unary");
    const ended = await within(20, method);
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(counted()).toMatchObject({ calls: 100, failures: 0 });
  });

  it("is the caller's doing too while it is not known how long they take", async () => {
    const { within, counted } = await slowServer(() => 50);
    for (let n = 0; n < 19; n++) await within(20, method);
    expect(counted()).toMatchObject({ state: "closed", calls: 0 });
  });

  it("keeps nobody from a server that serves the patient", async () => {
    const { call, within } = await slowServer(() => 50, { consecutiveFailures: 5, minCalls: 20 });
    for (let n = 0; n < 30; n++) await within(20, method);
    expect((await call(method)).code).toBe(Status.OK);
  });
});

describe("a deadline", () => {
  it("is a failure where half of the calls would have been in time", async () => {
    let answerMs = 50;
    const { call, within, counted } = await slowServer(() => answerMs);
    for (let n = 0; n < 100; n++) await call("unary");
    answerMs = 1_000;
    expect((await within(80)).code).toBe(Status.DEADLINE_EXCEEDED);
    expect(counted()).toMatchObject({ calls: 101, failures: 1 });
  });

  it("of a stream is compared with how long first messages take, whatever the rest takes", async () => {
    let firstMs = 50;
    const { call, within, counted, clock } = await slowServer(
      () => 0,
      {},
      {
        handlers: {
          ...echo,
          serverStream: (stream) => {
            clock.schedule(firstMs, () => {
              stream.write({ payload, sequence: 1 });
              clock.schedule(400, () => stream.end());
            });
          },
        },
      },
    );
    for (let n = 0; n < 100; n++) await call("serverStream");
    firstMs = 1_000;
    for (const [ms, failures] of [
      [20, 0],
      [80, 1],
    ] as const) {
      expect((await within(ms, "serverStream")).code).toBe(Status.DEADLINE_EXCEEDED);
      expect(counted()).toMatchObject({ failures });
    }
  });

  it("is measured from the start of the attempt, not of the call", async () => {
    const { call, counted, clock, link, start } = await slowServer(
      () => 50,
      {},
      {
        client: {
          retry: false,
          breaker: { consecutiveFailures: 1_000, minCalls: 1_000 },
          bulkhead: { maxConcurrent: 1, maxWaitMs: 1_000 },
        },
      },
    );
    for (let n = 0; n < 100; n++) await call("unary");
    const first = start("unary");
    // It waits for some 50 ms, and has 30 left when it starts.
    const second = start("unary", { deadline: clock.wallNow() + 80 });
    await link.until(Promise.all([first.ended, second.ended]));
    expect((await second.ended).code).toBe(Status.DEADLINE_EXCEEDED);
    expect(counted()).toMatchObject({ calls: 101, failures: 0 });
  });

  it("does not excuse an attempt that a time-out of its own ended first", async () => {
    const { call, within, counted } = await slowServer(
      () => 50,
      {},
      {
        client: {
          retry: false,
          breaker: { consecutiveFailures: 1_000, minCalls: 1_000 },
          methods: { [path.clientStream]: { timeouts: { attemptMs: 10 } } },
        },
      },
    );
    for (let n = 0; n < 100; n++) await call("unary");
    await within(30, "clientStream");
    expect(counted()).toMatchObject({ calls: 101, failures: 1 });
  });

  it.each(kinds)(
    "is measured by the calls of its method, here %s, and not by faster ones of the service",
    async (method) => {
      let answerMs = 1;
      const { call, within, counted } = await slowServer(() => answerMs);
      const other = method === "unary" ? "serverStream" : "unary";
      for (let n = 0; n < 100; n++) await call(other);
      answerMs = 50;
      for (let n = 0; n < 20; n++) await call(method);
      await within(30, method);
      expect(counted()).toMatchObject({ calls: 120, failures: 0 });
      answerMs = 1_000;
      await within(80, method);
      expect(counted()).toMatchObject({ calls: 121, failures: 1 });
    },
  );

  it("is the server's own where it comes long before the call's", async () => {
    const server = failing(1, { code: Status.DEADLINE_EXCEEDED, details: "of a query" });
    const { within, counted } = await slowServer(() => 1, {}, { handlers: server.handlers });
    await within(1_000);
    expect(counted()).toMatchObject({ calls: 1, failures: 1 });
  });
});

describe.each(kinds)("the user's word on how a %s call counts", (method) => {
  it("is asked for with all that is known, and goes before the toolkit's own", async () => {
    const asked: EndedAttempt[] = [];
    const server = failing(1, { code: Status.NOT_FOUND, details: "no such thing" });
    const { call, weir } = await scene({
      handlers: server.handlers,
      client: {
        retry: false,
        breaker: {
          outcome: (ended) => {
            asked.push(ended);
            return ended.code === Status.NOT_FOUND ? "failure" : undefined;
          },
        },
      },
    });
    await call(method);
    await call(method);
    expect(asked).toMatchObject([
      { code: Status.NOT_FOUND, origin: "remote", details: "no such thing", rejection: undefined },
      { code: Status.OK, origin: "remote", details: "" },
    ]);
    expect(asked[0]?.call.method).toContain("ConformanceService");
    expect(onlyBreaker(weir)).toMatchObject({ calls: 2, failures: 1 });
  });

  it.each([
    [
      "throws",
      () => {
        throw new Error("broken");
      },
    ],
    ["is none", () => "fine" as "success"],
  ])("is reported and passed over when it %s", async (_what, outcome) => {
    const reported: string[] = [];
    const hear = (error: unknown) => void reported.push(String(error));
    const { call, weir } = await scene({
      handlers: failing(1).handlers,
      onError: hear,
      client: { retry: false, breaker: { outcome } },
    });
    await call(method);
    await call(method);
    expect(reported).toHaveLength(2);
    expect(reported[0]).toMatch(/broken|must answer one of success, failure, ignored/);
    expect(onlyBreaker(weir)).toMatchObject({ calls: 2, failures: 1 });
  });

  it("is told how long the attempt took", async () => {
    const took: number[] = [];
    const outcome = ({ durationMs }: EndedAttempt) => void took.push(durationMs);
    const { call } = await slowServer(() => 30, { outcome });
    await call(method);
    expect(took).toEqual([30]);
  });

  it("is not asked for of a call that never set out", async () => {
    const asked: EndedAttempt[] = [];
    const { call, weir } = await scene({
      client: { retry: false, breaker: { outcome: (ended) => void asked.push(ended) } },
    });
    weir.policy("breaker").forceOpen();
    await call(method);
    expect(asked).toEqual([]);
  });

  it("is not asked for of a call that its own key function calls off", async () => {
    const asked: EndedAttempt[] = [];
    let key = () => {};
    const { start, link, clock, weir } = await scene({
      client: {
        retry: false,
        bulkhead: { streams: "together", maxConcurrent: 1, maxWaitMs: 1_000 },
        breaker: {
          key: () => {
            key();
            return "all";
          },
          outcome: (ended) => void asked.push(ended),
        },
      },
      handlers: handlers((_call, answer) => clock.schedule(20, answer)),
    });
    const first = start(method);
    const second = start(method);
    key = () => second.cancel();
    await link.until(Promise.all([first.ended, second.ended]));
    expect(asked.map(({ code }) => code)).toEqual([Status.OK]);
    expect(onlyBreaker(weir)).toMatchObject({ calls: 1 });
  });

  it("may make a server's shedding count", async () => {
    const { start, link, clock, weir } = await scene({
      client: {
        retry: false,
        breaker: { outcome: ({ rejection }) => (rejection === undefined ? undefined : "failure") },
      },
      server: { admission: { streams: "together", limit: 1, maxQueued: 0 } },
      handlers: handlers((_call, answer) => clock.schedule(20, answer)),
    });
    const calls = [1, 2, 3].map(() => start(method));
    await link.until(Promise.all(calls.map((one) => one.ended)));
    // To the rate alone: it has said that it has too much to do.
    expect(onlyBreaker(weir)).toMatchObject({ calls: 3, failures: 2, consecutiveFailures: 0 });
  });
});
