import { describe, expect, it } from "vitest";
import type { BoardPoint } from "../../../src/viewer/api.js";
import {
  admissionOf,
  breakerBandsOf,
  goodputOf,
  latencyOf,
  refusalsOf,
  type Series,
  withPoints,
} from "../../../viewer-page/src/board/series.js";

function point(second: number, more: Partial<BoardPoint> = {}): BoardPoint {
  return {
    atMs: second * 1_000,
    goodput: {},
    failures: 0,
    refusals: {},
    p50Ms: null,
    p99Ms: null,
    queue: {},
    limit: {},
    running: {},
    breakers: {},
    ...more,
  };
}

const drawn = (series: readonly Series[]) =>
  Object.fromEntries(series.map(({ label, values }) => [label, values]));

describe("the points of the board", () => {
  it("are the last ten minutes", () => {
    const many = Array.from({ length: 700 }, (_, second) => point(second));
    const points = withPoints([], many);
    expect([points.length, points[0]?.atMs]).toEqual([600, 100_000]);
  });

  it("change when a second is told again, and stay in their order", () => {
    const points = withPoints([point(1), point(2), point(3)], [point(2, { failures: 4 })]);
    expect(points.map(({ atMs, failures }) => [atMs, failures])).toEqual([
      [1_000, 0],
      [2_000, 4],
      [3_000, 0],
    ]);
  });
});

it.each(["constructor", "__proto__"])(
  "a second without the name %s has no number for it",
  (name) => {
    const one = { ...JSON.parse(`{ "${name}": 3 }`) };
    const points = [point(1), point(2, { goodput: one, refusals: one, queue: one })];
    expect(goodputOf(points).map(({ values }) => values)).toEqual([[0, 3]]);
    expect(refusalsOf(points).map(({ values }) => values)).toEqual([
      [0, 3],
      [0, 0],
    ]);
    expect(admissionOf(points).map(({ values }) => values)).toEqual([[null, 3]]);
  },
);

describe("the charts", () => {
  const points = [
    point(1, { goodput: { low: 1, critical: 5 }, p50Ms: 10, p99Ms: 90 }),
    point(2, {
      goodput: { "": 2, critical: 6 },
      failures: 3,
      refusals: { LOAD_SHED: 4 },
      limit: { a: 9 },
      running: { a: 2, b: 1 },
    }),
  ];

  it("stack goodput from the most to the least important", () => {
    const series = goodputOf(points);
    expect(series.map(({ label }) => label)).toEqual(["critical", "low", "no priority"]);
    expect(drawn(series)).toEqual({ critical: [5, 6], low: [1, 0], "no priority": [0, 2] });
  });

  it("show refusals by reason, and failures beside them", () => {
    expect(drawn(refusalsOf(points))).toEqual({ LOAD_SHED: [0, 4], "other failures": [0, 3] });
  });

  it("have no latency where there were no calls", () => {
    expect(drawn(latencyOf(points))).toEqual({ p50: [10, null], p99: [90, null] });
  });

  it("show the gauges that a service has", () => {
    expect(drawn(admissionOf(points))).toEqual({
      "a running": [null, 2],
      "a limit": [null, 9],
      "b running": [null, 1],
    });
  });
});

describe("the states of a circuit breaker", () => {
  it("are bands, from one change to the next", () => {
    const states = ["closed", "open", "open", "half-open"] as const;
    const points = states.map((state, second) => point(second, { breakers: { a: state } }));
    expect(breakerBandsOf(points).get("a")).toEqual([
      { state: "closed", fromMs: 0, toMs: 0 },
      { state: "open", fromMs: 0, toMs: 2_000 },
      { state: "half-open", fromMs: 2_000, toMs: 3_000 },
    ]);
  });

  it("have gaps where nothing was told", () => {
    const told = [true, true, false, true];
    const points = told.map((known, second) =>
      point(second, known ? { breakers: { a: "closed" } } : {}),
    );
    expect(breakerBandsOf(points).get("a")).toEqual([
      { state: "closed", fromMs: 0, toMs: 1_000 },
      { state: "closed", fromMs: 2_000, toMs: 3_000 },
    ]);
  });
});
