import fc from "fast-check";
import { expect, it } from "vitest";
import { type FaultKind, Faults } from "../../../src/policies/faults/faults.js";
import { type FaultOptions, resolveFaultOptions } from "../../../src/policies/faults/options.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";

const share = fc.integer({ min: 0, max: 25 }).map((percent) => percent / 100);
const rates = fc.record({
  latency: fc.integer({ min: 0, max: 100 }).map((percent) => percent / 100),
  status: share,
  drop: share,
  reset: share,
  midStream: share,
});

function faultsOf(options: FaultOptions, seed: number): Faults {
  const resolved = resolveFaultOptions(options, "client");
  return new Faults(resolved, seededRandom(seed), () => {});
}

it("each rate is met, whatever the others are, and so is their product where two dice meet", () => {
  fc.assert(
    fc.property(rates, fc.integer(), fc.constantFrom(1, 0.5, 0.1), (rate, seed, scale) => {
      const { latency, status, drop, reset, midStream } = rate;
      const faults = faultsOf(
        {
          latency: { rate: latency, ms: 1 },
          status: { rate: status },
          drop: { rate: drop },
          reset: { rate: reset },
          midStream: { rate: midStream },
        },
        seed,
      );
      faults.scale = scale;
      const calls = 4_000;
      const struck = { latency: 0, status: 0, drop: 0, reset: 0, midStream: 0 };
      let both = 0;
      for (let call = 0; call < calls; call++) {
        const fault = faults.draw();
        if (fault?.delayMs !== undefined) struck.latency += 1;
        if (fault?.end !== undefined) struck[fault.end.kind] += 1;
        if (fault?.delayMs !== undefined && fault.end !== undefined) both += 1;
      }
      // Five standard deviations, and one call for the roundings.
      const near = (count: number, expected: number) => {
        const deviation = Math.sqrt(calls * expected * (1 - expected));
        expect(Math.abs(count - calls * expected)).toBeLessThanOrEqual(5 * deviation + 1);
      };
      for (const [kind, each] of Object.entries(rate))
        near(struck[kind as FaultKind], each * scale);
      near(both, latency * scale * (status + drop + reset + midStream) * scale);
    }),
    { numRuns: 40 },
  );
});

it("no more calls are held than may be, and in the end none", () => {
  const step = fc.record({ draw: fc.boolean(), which: fc.nat() });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.array(step, { maxLength: 100 }),
      fc.integer(),
      (maxActive, steps, seed) => {
        const faults = faultsOf(
          { latency: { rate: 0.5, ms: 1 }, drop: { rate: 0.5 }, maxActive },
          seed,
        );
        const held: (() => void)[] = [];
        for (const { draw, which } of steps) {
          const [gone] = draw ? [] : held.splice(which % Math.max(1, held.length), 1);
          if (gone !== undefined) {
            faults.release(gone);
            faults.release(gone);
          }
          if (draw && faults.draw() !== undefined) {
            const end = () => {};
            faults.hold(end);
            held.push(end);
          }
          expect(faults.active).toBe(held.length);
          expect(faults.active).toBeLessThanOrEqual(maxActive);
        }
        for (const end of held) faults.release(end);
        expect(faults.active).toBe(0);
      },
    ),
  );
});

it("the same seed strikes the same calls", () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const options = { latency: { rate: 0.3, ms: [1, 9] as const }, status: { rate: 0.3 } };
      const [one, other] = [faultsOf(options, seed), faultsOf(options, seed)];
      for (let call = 0; call < 50; call++) expect(one.draw()).toEqual(other.draw());
    }),
  );
});
