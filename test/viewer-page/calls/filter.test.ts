import { describe, expect, it } from "vitest";
import {
  type CallFilter,
  filterOf,
  matches,
  noFilter,
  queryOf,
} from "../../../viewer-page/src/calls/filter.js";
import { callRow } from "./call-row.js";

const call = callRow(7, {
  status: "UNAVAILABLE",
  priority: "critical",
  reason: "BREAKER_OPEN",
  policies: ["retry", "breaker"],
  durationMs: 120,
});

describe("a call", () => {
  it.each<[Partial<CallFilter>]>([
    [{}],
    [{ method: "checkout/" }],
    [{ status: "UNAVAILABLE", priority: "critical", service: "web" }],
    [{ policy: "breaker" }],
    [{ reason: "BREAKER_OPEN" }],
    [{ minMs: 120 }],
    [{ q: " PLACE " }],
    [{ q: "breaker_" }],
    [{ q: "trace7" }],
  ])("fits %j", (part) => {
    expect(matches(call, { ...noFilter, ...part })).toBe(true);
  });

  it.each<[Partial<CallFilter>]>([
    [{ method: "inventory" }],
    [{ status: "UNAVAIL" }],
    [{ priority: "low" }],
    [{ policy: "break" }],
    [{ service: "web", reason: "LOAD_SHED" }],
    [{ minMs: 120.5 }],
    [{ q: "orders" }],
  ])("does not fit %j", (part) => {
    expect(matches(call, { ...noFilter, ...part })).toBe(false);
  });

  it("without a priority fits no priority", () => {
    expect(matches(callRow(1), { ...noFilter, priority: "normal" })).toBe(false);
  });
});

describe("the address of a filter", () => {
  it("names only what is asked for, and leads back to the filter", () => {
    const filter = { ...noFilter, q: "shop", status: "OK", minMs: 2.5 };
    expect(queryOf(filter).toString()).toBe("q=shop&status=OK&minMs=2.5");
    expect(filterOf(queryOf(filter))).toEqual(filter);
    expect(queryOf(noFilter).size).toBe(0);
  });

  it.each(["minMs=x", "minMs=-4", "minMs=Infinity", "minMs=", "other=1"])(
    "asks for nothing with %s",
    (query) => {
      expect(filterOf(new URLSearchParams(query))).toEqual(noFilter);
    },
  );
});
