import { VirtualClock } from "grpc-weir/testing";
import { describe, expect, it } from "vitest";
import { type StoreLimits, TraceStore } from "../../src/viewer/trace-store.js";
import { callSpan, rowOf, spanId, spanOf, traceId } from "./scene.js";

function setup(limits: StoreLimits = {}) {
  const clock = new VirtualClock();
  const store = new TraceStore(limits, clock);
  return {
    clock,
    store,
    /** A trace of one call, with a status. */
    addTrace: (trace: number, status = "OK", durationMs = 10) => {
      store.add(callSpan({ trace, id: 1, ms: durationMs }));
      store.addCall(rowOf({ trace, status, durationMs }));
    },
    kept: () => [...store.calls.values()].map((call) => Number.parseInt(call.traceId, 16)),
  };
}

describe("a trace", () => {
  it("has its spans in the order of their starts, in whichever order they came", () => {
    const { store } = setup();
    store.add(spanOf({ id: 3, parent: 2, startMs: 30 }));
    store.add(spanOf({ id: 1, startMs: 10 }));
    store.add(spanOf({ id: 2, parent: 1, startMs: 20 }));
    const view = store.view(traceId(1));
    expect(view?.spans.map((span) => span.spanId)).toEqual([spanId(1), spanId(2), spanId(3)]);
    expect(view?.truncated).toBe(false);
  });

  it("has a span once that came twice", () => {
    const { store } = setup();
    expect(store.add(spanOf({ id: 1, name: "first" }))).toBe(true);
    expect(store.add(spanOf({ id: 1, name: "second" }))).toBe(false);
    expect(store.view(traceId(1))?.spans.map(({ name }) => name)).toEqual(["first"]);
    expect(store.spanCount).toBe(1);
  });

  it("keeps 2,000 spans and its root, and says that there were more", () => {
    const { store } = setup();
    for (let id = 2; id <= 2_100; id += 1) store.add(spanOf({ id, parent: 1 }));
    expect(store.view(traceId(1))).toMatchObject({ truncated: true });
    expect(store.add(spanOf({ id: 1 }))).toBe(true);
    expect(store.spanCount).toBe(2_001);
  });

  it("is unknown if no span of it came", () => {
    expect(setup().store.view(traceId(1))).toBeUndefined();
  });

  it("is shown as a part when spans come after it was dropped", () => {
    const { store, addTrace } = setup({ maxTraces: 1 });
    addTrace(1);
    addTrace(2);
    store.add(spanOf({ trace: 1, id: 9, parent: 1 }));
    expect(store.view(traceId(1))).toMatchObject({ truncated: true });
  });
});

describe("what is kept", () => {
  it("is the newest traces, with their calls", () => {
    const { store, addTrace, kept } = setup({ maxTraces: 3 });
    for (let trace = 1; trace <= 5; trace += 1) addTrace(trace);
    expect(kept()).toEqual([3, 4, 5]);
    expect(store.droppedCalls).toBe(2);
    expect(store.traceCount).toBe(3);
  });

  it("is bounded by spans", () => {
    const { store } = setup({ maxSpans: 5 });
    for (let trace = 1; trace <= 4; trace += 1) {
      store.add(spanOf({ trace, id: 1 }));
      store.add(spanOf({ trace, id: 2, parent: 1 }));
    }
    expect(store.spanCount).toBe(4);
    expect(store.view(traceId(2))).toBeUndefined();
    expect(store.view(traceId(3))).toBeDefined();
  });

  it("is bounded by bytes", () => {
    const { store } = setup({ maxBytes: 100_000 });
    for (let trace = 1; trace <= 50; trace += 1) {
      store.add(spanOf({ trace, id: 1, attributes: { text: "x".repeat(4_000) } }));
    }
    expect(store.bytes).toBeLessThanOrEqual(100_000);
    expect(store.traceCount).toBeGreaterThan(5);
    expect(store.traceCount).toBeLessThan(30);
  });

  it.each([
    ["keys of attributes", { attributes: { ["x".repeat(4_000)]: 1 } }],
    ["names of events", { events: [{ name: "x".repeat(4_000), atMs: 0, attributes: {} }] }],
    ["a service", { service: "x".repeat(4_000) }],
    ["a scope", { scope: "x".repeat(4_000) }],
  ])("counts %s that are long", (_, facts) => {
    const { store } = setup();
    store.add(spanOf({ id: 1, ...facts }));
    expect(store.bytes).toBeGreaterThan(8_000);
  });

  it("is nothing of a trace that alone takes too much", () => {
    const { store } = setup({ maxSpans: 2 });
    for (let id = 1; id <= 3; id += 1) store.add(spanOf({ id }));
    expect([store.spanCount, store.traceCount, store.bytes]).toEqual([0, 0, 0]);
  });

  it("keeps failed calls longer than others", () => {
    const { addTrace, kept } = setup({ maxTraces: 4 });
    addTrace(1, "UNAVAILABLE");
    for (let trace = 2; trace <= 20; trace += 1) addTrace(trace);
    expect(kept()).toEqual([1, 18, 19, 20]);
  });

  it("gives failed calls half of the place, when they are many", () => {
    const { addTrace, kept } = setup({ maxTraces: 4 });
    for (let trace = 1; trace <= 20; trace += 1) {
      addTrace(trace, trace % 2 === 0 ? "INTERNAL" : "OK");
    }
    for (let trace = 21; trace <= 40; trace += 1) addTrace(trace);
    expect(kept()).toEqual([18, 20, 39, 40]);
  });

  it("keeps calls longer that are slow for their method", () => {
    const { addTrace, kept } = setup({ maxTraces: 10 });
    for (let trace = 1; trace <= 200; trace += 1) addTrace(trace, "OK", 10);
    addTrace(201, "OK", 100);
    for (let trace = 202; trace <= 300; trace += 1) addTrace(trace, "OK", 10);
    expect(kept()).toContain(201);
    expect(kept()).not.toContain(250);
  });

  it("holds no call of a trace that is gone", () => {
    const { store } = setup();
    store.addCall(rowOf({ trace: 1 }));
    expect(store.calls.size).toBe(0);
    expect(store.droppedCalls).toBe(1);
  });

  it("holds no call that was taken back", () => {
    const { store, addTrace, kept } = setup();
    addTrace(1);
    store.removeCall(rowOf({ trace: 1 }));
    expect(kept()).toEqual([]);
    expect(store.droppedCalls).toBe(0);
  });
});

it.each<[StoreLimits & { readonly maxByte?: number }, string]>([
  [{ maxTraces: 0 }, "traceViewer.limits.maxTraces"],
  [{ maxSpans: 1.5 }, "traceViewer.limits.maxSpans"],
  [{ maxBytes: 10 }, "traceViewer.limits.maxBytes"],
  [{ maxByte: 1e6 }, "traceViewer.limits.maxByte"],
])("limits of %j are refused", (limits, option) => {
  expect(() => setup(limits)).toThrow(option);
});
