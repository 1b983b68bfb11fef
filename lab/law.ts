import type { Incident } from "../src/lab/incident.js";
import type { LoadOptions } from "../src/lab/load.js";
import { type IncidentReport, troubled } from "../src/lab/run.js";
import { goodput, type PhaseReport, together } from "../src/lab/tally.js";

/**
 * The incidents in which the defaults break the law as they are, with some seed. `docs/lab.md` has the numbers and the
 * reasons.
 *
 * @internal
 */
export const broken: readonly string[] = [
  "one-of-three-slow",
  "server-gone-20s",
  "dependency-slow-3x",
  "dependency-slow-20x",
  "dependency-hangs",
  "errors-100",
  "half-of-servers-without",
  "few-calls-3x",
  "few-calls-300ms-3x",
  "few-calls-slow-then-4x",
  "few-calls-all-troubles",
  "tiny-pool-5x",
  "tiny-pool-5x-goes-on",
  "load-5x-cpu",
  "load-10x-cpu",
  "load-5x-short-cpu",
  "reload-storm-cpu",
  "client-ignores-pushback",
  "load-1.1x-pool",
  "tiers-back-slow",
];

/** Incidents with fewer calls are judged with two seeds, so that all of them together take no longer than they must. */
const cheapCalls = 3_000;

/**
 * The seeds with which an incident is judged.
 *
 * @internal
 */
export function seedsOf({ load, others = [], phases }: Incident): readonly number[] {
  const callsOf = ({ perSecond, loads }: LoadOptions) =>
    phases.reduce(
      (sum, { ms, load: multiple = 1 }, index) =>
        sum + (perSecond * ms * (loads?.[index] ?? multiple)) / 1_000,
      0,
    );
  const calls = [load, ...others].reduce((sum, each) => sum + callsOf(each), 0);
  return calls < cheapCalls ? [1, 2] : [1];
}

/** The first law, do no harm, in numbers. */
const leastOfBest = 0.99;
const mostRefused = 0.005;
const leastCritical = 0.999;
const leastFair = 0.98;
const mostAmplification = 1.2;
const longestRecoveryMs = 1_000;
const longestOfBest = 1.2;

/**
 * How the toolkit breaks the law in an incident, a sentence for each breach. The law, for all calls from the beginning of
 * the incident to the end:
 *
 * - Goodput is at least 0.99 of the best of bare grpc-js and its retries; under overload, of the fixed limit with the right
 *   number too.
 * - At most 0.5 % of the calls are refused that bare grpc-js serves. Under overload to refuse is a choice, which the first
 *   rule judges.
 * - Under overload, at least 99.9 % of the critical calls are served, where there is room for all of them.
 * - Where others than the users of `load` ask for too much, at least 98 % of the calls of those of `load` are served.
 * - Servers get at most 1.2 requests for each call, in each phase.
 * - All is back to normal within a second, or 1.2 times of what the best peer takes, and in any case before the end.
 *
 * @param reports Those of one seed, of all peers.
 */
export function breaches(incident: Incident, reports: readonly IncidentReport[]): string[] {
  const of = (name: string) => reports.find(({ peer }) => peer === name);
  const weir = of("weir");
  const bare = of("bare");
  if (weir === undefined || bare === undefined) throw new Error("the law needs weir and bare");
  const { overload = false, criticalFits = true } = incident;
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
  const refused = refusedAndServed(weir, bare) / total.sent;
  if (!overload && refused > mostRefused) {
    found.push(`${percent(refused)} are refused that are served without refusals`);
  }
  const critical = goodput(together(phases.map(({ priorities }) => priorities.critical)));
  if (overload && criticalFits && critical < leastCritical) {
    found.push(`${percent(critical)} of the critical calls are served`);
  }
  const fair = servedOf(weir, incident.clients ?? 2);
  if (incident.fair === true && fair < leastFair) {
    found.push(`${percent(fair)} are served of those who ask for no more than their share`);
  }
  for (const name of new Set(phases.map((phase) => phase.name))) {
    const amplification = amplificationOf(phases.filter((phase) => phase.name === name));
    if (amplification <= mostAmplification) continue;
    found.push(`${name}: servers get ${amplification.toFixed(2)} requests for each call`);
  }
  const recoveryMs = recoveryOf(weir);
  const bestMs = Math.min(...others.map(recoveryOf));
  if (recoveryMs === Number.POSITIVE_INFINITY) found.push("it is never back to normal");
  else if (recoveryMs > Math.max(longestRecoveryMs, longestOfBest * bestMs)) {
    found.push(`back to normal after ${recoveryMs} ms, and the best other after ${bestMs} ms`);
  }
  return found;
}

/** Of several parts of one phase, as those of a wave. */
function amplificationOf(parts: readonly PhaseReport[]): number {
  const requests = parts.reduce((sum, { amplification, sent }) => sum + amplification * sent, 0);
  return requests / Math.max(1, together(parts).sent);
}

/** The share of the calls of the first client processes that was served: those of `load`. */
function servedOf({ outcomes }: IncidentReport, clients: number): number {
  const calls = outcomes.slice(0, clients).flat();
  return calls.filter((outcome) => outcome === "good").length / Math.max(1, calls.length);
}

/** How many calls one has refused that the other has served. */
function refusedAndServed(one: IncidentReport, other: IncidentReport): number {
  const pairs = one.outcomes.flatMap((calls, users) =>
    calls.map((outcome, place) => [outcome, other.outcomes[users]?.[place]] as const),
  );
  return pairs.filter(([mine, its]) => mine === "refused" && its === "good").length;
}

function recoveryOf({ recoveryMs }: IncidentReport): number {
  return recoveryMs ?? Number.POSITIVE_INFINITY;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
