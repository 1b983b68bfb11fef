import { describe, expect, it } from "vitest";
import { PolicyUpdates } from "../../src/pipeline/policy-updates.js";

const method = "shop.v1.Stock/Reserve";

describe("options that are set at run time", () => {
  it("do not pile up where they are set again and again", () => {
    let updates = PolicyUpdates.none;
    for (let n = 1; n <= 1_000; n += 1) {
      updates = updates.with("breaker", { openMs: n }).with("breaker", { probes: n }, "orders");
    }
    expect(updates.size).toBe(2);
    expect(updates.overGuard({ breaker: { minCalls: 3 } }, "orders")).toEqual({
      breaker: { minCalls: 3, openMs: 1_000, probes: 1_000 },
    });
  });

  it("win over broader ones, whichever came first", () => {
    const options = { retry: { maxAttempts: 2 }, methods: { [method]: { retry: {} } } };
    const updates = PolicyUpdates.none
      .with("retry", { maxAttempts: 6 }, method)
      .with("retry", { maxAttempts: 5 }, "client")
      .with("retry", { maxAttempts: 4, maxDepth: 2 });
    expect(updates.overClient(options)).toEqual({
      retry: { maxAttempts: 5, maxDepth: 2 },
      methods: { [method]: { retry: { maxAttempts: 6, maxDepth: 2 } } },
    });
    expect(updates.without("retry", method).overClient(options)).toMatchObject({
      methods: { [method]: { retry: { maxAttempts: 5 } } },
    });
  });

  it("hold for the methods of a service, and for no other client of another name", () => {
    const options = { name: "stock", methods: { [`/${method}`]: { rate: { ratePerSecond: 1 } } } };
    const updates = PolicyUpdates.none
      .with("rate", { ratePerSecond: 9 }, "stock shop.v1.Stock")
      .with("rate", { burst: 7 }, "client");
    expect(updates.overClient(options)).toEqual({
      ...options,
      methods: { [`/${method}`]: { rate: { ratePerSecond: 9 } } },
    });
  });

  it("turn nothing on that is off, and what is on by default they reach", () => {
    const updates = PolicyUpdates.none
      .with("hedge", { delayMs: 1 })
      .with("breaker", { openMs: 1 })
      .with("feasibility", { share: 1 })
      .with("quota", { burst: 2 });
    expect(updates.overClient({ hedge: false })).toEqual({ hedge: false, breaker: { openMs: 1 } });
    expect(updates.overClient({ breaker: false })).toEqual({ breaker: false });
    expect(updates.overServer({ quota: [{}, {}] })).toEqual({
      deadlineGuard: { learned: { share: 1 } },
      quota: [{ burst: 2 }, { burst: 2 }],
    });
    expect(updates.overServer({ deadlineGuard: { learned: false } })).toEqual({
      deadlineGuard: { learned: false },
    });
  });
});
