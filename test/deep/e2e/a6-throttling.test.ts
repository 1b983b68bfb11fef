import { status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import type { RetryBudgetOptions } from "../../../src/policies/retry/budget.js";
import type { RetryPolicyOptions } from "../../../src/policies/retry/client-policy.js";
import { kinds } from "../../scene.js";
import { type Act, a6, closeAll, serverSaid } from "./a6-scene.js";

const { UNAVAILABLE, INVALID_ARGUMENT } = Status;

const tenTokens = { ratio: false, maxTokens: 10, tokenRatio: 0.5 } as const;

function throttled(
  budget: RetryBudgetOptions = tenTokens,
  options: RetryPolicyOptions = {},
): ClientPolicy {
  const backoff = { baseMs: 2, maxMs: 2, jitter: "none" } as const;
  return { breaker: false, retry: { idempotent: true, backoff, budget, ...options } };
}

const unavailable: Act = { end: UNAVAILABLE };

afterEach(closeAll);

describe.each(kinds)("the throttle of %s", (method) => {
  it.each<[string, Act, number]>([
    ["one for a retryable code", { end: UNAVAILABLE }, 9],
    ["one for a retryable code with a pushback", { end: UNAVAILABLE, pushback: "1" }, 9],
    ["one for a retryable code that must not be retried", { end: UNAVAILABLE, pushback: "-1" }, 9],
    [
      "one for a fatal code with a pushback that says stop",
      { end: INVALID_ARGUMENT, pushback: "-1" },
      9,
    ],
    [
      "one for a fatal code with a pushback that is none",
      { end: INVALID_ARGUMENT, pushback: "soon" },
      9,
    ],
    ["none for a fatal code", { end: INVALID_ARGUMENT }, 10],
    ["none for a fatal code with a pushback", { end: INVALID_ARGUMENT, pushback: "1" }, 10],
    ["none for an OK", {}, 10],
  ])("takes %s", async (_what, act, left) => {
    const { call, tokens } = await a6(throttled(tenTokens, { maxAttempts: 1 }), [act]);
    await call(method);
    expect(tokens()).toBe(left);
  });

  it("takes a token for every failed attempt of a call, and none for what the caller ends", async () => {
    const { call, start, arrivals, tokens } = await a6(throttled(tenTokens, { maxAttempts: 3 }), [
      unavailable,
      unavailable,
      unavailable,
      { end: "never" },
    ]);
    await call(method);
    expect(tokens()).toBe(7);
    const cancelled = start(method);
    await expect.poll(() => arrivals.length).toBe(4);
    cancelled.cancel();
    expect((await cancelled.ended).code).toBe(Status.CANCELLED);
    const late = await call(method, { deadline: Date.now() + 100 });
    expect(late.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(tokens()).toBe(7);
  });

  it("gives back its ratio for each OK, and never more than there were", async () => {
    const { call, tokens } = await a6(throttled(tenTokens, { maxAttempts: 1 }), [unavailable, {}]);
    const left: unknown[] = [];
    for (let n = 0; n < 4; n++) {
      await call(method);
      left.push(tokens());
    }
    expect(left).toEqual([9, 9.5, 10, 10]);
  });

  it("ignores the decimals of its ratio past the third", async () => {
    const budget = { ...tenTokens, tokenRatio: 0.5466 };
    const { call, tokens } = await a6(throttled(budget, { maxAttempts: 1 }), [unavailable, {}]);
    await call(method);
    await call(method);
    expect(tokens()).toBe(9.546);
  });

  it("counts a success at its OK, not at its headers", async () => {
    const { call, tokens } = await a6(throttled(tenTokens, { maxAttempts: 1 }), [
      unavailable,
      { headers: true, afterMs: 50, end: INVALID_ARGUMENT },
      { headers: true, afterMs: 50 },
    ]);
    await call(method);
    expect((await call(method)).code).toBe(INVALID_ARGUMENT);
    expect(tokens()).toBe(9);
    expect((await call(method)).code).toBe(Status.OK);
    expect(tokens()).toBe(9.5);
  });

  it("compares what is left after the failure: half is too little", async () => {
    const four = { ...tenTokens, maxTokens: 4 };
    const { call, arrivals } = await a6(throttled(four, { maxAttempts: 10 }), [unavailable]);
    await call(method);
    // The first failure leaves three of four and is followed by a retry, the second leaves two.
    expect(arrivals).toHaveLength(2);
  });

  it.each<[string, Act]>([
    ["backoff", unavailable],
    ["pushback", { end: UNAVAILABLE, pushback: "15000" }],
  ])(
    "returns the failure now, and not after the %s, where it denies the retry",
    async (_w, act) => {
      const backoff = { baseMs: 15_000, maxMs: 15_000, jitter: "none" } as const;
      const two = { ...tenTokens, maxTokens: 2 };
      const { call, arrivals, decisions } = await a6(throttled(two, { backoff }), [act, {}]);
      const { code, details, ms } = await call(method);
      expect([code, details]).toEqual([UNAVAILABLE, serverSaid]);
      expect(ms).toBeLessThan(5_000);
      expect(arrivals).toHaveLength(1);
      expect(decisions).toMatchObject([{ verdict: "stop", reason: "RETRY_BUDGET" }]);
    },
  );

  it("never holds back a first attempt", async () => {
    const two = { ...tenTokens, maxTokens: 2 };
    const { call, arrivals, tokens } = await a6(throttled(two), [unavailable]);
    for (let n = 0; n < 4; n++) await call(method);
    expect(tokens()).toBe(0);
    expect(arrivals).toHaveLength(4);
  });

  it("is each server's own", async () => {
    const four = { ...tenTokens, maxTokens: 4 };
    const one = await a6(throttled(four, { maxAttempts: 2 }), [unavailable]);
    const other = await one.beside();
    for (let n = 0; n < 3; n++) await one.call(method);
    await other.call(method);
    expect(one.arrivals).toHaveLength(4);
    expect(other.arrivals).toHaveLength(2);
  });
});
