import fc from "fast-check";
import { type Ending, isRefusal, type Outcome } from "../../../src/core/permit.js";
import {
  Breaker,
  type BreakerEvent,
  type BreakerPermit,
} from "../../../src/policies/breaker/breaker.js";
import {
  type ResolvedBreakerOptions,
  resolveBreakerOptions,
} from "../../../src/policies/breaker/options.js";
import { fakeClock } from "../../core/fake-clock.js";

const off = fc.constant<false>(false);

/** Options whose times and shares are exact in binary, so that two ways to reckon agree to the last bit. */
export const options = fc
  .record({
    consecutiveFailures: fc.oneof(off, fc.integer({ min: 1, max: 3 })),
    failureRate: fc.constantFrom<number | false>(false, 0.25, 0.5, 1),
    slow: fc.oneof(
      off,
      fc.record({ slowMs: fc.integer({ min: 1, max: 30 }), slowRate: fc.constantFrom(0.25, 0.75) }),
    ),
    minCalls: fc.integer({ min: 1, max: 6 }),
    windowMs: fc.constantFrom(10, 100, 1_000),
    windowCalls: fc.oneof(off, fc.integer({ min: 6, max: 9 })),
    inFlightMs: fc.oneof(off, fc.integer({ min: 1, max: 150 })),
    openMs: fc.integer({ min: 1, max: 200 }),
    openFactor: fc.constantFrom(1, 2, 3),
    maxOpenMs: fc.constantFrom(200, 300, 1_000),
    openJitter: fc.constantFrom(0, 0.25, 0.5),
    probes: fc.integer({ min: 1, max: 3 }),
    successesToClose: fc.integer({ min: 1, max: 4 }),
    probeLeaseMs: fc.integer({ min: 1, max: 200 }),
    rampMs: fc.constantFrom<number | false>(false, 64, 512),
  })
  .filter((o) => o.consecutiveFailures !== false || o.failureRate !== false || o.slow !== false)
  .map(({ slow, ...o }) => resolveBreakerOptions(slow === false ? o : { ...o, ...slow }));

/** `ago` counts admitted calls back from the last one: mostly the newest end. */
export type Action =
  | { readonly do: "acquire"; readonly timed: boolean; readonly critical: boolean }
  | {
      readonly do: "settle";
      readonly ago: number;
      readonly outcome: Outcome;
      readonly ending: Ending | undefined;
      readonly peer: string | undefined;
    }
  | { readonly do: "connectivity"; readonly connected: boolean }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "chance"; readonly is: number }
  | { readonly do: "force"; readonly to: "open" | "closed" | undefined }
  | { readonly do: "look" };

const acquire = fc.record<Action & { do: "acquire" }>({
  do: fc.constant("acquire"),
  timed: fc.oneof(fc.constant(true), fc.constant(true), fc.boolean()),
  critical: fc.oneof(fc.constant(false), fc.constant(false), fc.boolean()),
});

const settle = fc.record<Action & { do: "settle" }>({
  do: fc.constant("settle"),
  ago: fc.oneof(fc.nat(2), fc.nat(2), fc.nat(30)),
  outcome: fc.constantFrom<Outcome>("success", "success", "failure", "failure", "ignored"),
  ending: fc.oneof(
    fc.constant(undefined),
    fc.record<Ending>({
      unserved: fc.constantFrom("shed" as const, undefined),
      retryAfterMs: fc.oneof(fc.constant(undefined), fc.nat(1_500)),
      event: fc.constantFrom(
        undefined,
        undefined,
        undefined,
        "refused 1",
        "refused 2",
        "connecting",
      ),
      connectionLost: fc.constantFrom(undefined, undefined, true),
    }),
  ),
  peer: fc.constantFrom(undefined, "one", "one", "two", "three"),
});

const connectivity = fc.record<Action & { do: "connectivity" }>({
  do: fc.constant("connectivity"),
  connected: fc.boolean(),
});

const wait = fc.record<Action & { do: "wait" }>({
  do: fc.constant("wait"),
  ms: fc.oneof(fc.nat(20), fc.nat(250)),
});

const chance = fc.record<Action & { do: "chance" }>({
  do: fc.constant("chance"),
  is: fc.constantFrom(0, 0.25, 0.5, 0.75),
});

const force = fc.record<Action & { do: "force" }>({
  do: fc.constant("force"),
  to: fc.constantFrom("open" as const, "closed" as const, undefined, undefined),
});

const look = fc.constant<Action>({ do: "look" });

const call: Action = { do: "acquire", timed: true, critical: false };
const succeeded: Action = {
  do: "settle",
  ago: 0,
  outcome: "success",
  ending: undefined,
  peer: undefined,
};

/** Single steps alone would hardly ever bring a breaker back to closed, and then into a rush. */
const recovery = fc
  .tuple(fc.constantFrom(400, 1_500), fc.nat(8))
  .map(([ms, rush]): Action[] => [
    { do: "wait", ms },
    ...Array.from({ length: 4 }, () => [call, succeeded]).flat(),
    ...Array.from({ length: rush }, () => call),
  ]);

const alone = <A extends Action>(action: fc.Arbitrary<A>) => action.map((it): Action[] => [it]);

const own = [
  { weight: 10, arbitrary: alone(acquire) },
  { weight: 10, arbitrary: alone(settle) },
  { weight: 4, arbitrary: alone(wait) },
  { weight: 2, arbitrary: alone(chance) },
  { weight: 2, arbitrary: alone(look) },
  { weight: 2, arbitrary: alone(connectivity) },
  { weight: 1, arbitrary: recovery },
];

const inOrder = (...steps: fc.WeightedArbitrary<Action[]>[]): fc.Arbitrary<Action[]> =>
  fc.array(fc.oneof(...steps), { maxLength: 80, size: "max" }).map((all) => all.flat());

/** What happens to a breaker that is left to itself. */
export const actions = inOrder(...own);

/** The same, with the hand of an operator. */
export const actionsByHand = inOrder(...own, { weight: 1, arbitrary: alone(force) });

/** A breaker that an action happens to. Its clock starts at a whole number. */
export function start(o: ResolvedBreakerOptions) {
  const clock = fakeClock(1_000_000);
  const luck = { is: 0.5 };
  const events: BreakerEvent[] = [];
  const breaker = new Breaker(
    o,
    clock,
    (event) => events.push(event),
    undefined,
    () => luck.is,
  );
  const permits: BreakerPermit[] = [];
  const run = (action: Action) => {
    if (action.do === "wait") clock.advance(action.ms);
    else if (action.do === "chance") luck.is = action.is;
    else if (action.do === "force") breaker.force(action.to);
    else if (action.do === "look") breaker.check();
    else if (action.do === "connectivity") breaker.connectivity(action.connected);
    else if (action.do === "settle") {
      permits.at(-1 - action.ago)?.settle(action.outcome, action.ending, action.peer);
    } else {
      const admission = breaker.acquire(action);
      if (!isRefusal(admission)) permits.push(admission);
    }
  };
  return { breaker, clock, events, luck, permits, run };
}
