import fc from "fast-check";
import { expect, it } from "vitest";
import {
  type HedgeProgress,
  hedgeAfterFailure,
  mayHedge,
  withoutHedge,
} from "../../../src/policies/retry/hedging.js";

/** What happens next: an attempt fails, the timer fires, or time passes up to a pushback. */
const event = fc.record({
  what: fc.constantFrom("failure", "failure", "tick"),
  fatal: fc.nat(9).map((n) => n === 0),
  pushback: fc.oneof(
    { weight: 4, arbitrary: fc.constant(undefined) },
    { weight: 2, arbitrary: fc.nat(1_000) },
    { weight: 1, arbitrary: fc.constant("stop" as const) },
  ),
  budget: fc.nat(4).map((n) => n > 0),
});

it("a hedged call starts no more than it may, none after a stop, and ends when nothing can answer", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 5 }),
      // Enough for the longest call: each attempt fails once, and ticks come between.
      fc.array(event, { minLength: 40, maxLength: 60, size: "max" }),
      (maxAttempts, events) => {
        let started = 1;
        let inFlight = 1;
        let stopped = false;
        let scheduled = false;
        let ended = false;
        const progress = (): HedgeProgress => ({ started, inFlight, maxAttempts, stopped });
        const launch = () => {
          expect(stopped).toBe(false);
          started += 1;
          inFlight += 1;
          scheduled = false;
          expect(started).toBeLessThanOrEqual(maxAttempts);
        };

        for (const { what, fatal, pushback, budget } of events) {
          if (what === "tick" || inFlight === 0) {
            if (mayHedge(progress()) && budget) launch();
            else if (scheduled) ended = withoutHedge(inFlight, "RETRY_BUDGET").kind === "fail";
            scheduled = false;
          } else {
            inFlight -= 1;
            const decision = hedgeAfterFailure({ ...progress(), fatal, pushback });
            if (fatal) expect(decision.kind).toBe("fail");
            switch (decision.kind) {
              case "fail":
                // With a status that is not fatal, only when there is nothing left to hope for.
                if (!fatal)
                  expect([inFlight, mayHedge(progress()) && pushback !== "stop"]).toEqual([
                    0,
                    false,
                  ]);
                ended = true;
                break;
              case "wait":
                expect(inFlight).toBeGreaterThan(0);
                if (decision.stop === true) {
                  expect(pushback).toBe("stop");
                  stopped = true;
                  scheduled = false;
                }
                break;
              case "launch":
                expect(decision.inMs).toBe(pushback ?? 0);
                scheduled = true;
                if (decision.inMs === 0) launch();
                break;
              default:
                decision satisfies never;
            }
          }
          if (ended) return;
          // Never at a standstill: something runs, or something will start.
          expect(inFlight > 0 || scheduled).toBe(true);
        }
        // Each attempt fails at most once, so that so many events end any call, unless only ticks came.
        expect(events.filter((e) => e.what === "failure").length).toBeLessThan(2 * maxAttempts);
      },
    ),
  );
});
