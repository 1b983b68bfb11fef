import fc from "fast-check";
import { expect, it } from "vitest";
import { priorities } from "../../../src/core/priority.js";
import {
  Brownout,
  resolveBrownoutOptions,
  skipShare,
} from "../../../src/policies/brownout/brownout.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";

const part = fc.double({ min: 0, max: 1, noNaN: true });
const work = fc
  .tuple(part, part)
  .map(([a, b]) => ({ skipAbovePressure: Math.min(a, b), skipAllAbovePressure: Math.max(a, b) }));
const resolvedWork = work.map((one) => ({ ...one, mark: true }));
const priority = fc.constantFrom(...priorities);

it("more pressure never means less skipping, nor a better priority more", () => {
  fc.assert(
    fc.property(resolvedWork, part, part, (each, one, other) => {
      const [less, more] = [Math.min(one, other), Math.max(one, other)];
      for (const [rank, name] of priorities.entries()) {
        const share = skipShare(each, name, more);
        expect(share).toBeGreaterThanOrEqual(skipShare(each, name, less));
        expect(share).toBeGreaterThanOrEqual(0);
        expect(share).toBeLessThanOrEqual(1);
        const worse = priorities[rank + 1];
        if (worse !== undefined) expect(skipShare(each, worse, more)).toBeGreaterThanOrEqual(share);
      }
    }),
  );
});

it("nobody skips up to the one end, and everybody from the other", () => {
  fc.assert(
    fc.property(resolvedWork, part, priority, (each, pressure, name) => {
      const share = skipShare(each, name, pressure);
      if (pressure <= each.skipAbovePressure) expect(share).toBe(0);
      else if (pressure >= each.skipAllAbovePressure) expect(share).toBe(1);
    }),
  );
});

it("what skips a piece of work skips all that is dimmed sooner, by the one draw of its call", () => {
  fc.assert(
    fc.property(work, part, part, priority, part, (base, shiftFrom, shiftTo, name, chance) => {
      // The second is dimmed later at both ends.
      const from = base.skipAbovePressure + shiftFrom * (1 - base.skipAbovePressure);
      const least = Math.max(from, base.skipAllAbovePressure);
      const later = {
        skipAbovePressure: from,
        skipAllAbovePressure: least + shiftTo * (1 - least),
      };
      const works = resolveBrownoutOptions({ optional: { sooner: base, later } });
      for (let step = 0; step <= 20; step++) {
        const brownout = new Brownout(works, { now: () => step / 20 }, () => {});
        const skips = (which: string) =>
          brownout.judge(which, name, undefined, () => chance)?.skip === true;
        if (skips("later")) expect(skips("sooner")).toBe(true);
      }
    }),
  );
});

it("the share of the calls that skip is the share that should", () => {
  fc.assert(
    fc.property(resolvedWork, part, priority, fc.integer(), (each, pressure, name, seed) => {
      const works = new Map([["work", each]]);
      const brownout = new Brownout(works, { now: () => pressure }, () => {});
      const random = seededRandom(seed);
      const calls = 2_000;
      let skipped = 0;
      for (let call = 0; call < calls; call++) {
        if (brownout.judge("work", name, undefined, random)?.skip === true) skipped += 1;
      }
      const share = skipShare(each, name, pressure);
      const deviation = Math.sqrt(calls * share * (1 - share));
      expect(Math.abs(skipped - calls * share)).toBeLessThanOrEqual(5 * deviation + 1);
    }),
    { numRuns: 40 },
  );
});
