import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { DecisionEvent } from "../../src/core/decision.js";
import { rejectionOf } from "../../src/grpc/status/rejection.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import { handlers, kinds, type Scene, type SceneOptions, scene } from "../scene.js";

const noBreaker = { breaker: false } as const;
const hedged: ClientPolicy = {
  breaker: false,
  retry: { idempotent: true },
  hedge: { delayMs: 60_000 },
};

const unavailable = { code: Status.UNAVAILABLE, details: "not now" };

function retryReasons(decisions: readonly DecisionEvent[]): string[] {
  return decisions.map(({ verdict, reason }) =>
    reason === undefined ? verdict : `${verdict} ${reason}`,
  );
}

/** A client whose server has gone and whose channel has found that out. */
async function gone(options: SceneOptions = {}): Promise<Scene & { served: () => number }> {
  let served = 0;
  const made = await scene({
    handlers: handlers((_call, answer) => {
      served += 1;
      answer();
    }),
    client: noBreaker,
    ...options,
  });
  await made.call("unary");
  made.transport.server.crash();
  await made.link.pass(10);
  return { ...made, served: () => served - 1 };
}

describe.each(kinds)("a call of kind %s that finds no connection", (method) => {
  it.each([
    ["retries", noBreaker, 300],
    ["retries", noBreaker, 4_000],
    ["retries, two attempts", { breaker: false, retry: { maxAttempts: 2 } }, 4_000],
    ["hedges", hedged, 300],
    ["hedges", hedged, 4_000],
  ] as const)(
    "waits with its next attempt until there is one: %s %o, %i ms",
    async (_name, client, ms) => {
      const { start, clock, link, transport, decisions, served } = await gone({ client });
      const beganMs = clock.now();
      const running = start(method, { deadline: clock.wallNow() + 9_000 });
      await link.pass(ms);
      transport.server.start();
      expect((await link.until(running.ended, 1e6)).code).toBe(Status.OK);
      // Less than grpc-js's longest wait for its next attempt to connect.
      expect(clock.now() - beganMs).toBeLessThan(ms + 0.7 * ms + 500);
      expect(served()).toBe(1);
      const told = retryReasons(decisions);
      expect(told.filter((each) => each === "queue RETRY_AWAITS_CONNECTION")).toHaveLength(1);
      expect(told).not.toContain("stop RETRY_ATTEMPTS_SPENT");
      expect(clock.pending.refs).toBe(0);
    },
  );

  it.each([
    ["retries", noBreaker],
    ["hedges", hedged],
  ] as const)("ends with that status just before its deadline: %s", async (_name, client) => {
    const { call, clock, decisions } = await gone({ client });
    const beganMs = clock.now();
    const ended = await call(method, { deadline: clock.wallNow() + 3_000 });
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(ended.details).toMatch(/^No connection established/);
    expect(clock.now() - beganMs).toBe(2_990);
    expect(retryReasons(decisions).at(-1)).toBe("stop RETRY_PAST_DEADLINE");
    expect(clock.pending.refs).toBe(0);
  });

  it.each([
    ["retries", noBreaker],
    ["hedges", hedged],
  ] as const)("waits two seconds where it has no deadline: %s", async (_name, client) => {
    const { call, clock, decisions, weir } = await gone({ client });
    const beganMs = clock.now();
    const ended = await call(method);
    expect(ended.details).toMatch(/^No connection established/);
    expect(clock.now() - beganMs).toBeGreaterThanOrEqual(2_000);
    expect(clock.now() - beganMs).toBeLessThan(2_200);
    expect(retryReasons(decisions).at(-1)).toBe("stop CONNECTION_TIMEOUT");
    // The budget has the attempt back that was not made.
    expect(JSON.stringify(weir.snapshot().policies)).not.toMatch(/"extras":[1-9]/);
  });

  it.each([
    [500, 9_000],
    [500, Infinity],
    [4_000, Infinity],
  ])("waits for no longer than connectionMs: %i of %d ms", async (connectionMs, deadlineMs) => {
    const { call, clock, decisions } = await gone({
      client: { ...noBreaker, timeouts: { connectionMs } },
    });
    const beganMs = clock.now();
    const ended = await call(method, { deadline: clock.wallNow() + deadlineMs });
    expect(ended.details).toMatch(/^No connection established/);
    expect(clock.now() - beganMs).toBeGreaterThanOrEqual(connectionMs);
    expect(clock.now() - beganMs).toBeLessThan(connectionMs + 200);
    expect(retryReasons(decisions).at(-1)).toBe("stop CONNECTION_TIMEOUT");
  });

  it("ends when it is cancelled, or the weir is closed, and leaves nothing behind", async () => {
    for (const end of ["cancel", "close"] as const) {
      const { start, clock, link, weir, transport, served } = await gone();
      const running = start(method, { deadline: clock.wallNow() + 9_000 });
      await link.pass(400);
      expect(weir.snapshot().waiting).toBe(1);
      if (end === "cancel") running.cancel();
      else weir.close();
      const ended = await link.until(running.ended);
      expect(ended.code).toBe(end === "cancel" ? Status.CANCELLED : Status.UNAVAILABLE);
      if (end === "close") expect(rejectionOf(ended.error ?? {})?.reason).toBe("CLOSED");
      expect(weir.snapshot().waiting).toBe(0);
      expect(clock.pending.refs).toBe(0);
      const { retry } = weir.snapshot().policies;
      expect(retry?.instances).toMatchObject([
        { budgets: { "dns:127.0.0.1:40001": { ratio: { extras: 0 } } } },
      ]);
      transport.server.start();
      await link.pass(10_000);
      expect(served()).toBe(0);
    }
  });

  it.each([
    ["without retries", { ...noBreaker, retry: false }],
    ["with one attempt", { ...noBreaker, retry: { maxAttempts: 1 } }],
    ["where retries are only observed", { ...noBreaker, retry: { mode: "observe" } }],
  ] as const)("fails at once %s", async (_name, client) => {
    const { call, clock } = await gone({ client });
    // The first call after the loss has to find out by itself.
    await call(method);
    const beganMs = clock.now();
    expect((await call(method)).code).toBe(Status.UNAVAILABLE);
    expect(clock.now()).toBe(beganMs);
  });

  it("makes no attempts that would fail from memory", async () => {
    const { start, clock, link, transport, decisions } = await gone();
    const running = start(method, { deadline: clock.wallNow() + 9_000 });
    await link.pass(2_000);
    transport.server.start();
    await link.until(running.ended, 1e6);
    expect(decisions.filter(({ verdict }) => verdict === "retry")).toHaveLength(1);
  });
});

