import fc from "fast-check";
import { expect, it } from "vitest";
import { Breaker, type BreakerEvent } from "../../src/core/breaker.js";
import {
  type ResolvedBreakerOptions,
  resolveBreakerOptions,
} from "../../src/core/breaker-options.js";
import type { Outcome, Permit } from "../../src/core/permit.js";
import { isRefusal } from "../../src/core/refusal.js";
import { Model, type Ticket } from "./breaker-model.js";
import { fakeClock } from "./fake-clock.js";

const options = fc
  .record({
    consecutiveFailures: fc.oneof(fc.constant<false>(false), fc.integer({ min: 1, max: 3 })),
    failureRate: fc.constantFrom<number | false>(false, 0.25, 0.5, 1),
    minCalls: fc.integer({ min: 1, max: 6 }),
    windowMs: fc.constantFrom(10, 100, 1_000),
    openMs: fc.integer({ min: 1, max: 200 }),
    probes: fc.integer({ min: 1, max: 3 }),
    probeLeaseMs: fc.integer({ min: 1, max: 200 }),
  })
  .filter((o) => o.consecutiveFailures !== false || o.failureRate !== false)
  .map((o) => resolveBreakerOptions(o));

/** `ago` counts admitted calls back from the last one: mostly the newest end. */
type Action =
  | { readonly do: "acquire" }
  | { readonly do: "settle"; readonly ago: number; readonly outcome: Outcome }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "look" };

const actions = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constant<Action>({ do: "acquire" }) },
    {
      weight: 4,
      arbitrary: fc.record<Action & { do: "settle" }>({
        do: fc.constant("settle"),
        ago: fc.oneof(fc.nat(2), fc.nat(2), fc.nat(30)),
        outcome: fc.constantFrom<Outcome>("success", "failure", "ignored"),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record<Action & { do: "wait" }>({
        do: fc.constant("wait"),
        ms: fc.oneof(fc.nat(20), fc.nat(250)),
      }),
    },
    { weight: 1, arbitrary: fc.constant<Action>({ do: "look" }) },
  ),
  { maxLength: 100, size: "max" },
);

function start(o: ResolvedBreakerOptions) {
  const clock = fakeClock(1_000_000);
  const events: BreakerEvent[] = [];
  const breaker = new Breaker(o, clock, (event) => events.push(event));
  const permits: Permit[] = [];
  const run = (action: Action) => {
    if (action.do === "wait") clock.advance(action.ms);
    else if (action.do === "look") breaker.check();
    else if (action.do === "settle") permits.at(-1 - action.ago)?.settle(action.outcome);
    else {
      const admission = breaker.acquire();
      if (!isRefusal(admission)) permits.push(admission);
    }
  };
  return { breaker, clock, events, permits, run };
}

it("a breaker does what a model does that works everything out from lists", () => {
  fc.assert(
    fc.property(options, actions, (o, list) => {
      const { breaker, clock } = start(o);
      const model = new Model(o);
      const out: { permit: Permit; ticket: Ticket }[] = [];
      for (const action of list) {
        if (action.do === "wait") {
          clock.advance(action.ms);
        } else if (action.do === "acquire") {
          const foreseen = breaker.check();
          const admission = breaker.acquire();
          const expected = model.acquire(clock.now());
          if (isRefusal(admission)) {
            expect(admission).toEqual(foreseen);
            expect(admission.reason).toBe(expected);
            expect(admission.retryAfterMs).toBeGreaterThan(0);
          } else {
            expect(foreseen).toBeUndefined();
            expect(typeof expected).toBe("object");
            if (typeof expected === "object") out.push({ permit: admission, ticket: expected });
          }
        } else if (action.do === "settle") {
          const call = out.at(-1 - action.ago);
          call?.permit.settle(action.outcome);
          if (call !== undefined) model.settle(call.ticket, action.outcome, clock.now());
        } else {
          expect(breaker.state).toBe(model.kind(clock.now()));
        }
      }
      expect(breaker.state).toBe(model.kind(clock.now()));
    }),
    { numRuns: 500 },
  );
});

it("a breaker never has more probes out than it may, and its events form one chain", () => {
  fc.assert(
    fc.property(options, actions, (o, list) => {
      const { breaker, events, run } = start(o);
      for (const action of list) {
        run(action);
        const snapshot = breaker.snapshot();
        if (snapshot.state === "half-open") {
          expect(snapshot.probesOut).toBeLessThanOrEqual(o.probes);
          expect(snapshot.succeeded).toBeLessThan(o.probes);
        }
        expect(snapshot.epoch).toBe(events.length);
      }
      let state = "closed";
      for (const event of events) {
        expect(event.from).toBe(state);
        expect(event.to).not.toBe(state);
        state = event.to;
      }
      expect(breaker.state).toBe(state);
    }),
  );
});

it("a refused call that comes back when it was told to is not refused for the same reason", () => {
  fc.assert(
    fc.property(options, actions, (o, list) => {
      const { breaker, clock, run } = start(o);
      for (const action of list) run(action);
      const refusal = breaker.check();
      if (refusal === undefined) return;
      clock.advance(refusal.retryAfterMs);
      expect(breaker.check()).toBeUndefined();
    }),
  );
});

it("a breaker is never wedged: from any state, silence and enough successes close it", () => {
  fc.assert(
    fc.property(options, actions, fc.nat(10_000), (o, list, moreMs) => {
      const { breaker, clock, run } = start(o);
      for (const action of list) run(action);
      clock.advance(Math.max(o.openMs, o.probeLeaseMs) + moreMs);
      for (let call = 0; call < o.probes; call += 1) {
        const admission = breaker.acquire();
        if (isRefusal(admission)) throw new Error(`refused: ${admission.detail}`);
        admission.settle("success");
      }
      expect(breaker.state).toBe("closed");
    }),
  );
});

it("a call of an earlier state changes nothing, however it ends", () => {
  const outcomes = fc.constantFrom<Outcome>("success", "failure", "ignored");
  fc.assert(
    fc.property(options, actions, fc.nat(50), outcomes, (o, list, at, outcome) => {
      const { breaker, run } = start(o);
      const admissions: { permit: Permit; epoch: number }[] = [];
      for (const action of list) {
        run(action);
        const admission = action.do === "look" ? breaker.acquire() : undefined;
        if (admission !== undefined && !isRefusal(admission)) {
          admissions.push({ permit: admission, epoch: breaker.snapshot().epoch });
        }
      }
      const before = breaker.snapshot();
      const late = admissions.filter(({ epoch }) => epoch < before.epoch);
      late[at % late.length]?.permit.settle(outcome);
      expect(breaker.snapshot()).toEqual(before);
    }),
    { numRuns: 300 },
  );
});
