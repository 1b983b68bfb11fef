import { VirtualClock } from "grpc-weir/testing";
import { describe, expect, it } from "vitest";
import { callSearchOf, searchCalls } from "../../src/viewer/call-search.js";
import { TraceStore } from "../../src/viewer/trace-store.js";
import { rowOf, spanId, spanOf, traceId } from "./scene.js";

/** Searches five calls: traces 1 to 5, the oldest first. */
function search(query: string) {
  const store = new TraceStore({}, new VirtualClock());
  const rows = [
    rowOf({ trace: 1, priority: "critical", durationMs: 5 }),
    rowOf({ trace: 2, status: "UNAVAILABLE", reason: "LOAD_SHED", policies: ["admission"] }),
    rowOf({ trace: 3, method: "stock.v1.Stock/Reserve", service: "orders", durationMs: 80 }),
    rowOf({ trace: 4, status: "INTERNAL", policies: ["retry", "breaker"] }),
    rowOf({ trace: 5, priority: "low" }),
  ];
  for (const row of rows) {
    store.add(spanOf({ trace: Number.parseInt(row.traceId, 16), id: 1 }));
    store.addCall(row);
  }
  const view = searchCalls(store, callSearchOf(new URLSearchParams(query)));
  return { ...view, traces: view.calls.map((call) => Number.parseInt(call.traceId, 16)) };
}

describe("a search", () => {
  it.each([
    ["", [5, 4, 3, 2, 1]],
    ["method=reserve", [3]],
    ["method=shop", [5, 4, 2, 1]],
    ["status=OK", [5, 3, 1]],
    ["priority=critical", [1]],
    ["policy=breaker", [4]],
    ["reason=LOAD_SHED", [2]],
    ["service=orders", [3]],
    ["minMs=50", [3]],
    ["q=stock", [3]],
    ["q=load_", [2]],
    ["q=ORDERS", [3]],
    [`q=${traceId(4)}`, [4]],
    ["status=OK&priority=low", [5]],
    ["status=OK&priority=high", []],
    ["status=&q=", [5, 4, 3, 2, 1]],
    ["limit=2", [5, 4]],
    [`before=${traceId(4)}-${spanId(1)}`, [3, 2, 1]],
    [`before=${traceId(4)}-${spanId(1)}&limit=2`, [3, 2]],
    [`before=${traceId(4)}-${spanId(1)}&status=OK`, [3, 1]],
    ["before=gone", []],
  ])("for %j finds the newest first: %j", (query, traces) => {
    expect(search(query).traces).toEqual(traces);
  });

  it("tells how many fit, and how many are kept", () => {
    expect(search("status=OK&limit=1")).toMatchObject({ total: 3, kept: 5, dropped: 0 });
  });

  it.each(["minMs=x", "minMs=-1", "limit=0", "limit=1001", "limit=NaN"])("refuses %s", (query) => {
    expect(() => search(query)).toThrow(/is a number/);
  });
});
