import { type Ending, isRefusal, type Outcome, type Permit } from "../../../src/core/permit.js";
import {
  Breaker,
  type BreakerCall,
  type BreakerEvent,
} from "../../../src/policies/breaker/breaker.js";
import {
  type BreakerOptions,
  resolveBreakerOptions,
} from "../../../src/policies/breaker/options.js";
import { fakeClock } from "../../core/fake-clock.js";

/** A call whose length is the application's. */
export const stream: BreakerCall = { timed: false, critical: false };

/** Rests that are easy to reckon with: 5 s, 10 s, 20 s and so on, up to a minute. */
const plain: BreakerOptions = { openMs: 5_000, openFactor: 2, maxOpenMs: 60_000 };

/** A closed breaker, and short words for what happens to it. Chance is in the middle until told otherwise. */
export function setup(given: BreakerOptions = {}) {
  const options = { ...plain, ...given };
  const clock = fakeClock();
  const chance = { is: 0.5 };
  const events: BreakerEvent[] = [];
  const resolved = resolveBreakerOptions(options);
  const breaker = new Breaker(
    resolved,
    clock,
    (event) => events.push(event),
    (error) => {
      throw error;
    },
    () => chance.is,
  );
  const admit = (call?: BreakerCall): Permit => {
    const admission = breaker.acquire(call);
    if (isRefusal(admission)) throw new Error(`refused: ${admission.detail}`);
    return admission;
  };
  const settle = (outcome: Outcome, times = 1, ending?: Ending) => {
    for (let call = 0; call < times; call += 1) admit().settle(outcome, ending);
  };
  return {
    clock,
    chance,
    events,
    breaker,
    admit,
    succeed: (times?: number) => settle("success", times),
    fail: (times?: number, ending?: Ending) => settle("failure", times, ending),
    ignore: (times?: number) => settle("ignored", times),
    /** A call that takes so long. */
    take: (ms: number, outcome: Outcome = "success", call?: BreakerCall) => {
      const permit = admit(call);
      clock.advance(ms);
      permit.settle(outcome);
    },
  };
}

/** A breaker that has just opened, with the open periods above: 5 s, then 3 probes may run. */
export function opened(options: BreakerOptions = {}) {
  const parts = setup(options);
  parts.fail(5);
  return parts;
}

/** A breaker that has rested, so that the next call is a probe. */
export function rested(options: BreakerOptions = {}) {
  const parts = opened(options);
  parts.clock.advance(5_000);
  return parts;
}

/** A breaker that has just closed again. */
export function recovered(options: BreakerOptions = {}) {
  const parts = rested(options);
  parts.succeed(3);
  return parts;
}
