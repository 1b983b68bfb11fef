import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { decodeStatusDetails, rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { BulkheadPolicyOptions } from "../../../src/policies/bulkhead/client.js";
import { type RateOptions, rate } from "../../../src/policies/rate-limit/client.js";
import type { QuotaAnswer } from "../../../src/policies/rate-limit/store.js";
import { createWeir } from "../../../src/weir.js";
import { failing, handlers, kinds, path, scene } from "../../scene.js";

const bare = { retry: false, breaker: false } as const;

describe.each(kinds)("rate of %s", (method) => {
  it("lets the burst through, and refuses the next here, with the time to its token", async () => {
    const server = failing(0);
    const { call, clock, link, weir } = await scene({
      handlers: server.handlers,
      client: { ...bare, rate: { ratePerSecond: 2, burst: 2 } },
    });
    expect([(await call(method)).code, (await call(method)).code]).toEqual([Status.OK, Status.OK]);
    const refused = await call(method);
    expect(refused.code).toBe(Status.RESOURCE_EXHAUSTED);
    const rejection = rejectionOf(refused.error);
    expect(rejection).toMatchObject({ reason: "RATE_LIMIT_EXCEEDED", local: true });
    const againMs = rejection?.retryAfterMs ?? 0;
    expect(againMs).toBeGreaterThan(0);
    expect(againMs).toBeLessThanOrEqual(550);
    const { quotaViolations, retryDelayMs } = decodeStatusDetails(refused.trailers);
    expect(quotaViolations).toHaveLength(1);
    expect(quotaViolations?.[0]?.description).toContain("2 per second, burst 2");
    expect(retryDelayMs).toBe(Math.ceil(againMs));
    expect(server.calls()).toBe(2);
    await link.pass(againMs);
    expect((await call(method)).code).toBe(Status.OK);
    expect(weir.policy("rate").snapshot()).toMatchObject([
      { queued: 0, asking: 0, admitted: 3, refused: 1 },
    ]);
    expect(clock.pending.refs).toBe(0);
  });

  it("spreads what may wait evenly, by priority", async () => {
    const at: [unknown, number][] = [];
    const { start, clock, link, weir, decisions } = await scene({
      client: { ...bare, rate: { ratePerSecond: 10, burst: 1, maxWaitMs: 1_000 } },
      handlers: handlers(({ metadata }, answer) => {
        at.push([metadata.get("x-request-priority")[0], clock.now() - beganMs]);
        answer();
      }),
    });
    const beganMs = clock.now();
    const wanted = ["normal", "low", "high"] as const;
    const calls = wanted.map((priority) => start(method, weir.with({}, { priority })));
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(at.map(([priority]) => priority)).toEqual(["normal", "high", "low"]);
    const [first = 0, second = 0, third = 0] = at.map(([, ms]) => ms);
    expect([second - first, third - second]).toEqual([100, 100]);
    expect(decisions.map(({ policy, verdict, waitMs }) => [policy, verdict, waitMs])).toEqual([
      ["rate", "queue", 100],
      ["rate", "queue", 200],
    ]);
    expect(clock.pending.refs).toBe(0);
  });

  it("gives the place of a call that is cancelled while it waits to the next", async () => {
    let handled = 0;
    const { start, link, clock, weir } = await scene({
      client: { ...bare, rate: { ratePerSecond: 10, burst: 1, maxWaitMs: 1_000 } },
      handlers: handlers((_call, answer) => {
        handled += 1;
        answer();
      }),
    });
    const beganMs = clock.now();
    const [first, second, third] = [start(method), start(method), start(method)];
    await link.pass(10);
    second.cancel();
    expect((await link.until(second.ended)).code).toBe(Status.CANCELLED);
    expect((await link.until(third.ended)).code).toBe(Status.OK);
    expect(clock.now() - beganMs).toBeLessThan(150);
    await link.until(first.ended);
    expect(handled).toBe(2);
    expect(weir.policy("rate").snapshot()).toMatchObject([{ queued: 0, admitted: 2, left: 1 }]);
    expect(clock.pending.refs).toBe(0);
  });

  it("refuses at once when the deadline comes before the token", async () => {
    const { call, clock } = await scene({
      client: { ...bare, rate: { ratePerSecond: 1, burst: 1, maxWaitMs: 5_000 } },
    });
    await call(method);
    const beganMs = clock.now();
    const refused = await call(method, { deadline: clock.wallNow() + 500 });
    expect(rejectionOf(refused.error)).toMatchObject({
      reason: "RATE_LIMIT_EXCEEDED",
      local: true,
    });
    expect(clock.now() - beganMs).toBeLessThan(10);
  });

  it("ends those who wait when the weir is closed", async () => {
    const { start, link, clock, weir, call } = await scene({
      client: { ...bare, rate: { ratePerSecond: 1, burst: 1, maxWaitMs: 5_000 } },
    });
    await call(method);
    const waiting = start(method);
    await link.pass(10);
    weir.close();
    expect(rejectionOf((await link.until(waiting.ended)).error)?.reason).toBe("CLOSED");
    expect(weir.policy("rate").snapshot()).toMatchObject([{ queued: 0, left: 1 }]);
    expect(clock.pending.refs).toBe(0);
  });

  it("counts attempts: a retry takes a token, and without one the call ends as its last attempt did", async () => {
    const server = failing(10);
    const { call, decisions } = await scene({
      handlers: server.handlers,
      client: {
        breaker: false,
        retry: { maxAttempts: 5, idempotent: true, backoff: { baseMs: 1, maxMs: 1 } },
        rate: { ratePerSecond: 1, burst: 3 },
      },
    });
    const ended = await call(method);
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(rejectionOf(ended.error)?.reason).not.toBe("RATE_LIMIT_EXCEEDED");
    expect(server.calls()).toBe(3);
    expect(decisions).toContainEqual(
      expect.objectContaining({
        policy: "rate",
        verdict: "reject",
        reason: "RATE_LIMIT_EXCEEDED",
        enforced: true,
      }),
    );
  });

  it("lets everything pass while it observes, and says what it would have refused", async () => {
    const { call, decisions, weir } = await scene({
      client: { ...bare, rate: { ratePerSecond: 1, burst: 1, mode: "observe" } },
    });
    await call(method);
    expect((await call(method)).code).toBe(Status.OK);
    expect(decisions).toMatchObject([
      { policy: "rate", verdict: "reject", reason: "RATE_LIMIT_EXCEEDED", enforced: false },
    ]);
    weir.policy("rate").mode = "enforce";
    expect((await call(method)).code).toBe(Status.RESOURCE_EXHAUSTED);
    weir.policy("rate").mode = "off";
    expect((await call(method)).code).toBe(Status.OK);
  });

  it("waits for the word of a shared store, and gives back what it says to a call that has gone", async () => {
    const answers: ((said: QuotaAnswer) => void)[] = [];
    const givenBack: string[] = [];
    const { start, link, clock, weir } = await scene({
      client: {
        ...bare,
        rate: {
          ratePerSecond: 10,
          key: "method",
          store: {
            take: () => new Promise((resolve) => answers.push(resolve)),
            giveBack: (key) => givenBack.push(key),
          },
          storeTimeoutMs: 1_000,
        },
      },
    });
    const calls = [1, 2, 3].map(() => start(method));
    await link.pass(5);
    calls[2]?.cancel();
    await link.pass(1);
    answers[0]?.({ granted: true });
    answers[1]?.({ granted: false, retryAfterMs: 70 });
    answers[2]?.({ granted: true });
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([
      Status.OK,
      Status.RESOURCE_EXHAUSTED,
      Status.CANCELLED,
    ]);
    expect(givenBack).toHaveLength(1);
    expect(givenBack[0]).toMatch(new RegExp(` ${path[method]}$`));
    expect(weir.policy("rate").snapshot()).toMatchObject([{ asking: 0, queued: 0 }]);
    expect(clock.pending.refs).toBe(0);
  });

  describe("is spent by attempts that go on: tokens come back", () => {
    /** A client with room for one attempt, which a handler holds until it is let go. */
    const full = async (bulkhead: BulkheadPolicyOptions, own: Partial<RateOptions> = {}) => {
      const answers: (() => void)[] = [];
      const made = await scene({
        client: { ...bare, rate: { ratePerSecond: 0.001, burst: 2, ...own }, bulkhead },
        handlers: handlers((_call, answer) => answers.push(answer)),
      });
      const { start, link } = made;
      const running = start(method);
      await link.pass(10);
      expect(answers).toHaveLength(1);
      const letGo = async () => {
        for (const answer of answers.splice(0)) answer();
        expect((await link.until(running.ended)).code).toBe(Status.OK);
      };
      /** One attempt more is let through, and not two: there were two tokens, and one is spent. */
      const expectOneLeft = async () => {
        await letGo();
        const next = start(method);
        await link.pass(10);
        for (const answer of answers.splice(0)) answer();
        expect((await link.until(next.ended)).code).toBe(Status.OK);
        const beyond = await link.until(start(method).ended);
        expect(rejectionOf(beyond.error)?.reason).toBe("RATE_LIMIT_EXCEEDED");
        expect(made.clock.pending.refs).toBe(0);
      };
      return { ...made, answers, letGo, expectOneLeft };
    };

    it("of attempts that the bulkhead refuses", async () => {
      const { call, expectOneLeft } = await full({ maxConcurrent: 1, maxQueued: 0 });
      for (let n = 0; n < 3; n += 1) {
        expect(rejectionOf((await call(method)).error)?.reason).toBe("BULKHEAD_FULL");
      }
      await expectOneLeft();
    });

    it("of calls that are cancelled, or run out of time, in the queue of the bulkhead", async () => {
      const { start, clock, link, expectOneLeft } = await full({
        maxConcurrent: 1,
        maxQueued: 5,
        maxWaitMs: 10_000,
      });
      for (let n = 0; n < 3; n += 1) {
        const waiting = start(method, { deadline: clock.wallNow() + 50 });
        await link.pass(10);
        if (n < 2) waiting.cancel();
        const { code } = await link.until(waiting.ended);
        expect(code).toBe(n < 2 ? Status.CANCELLED : Status.DEADLINE_EXCEEDED);
      }
      await expectOneLeft();
    });

    it("through a shared store, where it can take them back", async () => {
      const givenBack: number[] = [];
      const store = {
        take: async () => ({ granted: true }) as const,
        giveBack: (_key: string, cost: number) => givenBack.push(cost),
      };
      const { call, letGo } = await full(
        { maxConcurrent: 1, maxQueued: 0 },
        { store, cost: () => 2 },
      );
      expect(rejectionOf((await call(method)).error)?.reason).toBe("BULKHEAD_FULL");
      expect(givenBack).toEqual([2]);
      await letGo();
      expect(givenBack).toEqual([2]);
    });

    it("not of attempts that a bulkhead would have refused that observes", async () => {
      const { start, link, answers, letGo } = await full({
        maxConcurrent: 1,
        maxQueued: 0,
        mode: "observe",
      });
      const second = start(method);
      await link.pass(10);
      expect(answers).toHaveLength(2);
      const third = await link.until(start(method).ended);
      expect(rejectionOf(third.error)?.reason).toBe("RATE_LIMIT_EXCEEDED");
      await letGo();
      expect((await link.until(second.ended)).code).toBe(Status.OK);
    });

    it("and start no attempt that waits for them when the weir is closed", async () => {
      const { start, link, weir, answers, letGo } = await full(
        { maxConcurrent: 1, maxQueued: 5, maxWaitMs: 10_000, key: "method" },
        { ratePerSecond: 0.1, maxWaitMs: 100_000 },
      );
      // It holds a token in the queue of its bulkhead; the other has a bulkhead of its own, and no token.
      const holding = start(method);
      const waiting = start(method === "unary" ? "bidiStream" : "unary");
      await link.pass(10);
      weir.close();
      for (const { ended } of [holding, waiting]) {
        expect(rejectionOf((await link.until(ended)).error)?.reason).toBe("CLOSED");
      }
      await letGo();
      expect(answers).toEqual([]);
    });
  });

  it("stands alone as an interceptor", async () => {
    const { call } = await scene({
      client: bare,
      ownClient: { interceptors: [rate({ ratePerSecond: 1, burst: 1 })] },
    });
    expect((await call(method)).code).toBe(Status.OK);
    expect(rejectionOf((await call(method)).error)?.reason).toBe("RATE_LIMIT_EXCEEDED");
  });
});

describe("the key and the cost of a rate", () => {
  it.each([
    ["target", Status.RESOURCE_EXHAUSTED],
    ["service", Status.RESOURCE_EXHAUSTED],
    ["method", Status.OK],
    [({ kind }: { kind: string }) => kind, Status.OK],
    [() => "all", Status.RESOURCE_EXHAUSTED],
  ] as const)("%s: another method finds %i", async (key, code) => {
    const { call } = await scene({
      client: { ...bare, rate: { ratePerSecond: 1, burst: 1, key } },
    });
    await call("unary");
    expect((await call("serverStream")).code).toBe(code);
    expect((await call("unary")).code).toBe(Status.RESOURCE_EXHAUSTED);
  });

  it("of a method that is named has a rate of its own", async () => {
    const { call } = await scene({
      client: {
        ...bare,
        rate: { ratePerSecond: 1, burst: 1 },
        methods: { [path.unary.slice(1)]: { rate: { burst: 3, ratePerSecond: 1 } } },
      },
    });
    const codes = [];
    for (let n = 0; n < 4; n += 1) codes.push((await call("unary")).code);
    expect(codes).toEqual([0, 0, 0, Status.RESOURCE_EXHAUSTED]);
    expect((await call("serverStream")).code).toBe(Status.OK);
    expect((await call("serverStream")).code).toBe(Status.RESOURCE_EXHAUSTED);
  });

  it("may be dear: nothing goes on that costs more than there can be", async () => {
    const cost = ({ method }: { method: string }) => (method === path.unary ? 3 : 9);
    const { call } = await scene({
      client: { ...bare, rate: { ratePerSecond: 1, burst: 6, cost } },
    });
    const codes = [];
    for (let n = 0; n < 3; n += 1) codes.push((await call("unary")).code);
    expect(codes).toEqual([0, 0, Status.RESOURCE_EXHAUSTED]);
    const dear = await call("serverStream");
    expect(dear.details).toContain("there are never more than 6");
    expect(rejectionOf(dear.error)?.retryAfterMs).toBeUndefined();
  });

  const broken = () => {
    throw new Error("broken");
  };

  it.each([{ key: broken }, { cost: broken }, { cost: () => NaN }, { cost: () => -1 }])(
    "that fail cost the call nothing, and are reported: %o",
    async (own) => {
      const errors: unknown[] = [];
      const { call } = await scene({
        client: { ...bare, rate: { ratePerSecond: 1, burst: 1, ...own } },
        onError: (error) => errors.push(error),
      });
      expect((await call("unary")).code).toBe(Status.OK);
      expect((await call("unary")).code).toBe(Status.RESOURCE_EXHAUSTED);
      expect(errors).toHaveLength(2);
    },
  );

  it("stay bounded, whatever the keys are", async () => {
    let n = 0;
    const { call, weir } = await scene({
      client: {
        ...bare,
        rate: { ratePerSecond: 1, burst: 1, maxKeys: 10, key: () => "k".repeat(10_000) + n++ },
      },
    });
    for (let calls = 0; calls < 50; calls += 1) {
      expect((await call("unary", {}, new Metadata())).code).toBe(Status.OK);
    }
    expect(JSON.stringify(weir.snapshot()).length).toBeLessThan(2_000);
  });
});

it.each([
  ["client.rate", null],
  ["client.rate", []],
  ["client.rate.ratePerSecond", {}],
  ["client.rate.key", { ratePerSecond: 1, key: "peer" }],
  ["client.rate.cost", { ratePerSecond: 1, cost: 1 }],
  ["client.rate.mode", { ratePerSecond: 1, mode: "shadow" }],
  ["client.rate.limit", { ratePerSecond: 1, limit: 1 }],
])("a rate that makes no sense is refused while it is built: %s", (option, options) => {
  const build = () => createWeir().client({ rate: options as never });
  expect(build).toThrow(InvalidOptionError);
  expect(build).toThrow(expect.objectContaining({ name: "InvalidOptionError", option }));
});
