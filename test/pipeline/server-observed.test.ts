import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { handlers, kinds, scene } from "../scene.js";

describe.each(kinds)("what observed policies would have done to %s calls", (kind) => {
  it("is reported by policy and reason, with how those calls ended", async () => {
    let calls = 0;
    const made = await scene({
      client: {
        retry: false,
        breaker: false,
        bulkhead: { maxConcurrent: 2, maxQueued: 0, mode: "observe" },
      },
      server: {
        admission: {
          limit: 1,
          maxQueued: 0,
          streams: "together",
          thresholds: false,
          mode: "observe",
        },
        quota: { ratePerSecond: 1, burst: 3, mode: "observe" },
      },
      handlers: handlers((call, answer) => {
        calls += 1;
        const fails = calls % 2 === 0;
        made.clock.schedule(100, () => {
          if (fails) call.fail({ code: 13, details: "broken" });
          else answer();
        });
      }),
    });
    const { start, link, weir, clock } = made;
    const running = Array.from({ length: 4 }, () => start(kind, {}, new Metadata()));
    await clock.pass(50);
    // Refused they would have been; how they end is not known yet.
    expect(weir.observed().admission?.CONCURRENCY_LIMIT).toMatchObject({ refused: 3, success: 0 });
    const ended = await link.until(Promise.all(running.map(({ ended: end }) => end)), 1e9);
    await clock.pass(100);
    expect(ended.map(({ code }) => code)).toEqual([0, 13, 0, 13]);
    expect(weir.observed()).toEqual({
      bulkhead: { BULKHEAD_FULL: { refused: 2, success: 1, failure: 1, ignored: 0 } },
      quota: { RATE_LIMIT_EXCEEDED: { refused: 1, success: 0, failure: 1, ignored: 0 } },
      admission: { CONCURRENCY_LIMIT: { refused: 3, success: 1, failure: 2, ignored: 0 } },
    });
  });

  it("is unknown for calls that their callers leave", async () => {
    const { start, weir, clock } = await scene({
      client: { retry: false },
      server: { admission: { limit: 1, maxQueued: 0, streams: "together", mode: "observe" } },
      handlers: handlers(() => {}),
    });
    const running = [start(kind), start(kind)];
    await clock.pass(50);
    for (const call of running) call.cancel();
    await clock.pass(50);
    const [[, counts] = []] = Object.entries(weir.observed().admission ?? {});
    expect(counts).toEqual({ refused: 1, success: 0, failure: 0, ignored: 1 });
  });
});

it("nothing is reported of policies that enforce", async () => {
  const made = await scene({
    client: { retry: false, breaker: false },
    server: { admission: { limit: 1, maxQueued: 0 } },
    handlers: handlers((_call, answer) => void made.clock.schedule(10, answer)),
  });
  const { start, link, weir } = made;
  await link.until(Promise.all([start("unary").ended, start("unary").ended]), 1e9);
  expect(weir.observed()).toEqual({});
});

it("each policy of a server reports what it would have refused", async () => {
  const { start, link, weir, clock } = await scene({
    client: { retry: false, breaker: false },
    server: {
      deadlineGuard: { minRemainingMs: 60_000, mode: "observe" },
      quota: [{ ratePerSecond: 0.001, burst: 1, mode: "observe" }],
      bulkhead: { maxConcurrent: 1, maxQueued: 0, mode: "observe" },
      admission: { limit: 1, maxQueued: 0, thresholds: false, mode: "observe" },
    },
    handlers: handlers((_call, answer) => void clock.schedule(10, answer)),
  });
  const options = () => ({ deadline: clock.wallNow() + 1_000 });
  const ends = [start("unary", options()).ended, start("unary", options()).ended];
  for (const { code } of await link.until(Promise.all(ends), 1e9)) expect(code).toBe(0);
  const first = { refused: 1, success: 1, failure: 0, ignored: 0 };
  expect(weir.observed()).toEqual({
    "deadline-guard": { DEADLINE_INFEASIBLE: { ...first, refused: 2, success: 2 } },
    quota: { RATE_LIMIT_EXCEEDED: first },
    bulkhead: { BULKHEAD_FULL: first },
    admission: { CONCURRENCY_LIMIT: first },
  });
});
