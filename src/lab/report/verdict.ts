import { troubled } from "../run.js";
import { percent, type Run } from "../table.js";
import { goodput, refusals, together } from "../tally.js";

/** What a run comes to, in numbers: of all calls from the beginning of the incident to the end, with all seeds. */
export interface Result {
  readonly peer: string;
  /** Shares of the calls, from 0 to 1. */
  readonly served: number;
  readonly criticalServed: number;
  readonly refused: number;
  /** In the phase in which it was highest; `undefined` without good calls. */
  readonly p99Ms: number | undefined;
  /** How long after the incident all was back to normal, in milliseconds; `null` for not before the end. */
  readonly recoveryMs: number | null;
  /** The same in words. */
  readonly back: string;
  /** Requests for each call, in the phase in which they were most. */
  readonly amplification: number;
}

export function resultOf({ peer, reports }: Run): Result {
  const phases = reports.flatMap((report) => troubled(report));
  const all = together(phases);
  const latencies = phases.map(({ p99Ms }) => p99Ms).filter((ms) => ms !== undefined);
  const recoveries = reports.map(({ recoveryMs }) => recoveryMs ?? Number.POSITIVE_INFINITY);
  const slowest = Math.max(...recoveries);
  return {
    peer,
    served: goodput(all),
    criticalServed: goodput(together(phases.map(({ priorities }) => priorities.critical))),
    refused: all.sent === 0 ? 0 : refusals(all) / all.sent,
    p99Ms: latencies.length === 0 ? undefined : Math.max(...latencies),
    recoveryMs: Number.isFinite(slowest) ? slowest : null,
    back: backAfter(slowest),
    amplification: Math.max(...phases.map(({ amplification }) => amplification)),
  };
}

/** Differences below these say nothing: another seed makes as large ones. */
const noise = { share: 0.001, refused: 0.005, latency: 1.1, recoveryMs: 100, amplification: 0.05 };

/** What changes from one run to another, in a sentence. */
function comparison(from: Run, to: Run): string {
  const before = resultOf(from);
  const after = resultOf(to);
  const clauses: string[] = [];
  const apart = (a: number, b: number, least: number) => Math.abs(a - b) >= least;
  if (apart(before.served, after.served, noise.share)) {
    clauses.push(
      `serves ${percent(after.served)} of the calls in time instead of ${percent(before.served)}`,
    );
  } else clauses.push(`serves as many of the calls in time (${percent(after.served)})`);
  if (apart(before.criticalServed, after.criticalServed, noise.share)) {
    clauses.push(
      `serves ${percent(after.criticalServed)} of the critical ones instead of ${percent(before.criticalServed)}`,
    );
  }
  if (apart(before.refused, after.refused, noise.refused)) {
    clauses.push(`refuses ${percent(after.refused)} instead of ${percent(before.refused)}`);
  }
  const slower = (before.p99Ms ?? 0) / (after.p99Ms ?? 1);
  if (slower > noise.latency || slower < 1 / noise.latency) {
    clauses.push(`has a p99 of ${ms(after.p99Ms)} instead of ${ms(before.p99Ms)}`);
  }
  if (apart(before.amplification, after.amplification, noise.amplification)) {
    clauses.push(
      `sends ${after.amplification.toFixed(2)} requests for each call instead of ${before.amplification.toFixed(2)}`,
    );
  }
  if (apart(finite(before), finite(after), noise.recoveryMs)) {
    clauses.push(`is back to normal ${after.back} instead of ${before.back}`);
  }
  // What is served, and what it takes: a sentence with all would have to be read twice.
  const [first, second] = clauses.length > 3 ? [clauses.slice(0, 2), clauses.slice(2)] : [clauses];
  const rest = second === undefined ? "" : ` It ${inOneSentence(second)}.`;
  return `Against ${from.peer}, ${to.peer} ${inOneSentence(first)}.${rest}`;
}

/**
 * What is to be said of runs: of each against the first one, and of the last one against the one before it, where that is
 * another.
 */
export function verdicts(runs: readonly Run[]): readonly string[] {
  const [first, ...others] = runs;
  if (first === undefined) return [];
  const [last, before] = others.toReversed();
  const against = others.map((other) => comparison(first, other));
  if (last === undefined || before === undefined) return against;
  return [...against, comparison(before, last)];
}

function finite({ recoveryMs }: Result): number {
  return recoveryMs ?? Number.MAX_SAFE_INTEGER;
}

function backAfter(recoveryMs: number): string {
  if (!Number.isFinite(recoveryMs)) return "not before the end";
  return recoveryMs === 0 ? "at once" : `after ${recoveryMs} ms`;
}

function ms(value: number | undefined): string {
  return value === undefined ? "nothing" : `${Math.round(value)} ms`;
}

function inOneSentence(clauses: readonly string[]): string {
  const last = clauses.at(-1) ?? "";
  const others = clauses.slice(0, -1);
  return others.length === 0 ? last : `${others.join(", ")}, and ${last}`;
}
