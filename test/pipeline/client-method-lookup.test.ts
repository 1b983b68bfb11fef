import { afterEach, describe, expect, it, vi } from "vitest";
import { ClientPolicies } from "../../src/pipeline/client.js";
import { kinds, path, scene } from "../scene.js";

afterEach(() => {
  vi.restoreAllMocks();
});

describe("the policies of a method", () => {
  it.each(kinds)(
    "are looked up once for calls of %s, whatever stands in their way",
    async (kind) => {
      const lookups = vi.spyOn(ClientPolicies.prototype, "for");
      const world = await scene({
        client: {
          deadline: { defaultMs: 10_000 },
          throttle: {},
          rate: { ratePerSecond: 1_000 },
          bulkhead: { maxConcurrent: 10 },
          idempotencyKey: {},
          methods: {
            "weir.v1.ConformanceService": { timeouts: { attemptMs: 1_000 } },
            [path[kind].slice(1)]: { retry: { maxAttempts: 2 } },
          },
        },
      });
      expect((await world.call(kind)).code).toBe(0);
      expect(lookups.mock.calls).toEqual([[path[kind]]]);
      expect((await world.call(kind)).code).toBe(0);
      expect(lookups).toHaveBeenCalledTimes(1);
    },
  );

  it("are looked up again where calls of two methods take turns, once for each call", async () => {
    const world = await scene({ client: { methods: { "weir.v1.ConformanceService/Unary": {} } } });
    const lookups = vi.spyOn(ClientPolicies.prototype, "for");
    for (let round = 0; round < 3; round += 1) {
      await world.call("unary");
      await world.call("serverStream");
    }
    expect(lookups).toHaveBeenCalledTimes(6);
  });
});
