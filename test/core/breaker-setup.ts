import { Breaker, type BreakerEvent } from "../../src/core/breaker.js";
import { type BreakerOptions, resolveBreakerOptions } from "../../src/core/breaker-options.js";
import type { Outcome, Permit } from "../../src/core/permit.js";
import { isRefusal } from "../../src/core/refusal.js";
import { fakeClock } from "./fake-clock.js";

/** A closed breaker, and short words for what happens to it. */
export function setup(options: BreakerOptions = {}) {
  const clock = fakeClock();
  const events: BreakerEvent[] = [];
  const resolved = resolveBreakerOptions(options);
  const breaker = new Breaker(resolved, clock, (event) => events.push(event));
  const admit = (): Permit => {
    const admission = breaker.acquire();
    if (isRefusal(admission)) throw new Error(`refused: ${admission.detail}`);
    return admission;
  };
  const settle = (outcome: Outcome, times = 1) => {
    for (let call = 0; call < times; call += 1) admit().settle(outcome);
  };
  return {
    clock,
    events,
    breaker,
    admit,
    succeed: (times?: number) => settle("success", times),
    fail: (times?: number) => settle("failure", times),
    ignore: (times?: number) => settle("ignored", times),
  };
}

/** A breaker that has just opened, with the defaults: it rests for 5 s, then 3 probes may be out. */
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
