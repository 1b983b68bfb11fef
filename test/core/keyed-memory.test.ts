import { describe, expect, it } from "vitest";
import { Keyed } from "../../src/core/keyed.js";
import { memoryAnswerCache } from "../../src/policies/fallback/stale-cache/memory-answer-cache.js";
import { createWeir } from "../../src/weir.js";

describe("a bound on keys", () => {
  it.each<[string, () => unknown]>([
    ["state by key", () => new Keyed(() => ({}), 10_000_000)],
    ["a rate", () => createWeir().client({ rate: { ratePerSecond: 1, maxKeys: 10_000_000 } })],
    ["a quota", () => createWeir().server({ quota: { ratePerSecond: 1, maxKeys: 10_000_000 } })],
    ["a memory of answers", () => memoryAnswerCache({ maxEntries: 1_000_000, maxBytes: 2 ** 40 })],
  ])("takes no memory before there are keys: %s", (_what, build) => {
    const used = () => {
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      return heapUsed + arrayBuffers;
    };
    const before = used();
    const built = build();
    expect(used() - before).toBeLessThan(8 * 2 ** 20);
    expect(built).toBeDefined();
  });
});
