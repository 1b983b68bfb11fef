import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { hedge } from "../../../src/client.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { fakeBelow, Hearer, optionsOf } from "../../grpc/client/fake-call.js";
import { echo, failing, handlers, kinds, payload, scene } from "../../scene.js";

const hedged = { retry: { idempotent: true }, hedge: { maxAttempts: 3, delayMs: 50 } } as const;
const expected = {
  unary: [3],
  clientStream: [1, 2, 3],
  serverStream: [1, 2, 3],
  bidiStream: [1, 2, 3],
};

/** Answers the n-th call after the n-th of these milliseconds; never where it is absent. */
function answering(
  clock: () => { schedule(ms: number, task: () => void): unknown },
  ...afterMs: (number | undefined)[]
) {
  const seen: Metadata[] = [];
  return {
    seen,
    handlers: handlers(({ metadata }, answer) => {
      const ms = afterMs[seen.length];
      seen.push(metadata);
      if (ms !== undefined) clock().schedule(ms, answer);
    }),
  };
}

describe.each(kinds)("hedging of %s", (method) => {
  it("sends another attempt when the first takes long, and takes the answer that comes first", async () => {
    const server = answering(() => world.clock, undefined, 20);
    const world = await scene({ client: hedged, handlers: server.handlers });
    const beganMs = world.clock.now();
    const ended = await world.call(method);
    expect([ended.code, ended.received]).toEqual([Status.OK, expected[method]]);
    expect(world.clock.now() - beganMs).toBe(70);
    expect(server.seen.map((m) => m.get("grpc-previous-rpc-attempts"))).toEqual([[], ["1"]]);
    expect(world.decisions).toMatchObject([{ policy: "hedge", verdict: "hedge", waitMs: 50 }]);
    await world.link.pass(10);
    expect(world.link.inFlight()).toBe(0);
    expect(world.clock.pending.refs).toBe(0);
  });

  it("sends nothing more once an answer is there", async () => {
    const server = answering(() => world.clock, 10);
    const world = await scene({ client: hedged, handlers: server.handlers });
    expect((await world.call(method)).code).toBe(Status.OK);
    await world.link.pass(1_000);
    expect(server.seen).toHaveLength(1);
  });

  it("brings the next attempt forward after a failure that is not fatal", async () => {
    const server = failing(1);
    const { call, clock } = await scene({ client: hedged, handlers: server.handlers });
    const beganMs = clock.now();
    expect((await call(method)).code).toBe(Status.OK);
    expect(clock.now() - beganMs).toBe(0);
    expect(server.calls()).toBe(2);
  });

  it("ends with a fatal failure at once, and calls the others off", async () => {
    let calls = 0;
    const { call, clock, link } = await scene({
      client: hedged,
      handlers: handlers(({ fail }) => {
        calls += 1;
        if (calls === 2) fail({ code: Status.FAILED_PRECONDITION, details: "no" });
      }),
    });
    const beganMs = clock.now();
    expect((await call(method)).code).toBe(Status.FAILED_PRECONDITION);
    expect(clock.now() - beganMs).toBe(50);
    await link.pass(10);
    expect(link.inFlight()).toBe(0);
  });

  it("ends with the last failure when all attempts have failed", async () => {
    const server = failing(99);
    const { call, decisions } = await scene({ client: hedged, handlers: server.handlers });
    const ended = await call(method);
    expect([ended.code, ended.details]).toEqual([Status.UNAVAILABLE, "not now"]);
    expect(server.calls()).toBe(3);
    expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason: "RETRY_ATTEMPTS_SPENT" });
  });

  it("sends nothing more once its client is closed, and waits for those under way", async () => {
    let calls = 0;
    const answers: (() => void)[] = [];
    const { client, start, link, decisions, weir } = await scene({
      client: { breaker: false, retry: hedged.retry, hedge: { maxAttempts: 5, delayMs: 50 } },
      handlers: handlers(({ fail }, answer) => {
        calls += 1;
        if (calls === 1) answers.push(answer);
        else answers.push(() => fail({ code: Status.UNAVAILABLE, details: "gone" }));
      }),
    });
    const running = start(method);
    await link.pass(60);
    client.close();
    answers[1]?.();
    await link.pass(10);
    answers[0]?.();
    expect((await link.until(running.ended)).code).toBe(Status.OK);
    expect(calls).toBe(2);
    expect(decisions.map(({ verdict }) => verdict)).toEqual(["hedge"]);
    // Nothing was taken from the budget for an attempt that could not follow.
    const [counts] = weir.policy("hedge").snapshot();
    expect(counts).toMatchObject({ retried: 1, stopped: 0 });
    expect(JSON.stringify(counts)).toContain('"allowed":1');
  });

  it("sends no more attempts after a pushback that says stop, and waits for those under way", async () => {
    let calls = 0;
    const metadata = new Metadata();
    metadata.set("grpc-retry-pushback-ms", "-1");
    const { call, clock } = await scene({
      client: hedged,
      handlers: handlers(({ fail }, answer) => {
        calls += 1;
        if (calls === 1) clock.schedule(200, answer);
        else fail({ code: Status.UNAVAILABLE, details: "stop", metadata });
      }),
    });
    expect((await call(method)).code).toBe(Status.OK);
    expect(calls).toBe(2);
  });

  it("ends with a pushback that says stop where nothing else is under way, and says why", async () => {
    const metadata = new Metadata();
    metadata.set("grpc-retry-pushback-ms", "-1");
    const server = failing(99, { code: Status.UNAVAILABLE, details: "stop", metadata });
    const { call, decisions } = await scene({ client: hedged, handlers: server.handlers });
    expect((await call(method)).details).toBe("stop");
    expect(server.calls()).toBe(1);
    expect(decisions).toMatchObject([{ verdict: "stop", reason: "RETRY_PUSHBACK_STOP" }]);
  });

  it("waits for the first attempt where a policy refuses the next, which the budget gets back", async () => {
    const server = answering(() => world.clock, 200);
    const world = await scene({
      client: { ...hedged, breaker: false, bulkhead: { maxConcurrent: 1, maxQueued: 0 } },
      handlers: server.handlers,
    });
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(server.seen).toHaveLength(1);
    expect(JSON.stringify(world.weir.policy("hedge").snapshot())).toContain('"extras":0');
  });

  it("gives the budget nothing for a first attempt that a policy refuses", async () => {
    const { start, call, link, weir } = await scene({
      client: { ...hedged, breaker: false, bulkhead: { maxConcurrent: 2, maxQueued: 0 } },
      handlers: handlers(() => {}),
    });
    const running = start(method);
    await link.pass(60);
    const extras = () => JSON.stringify(weir.policy("hedge").snapshot());
    expect(extras()).toContain('"extras":1');
    const refused = await call(method);
    expect(rejectionOf(refused.error ?? {})?.reason).toBe("BULKHEAD_FULL");
    expect(extras()).toContain('"extras":1');
    running.cancel();
    await link.until(running.ended);
  });

  it("does not wait for a pushback of more than five minutes", async () => {
    const metadata = new Metadata();
    metadata.set("grpc-retry-pushback-ms", "2147483647");
    const server = failing(99, { code: Status.UNAVAILABLE, details: "in 24 days", metadata });
    const { call, clock, decisions } = await scene({ client: hedged, handlers: server.handlers });
    const beganMs = clock.now();
    expect((await call(method)).details).toBe("in 24 days");
    expect(clock.now()).toBe(beganMs);
    expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason: "RETRY_WAIT_TOO_LONG" });
  });

  it("ends at once with the failure it has when the server's wait does not fit the deadline", async () => {
    const metadata = new Metadata();
    metadata.set("grpc-retry-pushback-ms", "500");
    const server = failing(99, { code: Status.UNAVAILABLE, details: "in 500 ms", metadata });
    const { call, clock, decisions } = await scene({ client: hedged, handlers: server.handlers });
    const beganMs = clock.now();
    const ended = await call(method, { deadline: clock.wallNow() + 500 });
    expect([ended.code, ended.details]).toEqual([Status.UNAVAILABLE, "in 500 ms"]);
    expect(clock.now()).toBe(beganMs);
    expect(server.calls()).toBe(1);
    expect(decisions).toMatchObject([
      { policy: "hedge", verdict: "stop", reason: "RETRY_PAST_DEADLINE" },
    ]);
  });

  it("waits for those under way when the server's wait does not fit the deadline", async () => {
    const metadata = new Metadata();
    metadata.set("grpc-retry-pushback-ms", "500");
    let calls = 0;
    const made = await scene({
      client: { ...hedged, hedge: { maxAttempts: 2, delayMs: 50 } },
      handlers: handlers(({ fail }, answer) => {
        calls += 1;
        if (calls === 1) made.clock.schedule(100, answer);
        else fail({ code: Status.UNAVAILABLE, details: "in 500 ms", metadata });
      }),
    });
    const beganMs = made.clock.now();
    const ended = await made.call(method, { deadline: made.clock.wallNow() + 300 });
    expect(ended.code).toBe(Status.OK);
    expect(made.clock.now() - beganMs).toBe(100);
    expect(calls).toBe(2);
  });

  it("does not happen for a method that is not known to be idempotent; it is retried instead", async () => {
    const server = answering(() => world.clock, 100);
    const world = await scene({ client: { hedge: { delayMs: 10 } }, handlers: server.handlers });
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(server.seen).toHaveLength(1);
  });

  it("ends all attempts when the caller cancels", async () => {
    const server = answering(() => world.clock);
    const world = await scene({ client: hedged, handlers: server.handlers });
    const running = world.start(method);
    await world.link.pass(60);
    running.cancel();
    expect((await world.link.until(running.ended)).code).toBe(Status.CANCELLED);
    await world.link.pass(500);
    expect(server.seen).toHaveLength(2);
    expect(world.link.inFlight()).toBe(0);
    expect(world.clock.pending.refs).toBe(0);
  });

  it("stops at the budget, and lets the first attempt answer", async () => {
    const server = answering(() => world.clock, 200);
    const world = await scene({
      client: {
        ...hedged,
        retry: { idempotent: true, budget: { ratio: 0.01, minPerSecond: 0, maxTokens: false } },
      },
      handlers: server.handlers,
    });
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(server.seen).toHaveLength(1);
    expect(world.decisions).toMatchObject([{ verdict: "stop", reason: "RETRY_BUDGET" }]);
  });

  it("sends nothing behind a failure for which the budget has no attempt", async () => {
    const budget = { ratio: false, maxTokens: 1, tokenRatio: 0.1 } as const;
    const server = failing(5);
    const world = await scene({
      client: { retry: { idempotent: true, budget }, hedge: { maxAttempts: 3, delayMs: 50 } },
      handlers: server.handlers,
    });
    expect((await world.call(method)).code).toBe(Status.UNAVAILABLE);
    await world.link.pass(1_000);
    expect(server.calls()).toBe(1);
    expect(world.decisions).toMatchObject([{ verdict: "stop", reason: "RETRY_BUDGET" }]);
    const { policies } = world.weir.snapshot();
    expect(policies.hedge?.instances).toMatchObject([{ retried: 0, stopped: 1 }]);
  });

  it("counts the attempts that it adds", async () => {
    const server = failing(2);
    const world = await scene({ client: hedged, handlers: server.handlers });
    expect((await world.call(method)).code).toBe(Status.OK);
    const { policies } = world.weir.snapshot();
    expect(policies.hedge?.instances).toMatchObject([{ retried: 2, stopped: 0 }]);
  });

  it("notes what it would send beside an attempt while a retry waits, when it observes", async () => {
    const server = failing(1);
    const world = await scene({
      client: {
        retry: { idempotent: true, backoff: { baseMs: 80, jitter: "none" } },
        hedge: { delayMs: 50, mode: "observe" },
      },
      handlers: server.handlers,
    });
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(world.decisions).toMatchObject([
      { policy: "retry", verdict: "retry", waitMs: 80 },
      { policy: "hedge", verdict: "hedge", enforced: false, waitMs: 50 },
    ]);
  });

  it("only says what it would do while it observes", async () => {
    const server = answering(() => world.clock, 100);
    const world = await scene({ client: hedged, handlers: server.handlers });
    world.weir.policy("hedge").mode = "observe";
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(server.seen).toHaveLength(1);
    expect(world.decisions).toMatchObject([{ verdict: "hedge", enforced: false }]);
  });
});

