import fc from "fast-check";
import { expect, it } from "vitest";
import { maxDurationMs } from "../../../src/core/options.js";
import { exponentialBackoff, type Jitter } from "../../../src/policies/retry/backoff.js";

// Not `fc.double`, which is mostly close to 0.
const chance = fc.nat(2 ** 30 - 1).map((n) => n / 2 ** 30);
const options = fc
  .tuple(
    fc.nat(maxDurationMs),
    fc.nat(maxDurationMs),
    // Not between: the step-by-step model below would need too many steps to reach the limit.
    fc.oneof(fc.constant(1), fc.double({ min: 1.01, max: 100, noNaN: true })),
  )
  .map(([one, other, multiplier]) => ({
    baseMs: Math.min(one, other),
    maxMs: Math.max(one, other),
    multiplier,
  }));
const retries = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.maxSafeNat().map((n) => n + 1),
);

/** Shares of `cap` between which a delay lies. */
const spread: Record<Exclude<Jitter, "decorrelated">, readonly [number, number]> = {
  none: [1, 1],
  full: [0, 1],
  equal: [0.5, 1],
  proportional: [0.8, 1.2],
};
const jitters = fc.constantFrom("none", "full", "equal", "proportional");

/** The delay without jitter, multiplied step by step until it stands still. */
function capOf(o: { baseMs: number; maxMs: number; multiplier: number }, retry: number): number {
  let capMs = o.baseMs;
  const grows = o.multiplier > 1 && o.baseMs > 0;
  for (let step = 1; grows && step < retry && capMs < o.maxMs; step += 1) capMs *= o.multiplier;
  return Math.min(o.maxMs, capMs);
}

it("a delay lies in the share of the growing limit that its jitter allows, at any retry number", () => {
  fc.assert(
    fc.property(options, jitters, retries, chance, (o, jitter, retry, drawn) => {
      const delayMs = exponentialBackoff({ ...o, jitter })(retry, 0, () => drawn);
      const capMs = capOf(o, retry);
      const [from, to] = spread[jitter];
      const slack = 1 + 1e-9;
      expect(delayMs).toBeGreaterThanOrEqual((capMs * from) / slack);
      expect(delayMs).toBeLessThanOrEqual(capMs * to * slack);
    }),
  );
});

it("decorrelated delays stay between the base and the limit, whatever came before", () => {
  const previous = fc.oneof(
    fc.double({ min: 0, max: 10_000, noNaN: true }),
    fc.constantFrom(maxDurationMs, Number.MAX_VALUE, Number.POSITIVE_INFINITY),
  );
  fc.assert(
    fc.property(options, retries, previous, chance, (o, retry, previousMs, drawn) => {
      const backoff = exponentialBackoff({ ...o, jitter: "decorrelated" });
      const delayMs = backoff(retry, previousMs, () => drawn);
      expect(delayMs).toBeGreaterThanOrEqual(o.baseMs);
      expect(delayMs).toBeLessThanOrEqual(o.maxMs);
      expect(delayMs).toBeLessThanOrEqual(3 * Math.max(o.baseMs, previousMs) * (1 + 1e-9));
    }),
  );
});

it("the same chance gives delays that never shrink from one retry to the next", () => {
  fc.assert(
    fc.property(
      options,
      jitters,
      fc.integer({ min: 1, max: 2_000 }),
      chance,
      (o, jitter, n, drawn) => {
        const backoff = exponentialBackoff({ ...o, jitter });
        expect(backoff(n + 1, 0, () => drawn)).toBeGreaterThanOrEqual(backoff(n, 0, () => drawn));
      },
    ),
  );
});
