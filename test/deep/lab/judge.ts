import { expect, it } from "vitest";
import { breaches, broken, seedsOf } from "../../../lab/law.js";
import { catalogue } from "../../../src/lab/catalogue.js";
import type { Incident } from "../../../src/lab/incident.js";
import { bare, retryPolicy } from "../../../src/lab/peers/bare.js";
import { fixedLimit } from "../../../src/lab/peers/fixed-limit.js";
import { weirDefaults } from "../../../src/lab/peers/weir.js";
import { type IncidentReport, runIncident } from "../../../src/lab/run.js";

async function breachesIn(incident: Incident): Promise<string[]> {
  const found: string[] = [];
  const peers = [bare, retryPolicy, weirDefaults, ...(incident.overload ? [fixedLimit] : [])];
  for (const seed of seedsOf(incident)) {
    const reports: IncidentReport[] = [];
    for (const peer of peers) reports.push(await runIncident(incident, peer, seed));
    found.push(...breaches(incident, reports).map((breach) => `seed ${seed}: ${breach}`));
  }
  return found;
}

/** Tests that the law holds in some of the incidents, but for those of which is known that it is broken there. */
export function judge(which: (incident: Incident) => boolean): void {
  const judged = catalogue.filter(which);

  it.each(judged.filter(({ name }) => !broken.includes(name)))(
    "the law holds for the defaults in $name",
    { timeout: 120_000 },
    async (incident) => {
      expect(await breachesIn(incident)).toEqual([]);
    },
  );

  // Fails when the defaults get better, so that the incident moves to those above.
  it.each(judged.filter(({ name }) => broken.includes(name)))(
    "the law is still broken by the defaults in $name",
    { timeout: 120_000 },
    async (incident) => {
      expect(await breachesIn(incident)).not.toEqual([]);
    },
  );
}