it("a hedge that is only observed is not noted once the call is over, nor once a response is on its way", async () => {
  for (const [answersAfterMs, ends] of [
    [10, true],
    [10, false],
  ] as const) {
    const { client, link, clock, weir, decisions } = await scene({
      client: hedged,
      handlers: {
        ...echo,
        serverStream: (call) => {
          clock.schedule(answersAfterMs, () => {
            call.write({ payload, sequence: 1 });
            if (ends) call.end();
            else clock.schedule(500, () => call.end());
          });
        },
      },
    });
    weir.policy("hedge").mode = "observe";
    const stream = client.serverStream({ payload, sequence: 1 });
    stream.resume();
    await link.until(new Promise((resolve) => stream.on("end", resolve)), 1e9);
    await link.pass(1_000);
    expect(decisions).toEqual([]);
  }
});

it("a hedge is sent although the first attempt has sent headers, and its answer is taken", async () => {
  let calls = 0;
  const { call, clock } = await scene({
    client: { breaker: false, ...hedged },
    handlers: {
      ...echo,
      unary(request, callback) {
        calls += 1;
        if (calls === 1) request.sendMetadata(new Metadata());
        else callback(null, request.request);
      },
    },
  });
  const beganMs = clock.now();
  expect((await call("unary", { deadline: clock.wallNow() + 1_000 })).code).toBe(Status.OK);
  expect([calls, clock.now() - beganMs]).toEqual([2, 50]);
});

