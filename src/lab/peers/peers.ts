import { bare, retryPolicy } from "./bare.js";
import { fixedLimit } from "./fixed-limit.js";
import { loopLag } from "./loop-lag.js";
import type { Peer } from "./peer.js";
import { weirDefaults, weirIdempotent } from "./weir.js";
import { wrap } from "./wrap.js";

/** All that are compared, the toolkit last. */
export const peers: readonly Peer[] = [
  bare,
  retryPolicy,
  fixedLimit,
  wrap,
  loopLag,
  weirDefaults,
  weirIdempotent,
];
