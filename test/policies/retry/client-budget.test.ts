import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
} from "../../../src/gen/weir/v1/conformance.js";
import type { RetryPolicyOptions } from "../../../src/policies/retry/client-policy.js";
import { SharedRetryBudgets } from "../../../src/policies/retry/shared-budget.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { echo, failing, handlers, kinds, scene, startCall } from "../../scene.js";
import { FakeBudgetLedger } from "./fleet-scene.js";

const quick = { backoff: { baseMs: 1, jitter: "none" } } as const;

/** What a weir under the same clock shares its retry budgets by. */
function sharedBudgets() {
  const clock = new VirtualClock();
  const ledger = new FakeBudgetLedger(clock);
  const share = new SharedRetryBudgets(ledger, 250, clock, () => {}, "budgets");
  return { clock, ledger, share };
}

describe.each(kinds)("the retry budget of %s", (method) => {
  it("ends retries when its tokens are down to half, with the server's own status", async () => {
    const server = failing(1_000, { code: Status.UNAVAILABLE, details: "the server's own" });
    const budget = { ratio: false, maxTokens: 10, tokenRatio: 0.1 } as const;
    const { call, decisions } = await scene({
      handlers: server.handlers,
      client: { breaker: false, retry: { ...quick, maxAttempts: 3, budget } },
    });
    for (let n = 0; n < 10; n++) {
      const ended = await call(method);
      expect([ended.code, ended.details]).toEqual([Status.UNAVAILABLE, "the server's own"]);
    }
    // Four failures leave more than half of ten tokens; each of them may be followed by a retry.
    expect(server.calls()).toBe(10 + 4 - 1);
    expect(decisions.filter(({ reason }) => reason === "RETRY_BUDGET").length).toBeGreaterThan(5);
  });

  it("says of the retries that it allows alone that the store that it shares is away", async () => {
    const { share, ledger, clock } = sharedBudgets();
    const budget = { share, maxTokens: false } as const;
    const { call, link, decisions, weir } = await scene({
      clock,
      handlers: failing(1_000).handlers,
      client: { breaker: false, retry: { ...quick, maxAttempts: 2, budget } },
    });
    const retries = () => decisions.filter(({ verdict }) => verdict === "retry");
    await call(method);
    await link.pass(10);
    await call(method);
    ledger.fate = () => "refused";
    await link.pass(2_000);
    await call(method);
    await link.pass(10);
    await call(method);
    const reasons = retries().map(({ reason }) => reason);
    expect(reasons.slice(0, 2)).toEqual([undefined, undefined]);
    expect(reasons.at(-1)).toBe("STORE_AWAY");
    expect(JSON.stringify(weir.policy("retry").snapshot())).toContain('"away":true');
  });

  it("allows no more than its share of extra attempts", async () => {
    const server = failing(1_000);
    const budget = { ratio: 0.2, minPerSecond: 0, maxTokens: false } as const;
    const { call } = await scene({
      handlers: server.handlers,
      client: { breaker: false, retry: { ...quick, maxAttempts: 5, budget } },
    });
    for (let n = 0; n < 50; n++) await call(method);
    expect(server.calls()).toBe(60);
  });
});

it.each<[string, RetryPolicyOptions, ConformanceServiceServer]>([
  [
    "a failure that is not retried",
    {},
    failing(9, { code: Status.NOT_FOUND, details: "none" }).handlers,
  ],
  ["a response that is not wanted", { idempotent: true, retryResponse: () => true }, echo],
])("%s takes no token", async (_what, retry, implementation) => {
  const { call, weir } = await scene({
    handlers: implementation,
    client: { breaker: false, retry: { ...quick, ...retry } },
  });
  await call("unary");
  expect(JSON.stringify(weir.policy("retry").snapshot())).toContain('"left":100');
});

it("an attempt that a policy refuses is given back to the time at which it was taken", async () => {
  const hanging = new Set<string>(["holds"]);
  const { client, clock, link, weir } = await scene({
    client: {
      breaker: false,
      bulkhead: { maxConcurrent: 1, maxQueued: 0 },
      retry: { backoff: { baseMs: 5_000, maxMs: 5_000, jitter: "none" } },
    },
    handlers: handlers(({ metadata, fail }, answer) => {
      const [name] = metadata.get("name");
      if (hanging.has(String(name))) return;
      if (metadata.get("grpc-previous-rpc-attempts").length > 0) answer();
      else fail({ code: Status.UNAVAILABLE, details: "not now" });
    }),
  });
  const start = (name: string) => {
    const metadata = new Metadata();
    metadata.set("name", name);
    return startCall(client, "unary", {}, metadata);
  };
  const early = start("early");
  await link.pass(4_000);
  const later = start("later");
  await link.pass(500);
  const holds = start("holds");
  await link.pass(1_000);
  expect((await link.until(early.ended)).code).toBe(Status.UNAVAILABLE);
  holds.cancel();
  expect((await link.until(later.ended)).code).toBe(Status.OK);
  // What the early call took would be forgotten by now. What the later one took is not.
  await clock.pass(3_000);
  expect(JSON.stringify(weir.policy("retry").snapshot())).toContain('"extras":1');
});

describe("clients of one weir that reach the same target", () => {
  it("share the budget, over channels; another weir has its own", async () => {
    const server = failing(1_000);
    const budget = { ratio: false, maxTokens: 10 } as const;
    const policy = { breaker: false, retry: { ...quick, maxAttempts: 3, budget } } as const;
    const world = await scene({ handlers: server.handlers, client: policy });
    const other = world.link.client(ConformanceServiceClient);
    for (let n = 0; n < 10; n++) {
      await world.call("unary");
      await world.link.until(startCall(other, "unary", {}, new Metadata()).ended);
    }
    expect(server.calls()).toBe(20 + 4 - 1);
    expect(JSON.stringify(world.weir.snapshot().policies.retry)).toContain('"left":0');
  });
});
