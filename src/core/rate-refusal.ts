import type { Short } from "./quota-desk.js";
import type { Random } from "./random.js";
import type { RateRequest } from "./rate-waiter.js";
import { type Refusal, refusal } from "./refusal.js";
import type { TokenRate } from "./token-bucket.js";

/** Share by which the time that a refused call is told may be longer: those refused together come back apart. */
const maxJitter = 0.1;
/** So much of a key is shown in a text: it may be long, and hold anything. */
const maxShown = 64;

/** What a call is told that does not get its tokens. */
export function rateRefusal(
  rate: TokenRate,
  { key, cost }: Pick<RateRequest, "key" | "cost">,
  short: Short,
  random: Random,
): Refusal {
  const { retryAfterMs } = short;
  const jitteredMs =
    retryAfterMs === Infinity ? undefined : retryAfterMs * (1 + maxJitter * random());
  return refusal("RATE_LIMIT_EXCEEDED", detailOf(rate, key, cost, short), jitteredMs, key);
}

function detailOf(
  { ratePerSecond, burst }: TokenRate,
  key: string,
  cost: number,
  { failed }: Short,
): string {
  const shown = JSON.stringify(key.slice(0, maxShown));
  // What is wrong with a store is reported here, and is nobody else's business.
  if (failed === true) return `nothing is known of the tokens of ${shown}`;
  if (cost > burst)
    return `${shown} asks for ${cost} tokens, and there are never more than ${burst}`;
  return `${shown} has used up ${ratePerSecond} per second, burst ${burst}`;
}
