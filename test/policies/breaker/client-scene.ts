import type { BreakersSnapshot } from "../../../src/policies/breaker/breakers.js";
import type { BreakerSnapshot } from "../../../src/policies/breaker/snapshot.js";
import type { Weir } from "../../../src/weir.js";

/** The breakers of the only client, by key. */
export function breakersOf(weir: Weir): Readonly<Record<string, BreakerSnapshot>> {
  const [set]: readonly BreakersSnapshot[] = weir.policy("breaker").snapshot();
  return set?.breakers ?? {};
}

/** The only breaker of the only client. */
export function onlyBreaker(weir: Weir): BreakerSnapshot | undefined {
  return Object.values(breakersOf(weir))[0];
}
