import type { Incident } from "./incident.js";
import { calmAtHalf, calmAtNinety } from "./incidents/calm.js";
import { quarterFails, slowDependency } from "./incidents/dependencies.js";
import { goneForTwoSeconds, oneFails, oneKilled, oneReset, oneSlow } from "./incidents/outages.js";
import {
  reloadStorm,
  twiceOnCpu,
  twiceOnPool,
  twiceOnShortCpu,
  twiceOnWait,
} from "./incidents/overload.js";
import { garbage, squeezed } from "./incidents/pauses.js";
import { coldStart } from "./incidents/start.js";

/** All incidents, from the harmless to the hard. */
export const catalogue: readonly Incident[] = [
  calmAtHalf,
  calmAtNinety,
  coldStart,
  oneReset,
  oneKilled,
  oneFails,
  oneSlow,
  goneForTwoSeconds,
  garbage,
  squeezed,
  slowDependency,
  quarterFails,
  twiceOnCpu,
  twiceOnPool,
  twiceOnShortCpu,
  twiceOnWait,
  reloadStorm,
];
