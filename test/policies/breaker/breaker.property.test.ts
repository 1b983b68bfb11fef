import fc from "fast-check";
import { expect, it } from "vitest";
import { isRefusal, type Outcome, type Permit } from "../../../src/core/permit.js";
import { Breaker, type BreakerPermit } from "../../../src/policies/breaker/breaker.js";
import { readBreakerSnapshot } from "../../../src/policies/breaker/snapshot.js";
import { fakeClock } from "../../core/fake-clock.js";
import { actions, actionsByHand, options, start } from "./actions.js";
import { Model, type Ticket } from "./model.js";

it("a breaker does what a model does that works everything out from lists", () => {
  const met = new Map<string, number>();
  fc.assert(
    fc.property(options, actionsByHand, (o, list) => {
      const { breaker, clock, luck, run } = start(o);
      const model = new Model(o, clock.now(), () => luck.is);
      const out: { permit: BreakerPermit; ticket: Ticket; settled: boolean }[] = [];
      for (const action of list) {
        if (action.do === "acquire") {
          const foreseen = breaker.check();
          const admission = breaker.acquire(action);
          const { timed, critical } = action;
          const running = (era: number) =>
            out.filter((call) => !call.settled && call.ticket.era === era).length;
          const expected = model.acquire(clock.now(), timed, critical, running);
          const answer = isRefusal(admission) ? admission.reason : "admitted";
          met.set(answer, (met.get(answer) ?? 0) + 1);
          expect(answer).toBe(typeof expected === "string" ? expected : "admitted");
          if (answer !== "BREAKER_RAMPING") {
            expect(foreseen).toEqual(isRefusal(admission) ? admission : undefined);
          }
          if (isRefusal(admission)) {
            const forced = breaker.state === "forced-open";
            if (forced) expect(admission.retryAfterMs).toBeUndefined();
            else expect(admission.retryAfterMs).toBeGreaterThan(0);
          } else if (typeof expected !== "string") {
            out.push({ permit: admission, ticket: expected, settled: false });
          }
        } else if (action.do === "settle") {
          const call = out.at(-1 - action.ago);
          if (call === undefined) continue;
          const { outcome, ending, peer } = action;
          call.permit.settle(outcome, ending, peer);
          // A permit is settled once, and so is what it tells of a server.
          if (!call.settled) model.settle(call.ticket, outcome, ending, peer, clock.now());
          call.settled = true;
        } else {
          run(action);
          if (action.do === "force") model.force(action.to, clock.now());
          if (action.do === "connectivity") model.connectivity(action.connected, clock.now());
          expect(breaker.snapshot()).toMatchObject(model.seen(clock.now()));
        }
      }
      expect(breaker.snapshot()).toMatchObject(model.seen(clock.now()));
    }),
    { numRuns: 1_200 },
  );
  // Were a state hardly ever reached, the comparison would say little of it.
  for (const answer of ["admitted", "BREAKER_OPEN", "BREAKER_PROBING", "BREAKER_RAMPING"]) {
    expect(met.get(answer), answer).toBeGreaterThan(100);
  }
});

it("a breaker never has more probes out than it may, and its events form one chain", () => {
  fc.assert(
    fc.property(options, actionsByHand, (o, list) => {
      const { breaker, events, run } = start(o);
      for (const action of list) {
        run(action);
        const snapshot = breaker.snapshot();
        if (snapshot.state === "half-open") {
          expect(snapshot.probesOut).toBeLessThanOrEqual(o.probes);
          expect(snapshot.succeeded).toBeLessThan(o.successesToClose);
        }
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
      const refusal = breaker.acquire();
      if (!isRefusal(refusal)) return;
      clock.advance(refusal.retryAfterMs ?? Number.NaN);
      const next = breaker.check();
      // A probe that was overdue by then has opened it again.
      expect(next?.reason === refusal.reason && o.inFlightMs === false).toBe(false);
    }),
  );
});

it("a breaker is never wedged: from any state, silence and enough successes close it", () => {
  fc.assert(
    fc.property(options, actions, fc.nat(10_000), (o, list, moreMs) => {
      const { breaker, clock, run } = start(o);
      for (const action of list) run(action);
      // Whatever is still out is overdue, or has lost its place, after the first silence.
      clock.advance(Math.max(o.probeLeaseMs, Number(o.inFlightMs)));
      breaker.check();
      clock.advance(o.maxOpenMs * (1 + o.openJitter) + moreMs);
      for (let call = 0; call < o.successesToClose; call += 1) {
        const admission = breaker.acquire({ timed: true, critical: true });
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
    fc.property(options, actionsByHand, fc.nat(50), outcomes, (o, list, at, outcome) => {
      const { breaker, events, run } = start(o);
      const admissions: { permit: Permit; changes: number }[] = [];
      for (const action of list) {
        run(action);
        const admission = action.do === "look" ? breaker.acquire() : undefined;
        if (admission !== undefined && !isRefusal(admission)) {
          admissions.push({ permit: admission, changes: events.length });
        }
      }
      const before = breaker.snapshot();
      const late = admissions.filter(({ changes }) => changes < events.length);
      late[at % late.length]?.permit.settle(outcome);
      expect(breaker.snapshot()).toEqual(before);
    }),
    { numRuns: 300 },
  );
});

it("a snapshot that went through JSON makes another breaker of the same kind, at another time", () => {
  fc.assert(
    fc.property(options, actionsByHand, (o, list) => {
      const { breaker, run } = start(o);
      for (const action of list) run(action);
      const told = breaker.snapshot();
      const other = new Breaker(o, fakeClock(77));
      other.restore(readBreakerSnapshot("it", JSON.parse(JSON.stringify(told))));
      expect(other.snapshot()).toEqual(
        told.state === "half-open" ? { ...told, probesOut: 0 } : told,
      );
    }),
  );
});
