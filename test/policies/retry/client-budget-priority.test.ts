import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { type Priority, priorities } from "../../../src/core/priority.js";
import { priorityKey } from "../../../src/grpc/metadata.js";
import { handlers, scene } from "../../scene.js";

const perPriority = 15;

const marked = (priority: Priority) => {
  const metadata = new Metadata();
  metadata.set(priorityKey, priority);
  return metadata;
};

/** How many calls of each priority are answered when 60 come at once, the low ones first, to a server with four slots. */
async function burst(seed: number) {
  const { start, link, clock, decisions } = await scene({
    seed,
    client: { retry: { maxAttempts: 4 } },
    server: { admission: { limit: 4 } },
    handlers: handlers((_call, answer) => clock.schedule(80, answer)),
  });
  const deadline = clock.wallNow() + 2_000;
  const calls = [...priorities].reverse().flatMap((priority) =>
    Array.from({ length: perPriority }, () => ({
      priority,
      ended: start("unary", { deadline }, marked(priority)).ended,
    })),
  );
  const answered: Record<Priority, number> = { critical: 0, high: 0, normal: 0, low: 0 };
  for (const { priority, ended } of calls) {
    if ((await link.until(ended)).code === Status.OK) answered[priority] += 1;
  }
  const stops = decisions.filter(({ reason }) => reason === "RETRY_BUDGET").length;
  return { answered, stops };
}

describe("a burst of all priorities at a server with few slots", () => {
  it.each([1, 2, 3])(
    "gives critical calls their retries, however the rest fares (seed %i)",
    async (seed) => {
      const { answered, stops } = await burst(seed);
      // The budget is used up, by lower priorities.
      expect(stops).toBeGreaterThan(0);
      expect(answered.critical).toBe(perPriority);
      expect(answered.high).toBeGreaterThanOrEqual(answered.normal);
    },
  );
});

it("failures of low calls leave tokens for critical ones", async () => {
  const { start, link } = await scene({
    handlers: handlers(({ metadata, fail }, answer) => {
      const low = metadata.get(priorityKey)[0] === "low";
      if (low || metadata.get("grpc-previous-rpc-attempts").length === 0) {
        fail({ code: Status.UNAVAILABLE, details: "no room" });
      } else answer();
    }),
    client: {
      breaker: false,
      retry: { backoff: { baseMs: 1, jitter: "none" }, budget: { ratio: false, maxTokens: 20 } },
    },
  });
  const codes = [];
  for (const priority of ["low", "low", "low", "critical", "low", "critical"] as const) {
    // Three attempts each, until nothing is left for low calls.
    codes.push((await link.until(start("unary", {}, marked(priority)).ended)).code);
    for (let n = 0; n < 5; n += 1) await link.until(start("unary", {}, marked("low")).ended);
  }
  expect(codes.filter((code) => code === Status.OK)).toHaveLength(2);
});

it("hedges of low calls leave extra attempts for hedges of critical ones", async () => {
  const attempts: Record<string, number> = {};
  const { start, link, clock } = await scene({
    handlers: handlers(({ metadata }, answer) => {
      const [priority] = metadata.get(priorityKey);
      attempts[String(priority)] = (attempts[String(priority)] ?? 0) + 1;
      clock.schedule(100, answer);
    }),
    client: {
      retry: { idempotent: true, budget: { ratio: 0.1, minPerSecond: 1, maxTokens: false } },
      hedge: { delayMs: 10 },
    },
  });
  const calls = (["low", "critical"] as const).flatMap((priority) =>
    Array.from({ length: 20 }, () => start("unary", {}, marked(priority))),
  );
  for (const { ended } of calls) await link.until(ended);
  // 14 extra attempts for 40 calls, half of which are critical.
  expect(attempts).toEqual({ low: 20 + 7, critical: 20 + 7 });
});
