import { status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import type { RetryPolicyOptions } from "../../../src/policies/retry/client-policy.js";
import { kinds } from "../../scene.js";
import { type Act, a6, closeAll, serverSaid } from "./a6-scene.js";

const { UNAVAILABLE, INVALID_ARGUMENT, ABORTED } = Status;

/** Longer than any test may take: a retry that falls back on it is not missed. */
const neverMs = 15_000;
/** Node's timers count whole milliseconds. */
const tickMs = 1;

function retrying(options: RetryPolicyOptions = {}): ClientPolicy {
  const backoff = { baseMs: 2, maxMs: 100, multiplier: 2, jitter: "none" } as const;
  return { breaker: false, retry: { idempotent: true, backoff, budget: false, ...options } };
}

const unavailable: Act = { end: UNAVAILABLE };
const echoed = {
  unary: [3],
  clientStream: [1, 2, 3],
  serverStream: [1, 2, 3],
  bidiStream: [1, 2, 3],
};

afterEach(closeAll);

describe.each(kinds)("retries of %s", (method) => {
  it("return an OK", async () => {
    const { call, arrivals, decisions } = await a6(retrying(), [{}]);
    const ended = await call(method);
    expect([ended.code, ended.received]).toEqual([Status.OK, echoed[method]]);
    expect(arrivals).toHaveLength(1);
    expect(decisions).toEqual([]);
  });

  it("return a fatal code as it is", async () => {
    const { call, arrivals } = await a6(retrying(), [{ end: INVALID_ARGUMENT }, {}]);
    const { code, details } = await call(method);
    expect([code, details]).toEqual([INVALID_ARGUMENT, serverSaid]);
    expect(arrivals).toHaveLength(1);
  });

  it("follow a retryable code after the backoff, with the count of attempts before", async () => {
    const backoff = { baseMs: 20, maxMs: 100, multiplier: 2, jitter: "none" } as const;
    const policy = retrying({ backoff, codes: [UNAVAILABLE, ABORTED] });
    const { call, arrivals, decisions, gaps } = await a6(policy, [
      unavailable,
      { end: ABORTED },
      {},
    ]);
    const ended = await call(method);
    expect([ended.code, ended.received]).toEqual([Status.OK, echoed[method]]);
    expect(arrivals.map(({ previous }) => previous)).toEqual([undefined, "1", "2"]);
    expect(decisions.map(({ waitMs }) => waitMs)).toEqual([20, 40]);
    const [first = 0, second = 0] = gaps();
    expect(first).toBeGreaterThanOrEqual(20 - tickMs);
    expect(second).toBeGreaterThanOrEqual(40 - tickMs);
  });

  it("wait exactly as long as a pushback says, whatever the backoff", async () => {
    const backoff = { baseMs: neverMs, maxMs: neverMs };
    const pushback = "60";
    const { call, decisions, gaps } = await a6(retrying({ backoff }), [
      { end: UNAVAILABLE, pushback },
      {},
    ]);
    expect((await call(method)).code).toBe(Status.OK);
    expect(decisions).toMatchObject([{ verdict: "retry", waitMs: 60 }]);
    const [gap = 0] = gaps();
    expect(gap).toBeGreaterThanOrEqual(60 - tickMs);
    expect(gap).toBeLessThan(neverMs / 3);
  });

  it("begin their backoff anew after a pushback", async () => {
    const { call, decisions } = await a6(retrying({ maxAttempts: 6 }), [
      unavailable,
      unavailable,
      { end: UNAVAILABLE, pushback: "3" },
      unavailable,
      unavailable,
      {},
    ]);
    expect((await call(method)).code).toBe(Status.OK);
    expect(decisions.map(({ waitMs }) => waitMs)).toEqual([2, 4, 3, 2, 4]);
  });

  it("stop at maxAttempts, whatever the pushback", async () => {
    const { call, arrivals, decisions } = await a6(retrying({ maxAttempts: 3 }), [
      { end: UNAVAILABLE, pushback: "1" },
    ]);
    const { code, details } = await call(method);
    expect([code, details]).toEqual([UNAVAILABLE, serverSaid]);
    expect(arrivals).toHaveLength(3);
    expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason: "RETRY_ATTEMPTS_SPENT" });
  });

  it("do not follow a pushback on a code that is not retryable", async () => {
    const { call, arrivals } = await a6(retrying(), [{ end: INVALID_ARGUMENT, pushback: "1" }, {}]);
    expect((await call(method)).code).toBe(INVALID_ARGUMENT);
    expect(arrivals).toHaveLength(1);
  });

  it.each([
    ["negative", "-1"],
    ["the least int32", "-2147483648"],
    ["a word", "abc"],
    ["empty", ""],
    ["a fraction", "1.5"],
    ["an exponent", "1e1"],
    ["a hexadecimal", "0x10"],
    ["with a unit", "10ms"],
    ["a list", "1,2"],
    ["beyond int32", "2147483648"],
    ["below int32", "-2147483649"],
    ["far beyond", "99999999999999999999"],
    ["given twice", ["1", "1"]],
  ])("do not follow a pushback that is %s", async (_what, pushback) => {
    const { call, arrivals, decisions } = await a6(retrying(), [
      { end: UNAVAILABLE, pushback },
      {},
    ]);
    const { code, details } = await call(method);
    expect([code, details]).toEqual([UNAVAILABLE, serverSaid]);
    expect(arrivals).toHaveLength(1);
    expect(decisions).toMatchObject([{ verdict: "stop", reason: "RETRY_PUSHBACK_STOP" }]);
  });

  it.each([
    ["0", 0],
    ["-0", 0],
    ["+30", 30],
    ["30", 30],
    ["0030", 30],
  ])("read the pushback %s as %i ms", async (pushback, waitMs) => {
    const { call, decisions, gaps } = await a6(retrying(), [{ end: UNAVAILABLE, pushback }, {}]);
    expect((await call(method)).code).toBe(Status.OK);
    expect(decisions).toMatchObject([{ verdict: "retry", waitMs }]);
    expect(gaps()[0]).toBeGreaterThanOrEqual(waitMs - tickMs);
  });

  it("read the greatest int32 as a wait, which is too long for any deadline", async () => {
    const { call, decisions } = await a6(retrying(), [
      { end: UNAVAILABLE, pushback: "2147483647" },
      {},
    ]);
    const { code, ms } = await call(method, { deadline: Date.now() + neverMs });
    expect(code).toBe(UNAVAILABLE);
    expect(ms).toBeLessThan(neverMs / 3);
    expect(decisions).toMatchObject([{ verdict: "stop", reason: "RETRY_PAST_DEADLINE" }]);
  });

  it("share one deadline over all attempts", async () => {
    const { call, arrivals } = await a6(retrying({ maxAttempts: 100 }), [
      { end: UNAVAILABLE, pushback: "80" },
      { end: "never" },
    ]);
    const { code, ms } = await call(method, { deadline: Date.now() + 400 });
    expect(code).toBe(Status.DEADLINE_EXCEEDED);
    expect(arrivals).toHaveLength(2);
    // A deadline is wall time in whole milliseconds, and so is a timer.
    expect(ms).toBeGreaterThanOrEqual(400 - 2 * tickMs);
    expect(ms).toBeLessThan(neverMs / 3);
  });

  it("end at once with what the server said when the wait would outlast the deadline", async () => {
    const backoff = { baseMs: 5_000, maxMs: 5_000, jitter: "none" } as const;
    const { call, arrivals } = await a6(retrying({ backoff }), [unavailable, {}]);
    const { code, details, ms } = await call(method, { deadline: Date.now() + 4_000 });
    expect([code, details]).toEqual([UNAVAILABLE, serverSaid]);
    expect(ms).toBeLessThan(3_000);
    expect(arrivals).toHaveLength(1);
  });
});

describe.each(["serverStream", "bidiStream"] as const)("the headers of a %s response", (method) => {
  it("commit the call, so that a failure behind them is returned", async () => {
    const { call, arrivals } = await a6(retrying(), [
      { headers: true, end: UNAVAILABLE, pushback: "1" },
      {},
    ]);
    expect((await call(method)).code).toBe(UNAVAILABLE);
    expect(arrivals).toHaveLength(1);
  });
});
