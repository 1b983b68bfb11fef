import { expect, it } from "vitest";
import { breaches } from "../../../lab/law.js";
import { catalogue } from "../../../src/lab/catalogue.js";
import { bare, retryPolicy } from "../../../src/lab/peers/bare.js";
import { fixedLimit } from "../../../src/lab/peers/fixed-limit.js";
import { weirDefaults } from "../../../src/lab/peers/weir.js";
import { type IncidentReport, runIncident } from "../../../src/lab/run.js";

/** Where the defaults break the law as they are, with some seed. The numbers are in `docs/lab.md`. */
const broken = ["dependency-slow-3x", "one-of-three-slow"];
const seeds = [1, 2, 3];

async function breachesIn(name: string): Promise<string[]> {
  const incident = catalogue.find((each) => each.name === name);
  if (incident === undefined) throw new Error(`there is no incident ${name}`);
  const found: string[] = [];
  for (const seed of seeds) {
    const reports: IncidentReport[] = [];
    for (const peer of [bare, retryPolicy, fixedLimit, weirDefaults]) {
      reports.push(await runIncident(incident, peer, seed));
    }
    found.push(...breaches(incident, reports).map((breach) => `seed ${seed}: ${breach}`));
  }
  return found;
}

const names = catalogue.map(({ name }) => name);

it.each(names.filter((name) => !broken.includes(name)))(
  "the law holds for the defaults in %s",
  { timeout: 60_000 },
  async (name) => {
    expect(await breachesIn(name)).toEqual([]);
  },
);

// A test that fails when the defaults get better, so that the incident moves to those above.
it.each(broken)(
  "the law is still broken by the defaults in %s",
  { timeout: 60_000 },
  async (name) => {
    expect(await breachesIn(name)).not.toEqual([]);
  },
);
