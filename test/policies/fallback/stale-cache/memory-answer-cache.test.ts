import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../../src/core/options.js";
import {
  memoryAnswerCache,
  resolveMemoryAnswerCacheOptions,
} from "../../../../src/policies/fallback/stale-cache/memory-answer-cache.js";
import { VirtualClock } from "../../../../src/testing/clock/virtual-clock.js";

const value = (length: number) => new Uint8Array(length);

describe("a cache of answers in memory", () => {
  it("gives what was set until it has expired", () => {
    const clock = new VirtualClock();
    const cache = memoryAnswerCache({ clock });
    cache.set("a", value(3), 100);
    clock.advance(99);
    expect(cache.get("a")).toEqual(value(3));
    clock.advance(1);
    expect(cache.get("a")).toBeUndefined();
    expect(cache.snapshot()).toEqual({ entries: 0, bytes: 0 });
    expect(cache.get("b")).toBeUndefined();
  });

  it("has room for a thousand answers and 16 MiB by default", () => {
    expect(resolveMemoryAnswerCacheOptions()).toEqual({ maxEntries: 1_000, maxBytes: 16_777_216 });
  });

  it("forgets what was used longest ago, by number and by bytes", () => {
    const few = memoryAnswerCache({ maxEntries: 2 });
    for (const key of ["a", "b"]) few.set(key, value(1), 100);
    few.get("a");
    few.set("c", value(1), 100);
    expect([few.get("a"), few.get("b"), few.get("c")]).toEqual([value(1), undefined, value(1)]);

    const small = memoryAnswerCache({ maxBytes: 10 });
    small.set("a", value(4), 100);
    small.set("b", value(4), 100);
    expect(small.snapshot()).toEqual({ entries: 2, bytes: 10 });
    small.set("c", value(4), 100);
    expect(small.snapshot()).toEqual({ entries: 2, bytes: 10 });
    expect(small.get("a")).toBeUndefined();
  });

  it("keeps an answer of no bytes under a key of none, which counts as one byte", () => {
    const cache = memoryAnswerCache();
    cache.set("", value(0), 100);
    expect(cache.get("")).toEqual(value(0));
    expect(cache.snapshot()).toEqual({ entries: 1, bytes: 1 });
  });

  it("takes in nothing that is larger than all its room, and forgets what stood there before", () => {
    const cache = memoryAnswerCache({ maxBytes: 10 });
    cache.set("a", value(4), 100);
    cache.set("a", value(40), 100);
    expect(cache.get("a")).toBeUndefined();
    expect(cache.snapshot()).toEqual({ entries: 0, bytes: 0 });
  });

  it("stays within its bounds, whatever is set and read", () => {
    const step = fc.record({
      key: fc.constantFrom("a", "bb", "ccc", "dddd", "eeeee"),
      length: fc.integer({ min: 0, max: 30 }),
      ttlMs: fc.integer({ min: 1, max: 20 }),
      waitMs: fc.integer({ min: 0, max: 5 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const clock = new VirtualClock();
        const cache = memoryAnswerCache({ clock, maxEntries: 3, maxBytes: 60 });
        const model = new Map<string, { length: number; until: number }>();
        for (const { key, length, ttlMs, waitMs } of steps) {
          cache.set(key, value(length), ttlMs);
          model.set(key, { length, until: clock.now() + ttlMs });
          const { entries, bytes } = cache.snapshot();
          expect(entries).toBeLessThanOrEqual(3);
          expect(bytes).toBeLessThanOrEqual(60);
          clock.advance(waitMs);
          for (const [name, { length: expected, until }] of model) {
            const got = cache.get(name);
            if (got === undefined) continue;
            expect(got.length).toBe(expected);
            expect(clock.now()).toBeLessThan(until);
          }
        }
      }),
    );
  });

  it.each([
    [{ maxEntries: 0 }, "memoryAnswerCache.maxEntries must be a whole number from 1 to 1000000"],
    [{ maxBytes: 1.5 }, "memoryAnswerCache.maxBytes"],
    [{ maxByte: 1 }, "memoryAnswerCache.maxByte is not an option"],
    [{ clock: {} }, "memoryAnswerCache.clock must be a clock"],
  ])("refuses %o", (options, message) => {
    const build = () => memoryAnswerCache(options as object);
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(message);
  });
});
