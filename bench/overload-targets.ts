import { mix, priorityNames } from "./overload-mix.js";
import type { Row } from "./overload-rows.js";
import type { CallCosts } from "./overload-stage.js";

/** What should hold, and whether it does. */
export interface Target {
  readonly title: string;
  /** Not measured, or only in rows that are not valid: `undefined`. */
  readonly met: boolean | undefined;
  /** The worst case. */
  readonly worst: string;
}

/** One case of a target: how good it is, where more is better, and what it was. */
interface Case {
  readonly value: number;
  readonly of: Row;
}

/** With these a server can keep its goodput by itself; calls of 0.2 ms are too cheap for that. */
const dear = (row: Row) => row.work !== "cpu-0.2ms";
const ours = (row: Row) => row.column === "weir" || row.column === "client";
/** The server alone for what is dear, and cooperating clients for everything. */
const either = (row: Row) => (row.column === "weir" && dear(row)) || row.column === "client";

/** How many points of success a worse class may seem to have more than a better one: chance, in so few calls. */
const byChance = 0.02;
/** A class that is not served has this share all the same: the queue owes it some turns. */
const owed = 0.1;

export function targetsOf(all: readonly Row[], costs: CallCosts | undefined): Target[] {
  const rows = all.filter((row) => row.validRuns > 0);
  const over = rows.filter((row) => row.load > 1);
  const highest = (row: Row) =>
    row.load === Math.max(...rows.filter((each) => each.work === row.work).map(({ load }) => load));
  const ratios = rows
    .filter(({ column }) => column === "weir")
    .flatMap((row) => {
      const plain = rows.find(
        ({ work, load, column }) => work === row.work && load === row.load && column === "limit",
      );
      return plain === undefined ? [] : [{ value: row.goodput / plain.goodput, of: row }];
    });
  const inOrder = over.filter(either).map((row) => ({ value: order(row), of: row }));
  return [
    atLeast("goodput ≥ 0.97 of the fixed limit's, at every load", 0.97, ratios),
    atLeast(
      "goodput ≥ 0.95 of the peak at 10×, server alone (2 ms, pool)",
      0.95,
      rows
        .filter((row) => row.load === 10 && row.column === "weir" && dear(row))
        .map((row) => ({ value: row.goodput, of: row })),
    ),
    atLeast(
      "goodput ≥ 0.90 of the peak at the highest load, clients too (all handlers)",
      0.9,
      over
        .filter((row) => highest(row) && row.column === "client")
        .map((row) => ({ value: row.goodput, of: row })),
    ),
    atLeast(
      "critical ≥ 99.9 % while its own demand is under 0.8 of the peak",
      0.999,
      rows
        .filter((row) => ours(row) && either(row) && row.offered * mix.critical < 0.8)
        .map((row) => ({ value: row.success.critical, of: row })),
    ),
    { ...atLeast("each class is served before the next", 0, inOrder) },
    atMost(
      "p99 of served calls within the deadline, ms",
      300,
      over.filter(either).map((row) => ({ value: row.p99Ms, of: row })),
    ),
    atMost(
      "served as ever within 2 s of the load's end, s",
      2,
      over.filter(ours).map((row) => ({ value: row.recoveredMs / 1_000, of: row })),
    ),
    atMost(
      "nothing refused at 0.5×, share",
      0,
      rows
        .filter((row) => row.load <= 0.5 && ours(row))
        .map((row) => ({ value: row.refused + row.heldBack, of: row })),
    ),
    ...(costs === undefined ? [] : costTargets(costs)),
  ];
}

/**
 * By how much the order of the classes holds; below 0 it does not. A worse class never does better than a better one,
 * and while a class is not served well, the next has no more than what it is owed.
 */
function order({ success }: Row): number {
  let least = Number.POSITIVE_INFINITY;
  for (const [index, worse] of priorityNames.slice(1).entries()) {
    const better = success[priorityNames[index] ?? "critical"];
    least = Math.min(least, better - success[worse] + byChance);
    if (better < 0.8) least = Math.min(least, owed + byChance - success[worse]);
  }
  return least;
}

/** What a refusal costs the server, in the same run. */
function costTargets({ accepted, refused }: CallCosts): Target[] {
  const target = (title: string, most: number, otherUs: number): Target => {
    const share = refused.weir / otherUs;
    return {
      title,
      met: share <= most,
      worst: `${refused.weir.toFixed(0)} of ${otherUs.toFixed(0)} µs, ${share.toFixed(2)}`,
    };
  };
  return [
    target("CPU of a refusal ≤ 1.15 of the fixed limit's", 1.15, refused.limit),
    target("CPU of a refusal ≤ 0.6 of an accepted empty call", 0.6, accepted.weir),
    target("CPU of a refusal ≤ 1 of an empty call of bare grpc-js", 1, accepted.bare),
  ];
}

function atLeast(title: string, bound: number, cases: readonly Case[]): Target {
  return judged(
    title,
    cases,
    (a, b) => a.value - b.value,
    (value) => value >= bound,
  );
}

function atMost(title: string, bound: number, cases: readonly Case[]): Target {
  return judged(
    title,
    cases,
    (a, b) => b.value - a.value,
    (value) => value <= bound,
  );
}

function judged(
  title: string,
  cases: readonly Case[],
  worstFirst: (a: Case, b: Case) => number,
  holds: (value: number) => boolean,
): Target {
  const [worst] = [...cases].sort(worstFirst);
  if (worst === undefined) return { title, met: undefined, worst: "not measured" };
  const { value, of } = worst;
  const missed = cases.filter((each) => !holds(each.value)).length;
  const others = missed > 1 ? `, missed in ${missed} of ${cases.length} rows` : "";
  return {
    title,
    met: missed === 0,
    worst: `${value.toFixed(3)} (${of.work}, ${of.load}×, ${of.column})${others}`,
  };
}