it("a response that is not wanted is given where no connection for another attempt comes", async () => {
  const { start, clock, link, transport } = await scene({
    client: {
      breaker: false,
      retry: {
        idempotent: true,
        backoff: { baseMs: 50, jitter: "none" },
        retryResponse: () => true,
      },
    },
  });
  const beganMs = clock.now();
  const running = start("unary");
  await link.pass(10);
  transport.server.crash();
  await link.pass(10);
  // Makes the channel connect, in vain.
  const other = start("unary");
  const ended = await link.until(running.ended);
  expect([ended.code, ended.received]).toEqual([Status.OK, [3]]);
  await link.until(other.ended);
  expect(clock.now() - beganMs).toBeGreaterThanOrEqual(2_000);
});

describe("calls that wait for a connection", () => {
  it.each([
    ["retries", { breaker: false }],
    ["hedges", { breaker: false, retry: { idempotent: true }, hedge: { delayMs: 60_000 } }],
  ] as const)(
    "wait although earlier failures have used up the extra attempts: %s",
    async (_name, { retry = {}, ...client }: ClientPolicy) => {
      let failing = true;
      const budget = { ratio: 0.1, minPerSecond: 1, maxTokens: false } as const;
      const { call, start, clock, link, transport } = await scene({
        client: { ...client, retry: { ...retry, budget } },
        handlers: handlers(({ fail }, answer) => (failing ? fail(unavailable) : answer())),
      });
      for (let number = 0; number < 30; number += 1) await call("unary");
      const refused = await call("unary");
      expect(refused.code).toBe(Status.UNAVAILABLE);
      failing = false;
      transport.server.crash();
      await link.pass(10);
      const deadline = clock.wallNow() + 9_000;
      const running = Array.from({ length: 10 }, () => start("unary", { deadline }));
      await link.pass(1_000);
      transport.server.start();
      await link.pass(5_000);
      const ended = await Promise.all(running.map(({ ended }) => ended));
      expect(ended.map(({ code }) => code)).toEqual(running.map(() => Status.OK));
    },
  );

  it("leave the extra attempts to those that fail afterwards", async () => {
    let failing = false;
    const { start, call, clock, link, transport } = await gone({
      client: {
        breaker: false,
        retry: { budget: { ratio: 0.1, minPerSecond: 1, maxTokens: false } },
      },
      handlers: handlers(({ fail }, answer) => {
        if (failing) fail(unavailable);
        else answer();
        failing = false;
      }),
    });
    const deadline = clock.wallNow() + 9_000;
    const running = Array.from({ length: 50 }, () => start("unary", { deadline }));
    await link.pass(1_000);
    transport.server.start();
    await link.pass(4_000);
    const codes = (await Promise.all(running.map(({ ended }) => ended))).map(({ code }) => code);
    // All that may wait have waited.
    expect(codes).toContain(Status.UNAVAILABLE);
    failing = true;
    expect((await call("unary")).code).toBe(Status.OK);
  });

  it("make room for others when they are cancelled", async () => {
    const { start, clock, link } = await gone({
      client: {
        breaker: false,
        retry: { budget: { ratio: 0.1, minPerSecond: 1, maxTokens: false } },
      },
    });
    const deadline = clock.wallNow() + 9_000;
    const waiting = async () => {
      const running = Array.from({ length: 50 }, () => start("unary", { deadline }));
      let failed = 0;
      for (const { ended } of running) {
        void ended.then(() => {
          failed += 1;
        });
      }
      await link.pass(200);
      const waited = running.length - failed;
      for (const { cancel } of running) cancel();
      await link.pass(1);
      return waited;
    };
    const first = await waiting();
    expect(first).toBeGreaterThan(10);
    expect(await waiting()).toBeGreaterThanOrEqual(first);
  });

  it("are no more than the budget allows, and the others fail at once as with bare grpc-js", async () => {
    const { start, clock, link, transport, served } = await gone({
      client: {
        breaker: false,
        retry: { budget: { ratio: 0.1, minPerSecond: 1, maxTokens: false } },
      },
    });
    const deadline = clock.wallNow() + 9_000;
    const codes: Status[] = [];
    for (let number = 0; number < 100; number += 1) {
      void start("unary", { deadline }).ended.then(({ code }) => codes.push(code));
    }
    await link.pass(1_000);
    const failed = codes.length;
    transport.server.start();
    await link.pass(5_000);
    expect(codes).toHaveLength(100);
    // Ten for the reserve of the window, and one for each ten calls.
    expect(served()).toBeLessThanOrEqual(10 + 10);
    expect(served()).toBe(100 - failed);
    expect(codes.filter((code) => code === Status.OK)).toHaveLength(served());
  });
});