describe("a learned delay", () => {
  it("does not become shorter by the hedges that it causes: those they overtake took longer", async () => {
    let overtaken = false;
    const { call, clock, decisions } = await scene({
      client: {
        breaker: false,
        retry: { idempotent: true, budget: false },
        hedge: { maxAttempts: 2, quantile: 0.6 },
      },
      handlers: handlers(({ metadata }, answer) => {
        const first = metadata.get("grpc-previous-rpc-attempts").length === 0;
        if (!overtaken) clock.schedule(40, answer);
        else if (!first) clock.schedule(1, answer);
      }),
    });
    for (let n = 0; n < 100; n++) await call("unary");
    overtaken = true;
    for (let n = 0; n < 300; n++) await call("unary");
    const waits = decisions.map(({ waitMs = 0 }) => waitMs);
    expect(waits).toHaveLength(300);
    expect(Math.min(...waits)).toBeGreaterThan(35);
  });

  it("is learned while hedges are only observed", async () => {
    let takesMs = 40;
    const { call, clock, decisions } = await scene({
      client: {
        breaker: false,
        retry: { idempotent: true },
        hedge: { quantile: 0.95, mode: "observe" },
      },
      handlers: handlers((_call, answer) => void clock.schedule(takesMs, answer)),
    });
    for (let n = 0; n < 100; n++) await call("unary");
    expect(decisions).toEqual([]);
    takesMs = 100;
    await call("unary");
    expect(decisions).toMatchObject([{ policy: "hedge", verdict: "hedge", enforced: false }]);
    expect(decisions[0]?.waitMs).toBeGreaterThan(37);
    expect(decisions[0]?.waitMs).toBeLessThan(45);
  });

  it("is that of the last minute", async () => {
    let slow = false;
    const { call, clock, decisions, link } = await scene({
      client: { breaker: false, retry: { idempotent: true }, hedge: { quantile: 0.95 } },
      handlers: handlers((_call, answer) => void clock.schedule(slow ? 100 : 40, answer)),
    });
    for (let n = 0; n < 100; n++) await link.until(call("unary"));
    slow = true;
    const hedges: number[] = [];
    for (const waitMs of [40_000, 30_000]) {
      await clock.pass(waitMs);
      await call("unary");
      hedges.push(decisions.length);
    }
    // The one before a minute is over, and none behind it.
    expect(hedges).toEqual([1, 1]);
  });

  it("hedges nothing before 100 samples, then at the quantile", async () => {
    let slow = false;
    let calls = 0;
    const { call, clock } = await scene({
      client: { retry: { idempotent: true }, hedge: { quantile: 0.95 } },
      handlers: handlers((_call, answer) => {
        calls += 1;
        const stuck = slow;
        slow = false;
        if (!stuck) clock.schedule(40, answer);
      }),
    });
    for (let n = 0; n < 100; n++) await call("unary");
    expect(calls).toBe(100);
    slow = true;
    const beganMs = clock.now();
    expect((await call("unary")).code).toBe(Status.OK);
    const tookMs = clock.now() - beganMs;
    expect(tookMs).toBeGreaterThan(40 + 35);
    expect(tookMs).toBeLessThan(40 + 45);
  });
});

