import type { Incident } from "../src/lab/incident.js";
import { type IncidentReport, troubled } from "../src/lab/run.js";
import { goodput, refusals, together } from "../src/lab/tally.js";

/** The first law, do no harm, in numbers. */
const leastOfBest = 0.99;
const mostRefused = 0.005;
const leastCritical = 0.999;
const mostAmplification = 1.2;
const longestRecoveryMs = 1_000;
const longestOfBest = 1.2;
/** A peer serves all when it serves this share of the calls. */
const all = 0.999;

/**
 * How the toolkit breaks the law in an incident, a sentence for each breach. The law, for all calls from the beginning of
 * the incident to the end:
 *
 * - Goodput is at least 0.99 of the best of bare grpc-js and its retries; under overload, of the fixed limit with the right
 *   number too.
 * - At most 0.5 % of the calls are refused where bare grpc-js serves all.
 * - Under overload, at least 99.9 % of the critical calls are served.
 * - Servers get at most 1.2 requests for each call.
 * - All is back to normal within a second, or 1.2 times of what the best peer takes.
 *
 * @param reports Those of one seed, of all peers.
 */
export function breaches(incident: Incident, reports: readonly IncidentReport[]): string[] {
  const of = (name: string) => reports.find(({ peer }) => peer === name);
  const weir = of("weir");
  const bare = of("bare");
  if (weir === undefined || bare === undefined) throw new Error("the law needs weir and bare");
  const overload = incident.overload === true;
  const others = [bare, of("retryPolicy"), overload ? of("fixed limit") : undefined].filter(
    (report) => report !== undefined,
  );
  const phases = troubled(weir);
  const total = together(phases);
  const found: string[] = [];
  const own = goodput(total);
  const best = Math.max(...others.map((other) => goodput(together(troubled(other)))));
  if (own < leastOfBest * best) {
    found.push(`${percent(own)} are served, and ${percent(best)} by the best other`);
  }
  const refused = refusals(total) / total.sent;
  if (goodput(together(troubled(bare))) >= all && refused > mostRefused) {
    found.push(`${percent(refused)} are refused, and without refusals all are served`);
  }
  const critical = goodput(together(phases.map(({ priorities }) => priorities.critical)));
  if (overload && critical < leastCritical) {
    found.push(`${percent(critical)} of the critical calls are served`);
  }
  for (const { name, amplification } of phases) {
    if (amplification <= mostAmplification) continue;
    found.push(`${name}: servers get ${amplification.toFixed(2)} requests for each call`);
  }
  const recoveryMs = recoveryOf(weir);
  const bestMs = Math.min(...others.map(recoveryOf));
  if (recoveryMs > Math.max(longestRecoveryMs, longestOfBest * bestMs)) {
    found.push(`back to normal after ${recoveryMs} ms, and the best other after ${bestMs} ms`);
  }
  return found;
}

function recoveryOf({ recoveryMs }: IncidentReport): number {
  return recoveryMs ?? Number.POSITIVE_INFINITY;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
