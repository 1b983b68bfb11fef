import { status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import type { RetryBudgetOptions } from "../../../src/policies/retry/budget.js";
import type { HedgeOptions } from "../../../src/policies/retry/options.js";
import { kinds } from "../../scene.js";
import { type Act, a6, closeAll, serverSaid } from "./a6-scene.js";

const { INVALID_ARGUMENT, ABORTED, OK } = Status;

/** Longer than any test may take: a hedge that waits for the regular timer is not missed. */
const neverMs = 6_000;

function hedging(hedge: HedgeOptions, budget: RetryBudgetOptions): ClientPolicy {
  return { breaker: false, retry: { idempotent: true, budget }, hedge };
}

const hanging: Act = { end: "never" };
const unavailable: Act = { end: Status.UNAVAILABLE };

afterEach(closeAll);

describe.each(kinds)("the throttle of hedged %s", (method) => {
  const tokens = (maxTokens: number) => ({ ratio: false, maxTokens, tokenRatio: 0.5 }) as const;
  const nonFatalCodes = [ABORTED];

  it.each<[string, Act, number]>([
    ["one for a code that is not fatal", { end: ABORTED }, 9],
    ["none for a fatal code", { end: INVALID_ARGUMENT }, 10],
    ["none for a code that only retries would follow", unavailable, 10],
    [
      "one for a fatal code with a pushback that says stop",
      { end: INVALID_ARGUMENT, pushback: "-1" },
      9,
    ],
    ["none for a fatal code with another pushback", { end: INVALID_ARGUMENT, pushback: "1" }, 10],
  ])("takes %s", async (_what, act, left) => {
    const hedge = { maxAttempts: 2, delayMs: neverMs, nonFatalCodes };
    const scene = await a6(hedging(hedge, tokens(10)), [act, { end: INVALID_ARGUMENT }]);
    await scene.call(method);
    expect(scene.tokens("hedge")).toBe(left);
  });

  it("takes none for hedges that have lost, and gives its ratio for the one that won", async () => {
    const hedge = { maxAttempts: 3, delayMs: 250, nonFatalCodes };
    const scene = await a6(hedging(hedge, tokens(10)), [
      { end: ABORTED },
      { end: ABORTED },
      {},
      hanging,
      {},
    ]);
    expect((await scene.call(method)).code).toBe(OK);
    expect(scene.tokens("hedge")).toBe(8.5);
    expect((await scene.call(method)).code).toBe(OK);
    await expect
      .poll(() => scene.arrivals.map(({ cancelled }) => cancelled), { timeout: 5_000 })
      .toEqual([false, false, false, true, false]);
    expect(scene.tokens("hedge")).toBe(9);
  });

  it("drops a hedge that it denies, and the one in flight may still answer", async () => {
    const hedge = { maxAttempts: 3, delayMs: 250, nonFatalCodes };
    const { call, arrivals, decisions } = await a6(hedging(hedge, tokens(2)), [
      { end: ABORTED },
      { afterMs: 700 },
      {},
    ]);
    await call(method);
    expect(arrivals).toHaveLength(1);
    expect((await call(method)).code).toBe(OK);
    expect(arrivals).toHaveLength(2);
    expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason: "RETRY_BUDGET" });
  });

  it.each<[string, Act]>([
    ["the next hedge", { end: ABORTED }],
    ["a pushback", { end: ABORTED, pushback: "6000" }],
  ])("returns the failure now, and not after %s, when none is in flight", async (_what, act) => {
    const hedge = { maxAttempts: 3, delayMs: neverMs, nonFatalCodes };
    const { call, arrivals, decisions } = await a6(hedging(hedge, tokens(2)), [act, {}]);
    const { code, details, ms } = await call(method);
    expect([code, details]).toEqual([ABORTED, serverSaid]);
    expect(ms).toBeLessThan(neverMs / 2);
    expect(arrivals).toHaveLength(1);
    expect(decisions).toMatchObject([{ verdict: "stop", reason: "RETRY_BUDGET" }]);
  });
});