describe.each(["clientStream", "bidiStream"] as const)(
  "hedging of %s whose request outgrows its buffer",
  (method) => {
    const small = { ...hedged, retry: { idempotent: true, maxBufferMessages: 1 } };

    it("sends nothing beside the attempt that has it, and says so once", async () => {
      const server = answering(() => world.clock, 200);
      const world = await scene({
        client: { breaker: false, ...small },
        handlers: server.handlers,
      });
      expect((await world.call(method)).code).toBe(Status.OK);
      expect(server.seen).toHaveLength(1);
      expect(world.decisions).toMatchObject([
        { policy: "hedge", verdict: "stop", reason: "RETRY_COMMITTED" },
      ]);
    });

    it("ends with the failure of that attempt, and says why", async () => {
      const server = failing(9);
      const { call, decisions } = await scene({
        client: {
          breaker: false,
          ...small,
          hedge: { maxAttempts: 3, quantile: 0.9, nonFatalCodes: [Status.UNAVAILABLE] },
        },
        handlers: server.handlers,
      });
      expect((await call(method)).code).toBe(Status.UNAVAILABLE);
      expect(server.calls()).toBe(1);
      expect(decisions.map(({ policy, reason }) => [policy, reason])).toEqual([
        ["hedge", "RETRY_COMMITTED"],
      ]);
    });
  },
);

it.each([
  [undefined, 2],
  ["observe", 1],
  ["off", 1],
] as const)("hedges of their own in mode %s make %i attempts", (mode, attempts) => {
  const clock = new VirtualClock();
  const below = fakeBelow();
  const given = { clock, delayMs: 50, retry: { idempotent: true } } as const;
  const interceptor = hedge(mode === undefined ? given : { ...given, mode });
  const call = interceptor(optionsOf(), below.nextCall);
  call.start(new Metadata(), new Hearer());
  call.sendMessage("a");
  call.halfClose();
  clock.advance(60);
  expect(below.calls).toHaveLength(attempts);
});
