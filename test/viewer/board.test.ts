import { VirtualClock } from "grpc-weir/testing";
import { describe, expect, it } from "vitest";
import type { Attributes } from "../../src/viewer/api.js";
import { Board } from "../../src/viewer/board.js";
import type { GaugeName } from "../../src/viewer/otlp/gauges.js";
import { epochMs, rowOf } from "./scene.js";

function setup() {
  const clock = new VirtualClock();
  const board = new Board(clock);
  return {
    clock,
    board,
    /** A call that ends now, or some time ago. */
    call: (facts: Parameters<typeof rowOf>[0] = {}, agoMs = 0) => {
      const durationMs = facts.durationMs ?? 10;
      board.addCall(rowOf({ ...facts, startMs: clock.wallNow() - agoMs - durationMs }));
    },
    gauge: (name: GaugeName, value: number, attributes: Attributes = {}, service = "shop") => {
      board.setGauge({ name, service, attributes, value });
    },
    second: () => {
      clock.advance(1_000);
      return board.tick();
    },
  };
}

describe("a second", () => {
  it("tells goodput by priority, refusals by reason, and other failures", () => {
    const { call, second } = setup();
    call({ priority: "critical" });
    call({ priority: "critical" });
    call({ priority: "low" });
    call();
    call({ status: "UNAVAILABLE", reason: "LOAD_SHED" });
    call({ status: "INTERNAL" });
    call({ status: "DEADLINE_EXCEEDED" });
    expect(second()).toMatchObject([
      {
        atMs: epochMs + 1_000,
        goodput: { critical: 2, low: 1, "": 1 },
        refusals: { LOAD_SHED: 1 },
        failures: 2,
      },
    ]);
  });

  it("tells quantiles of durations, within 2 %", () => {
    const { call, second } = setup();
    for (let ms = 1; ms <= 100; ms += 1) call({ durationMs: ms });
    const [point] = second();
    expect(point?.p50Ms).toBeGreaterThan(49);
    expect(point?.p50Ms).toBeLessThan(51);
    expect(point?.p99Ms).toBeGreaterThan(97);
    expect(point?.p99Ms).toBeLessThan(101);
  });

  it("is told again when calls of it come late", () => {
    const { call, second } = setup();
    call();
    second();
    second();
    call({}, 1_500);
    const points = second();
    expect(points.map(({ atMs, goodput }) => [atMs - epochMs, goodput[""] ?? 0])).toEqual([
      [1_000, 2],
      [3_000, 0],
    ]);
  });

  it("counts a call from a clock that runs ahead in the present", () => {
    const { call, second } = setup();
    call({}, -60_000);
    expect(second()).toMatchObject([{ goodput: { "": 1 } }]);
  });

  it("counts reasons beyond the fiftieth together", () => {
    const { call, second } = setup();
    for (let reason = 0; reason < 60; reason += 1) {
      call({ status: "UNAVAILABLE", reason: `R${reason}` });
    }
    const [point] = second();
    expect(Object.keys(point?.refusals ?? {})).toHaveLength(51);
    expect(point?.refusals).toMatchObject({ other: 10 });
  });
});

it.each(["constructor", "__proto__", "toString"])("the name %s is one as any other", (name) => {
  const { call, gauge, second } = setup();
  call({ priority: name });
  call({ status: "UNAVAILABLE", reason: name });
  gauge("weir.queue.length", 3, {}, name);
  gauge("weir.breaker.state", 2, {}, name);
  const [point] = second();
  const { goodput, refusals, queue, breakers } = point ?? {};
  expect(
    [goodput, refusals, queue, breakers].map((record) => Object.entries(record ?? {})),
  ).toEqual([[[name, 1]], [[name, 1]], [[name, 3]], [[name, "open"]]]);
});

describe("the board", () => {
  it("goes back ten minutes", () => {
    const { board, call, second } = setup();
    call();
    for (let seconds = 0; seconds < 700; seconds += 1) second();
    call({}, 650_000);
    const { points } = board;
    expect(points).toHaveLength(600);
    expect(points[0]?.atMs).toBe(epochMs + 101_000);
    expect(points.at(-1)?.atMs).toBe(epochMs + 700_000);
  });

  it("fills the seconds in which nothing ran", () => {
    const { clock, board } = setup();
    clock.advance(5_000);
    expect(board.tick()).toHaveLength(5);
  });
});

describe("gauges", () => {
  it("are added up over the priorities of a service", () => {
    const { gauge, second } = setup();
    gauge("weir.queue.length", 3, { "weir.priority": "high" });
    gauge("weir.queue.length", 4, { "weir.priority": "low" });
    gauge("weir.queue.length", 5, { "weir.priority": "low" }, "stock");
    gauge("weir.queue.length", 6, { "weir.priority": "low" }, "stock");
    gauge("weir.admission.limit", 20);
    gauge("weir.admission.running", 18, { "weir.pool": "calls" });
    gauge("weir.admission.limit", 1_000, { "weir.pool": "streams" });
    expect(second()).toMatchObject([
      { queue: { shop: 7, stock: 6 }, limit: { shop: 20 }, running: { shop: 18 } },
    ]);
  });

  it("stay until the next reading, and for 150 s without one", () => {
    const { gauge, second, clock } = setup();
    gauge("weir.admission.limit", 20);
    second();
    clock.advance(140_000);
    expect(second().at(-1)?.limit).toEqual({ shop: 20 });
    clock.advance(20_000);
    expect(second().at(-1)?.limit).toEqual({});
  });

  it.each([
    [[0], "closed"],
    [[1], "half-open"],
    [[2], "open"],
    [[0, 2, 1], "open"],
  ] as const)("%j of breakers with one key is %s", (values, state) => {
    const { gauge, second } = setup();
    for (const [index, value] of values.entries()) {
      gauge("weir.breaker.state", value, { "weir.breaker.key": "stock", process: `${index}` });
    }
    expect(second()).toMatchObject([{ breakers: { "shop stock": state } }]);
  });

  it.each([
    [{ "weir.breaker.key": "stock" }, "shop stock"],
    [{ "weir.breaker.key": "stock", "server.address": "stock" }, "shop stock"],
    [{ "weir.breaker.key": "List", "server.address": "stock" }, "shop stock List"],
    [{ "weir.guard.name": "database" }, "shop database"],
  ])("with %j are those of the breaker %s", (attributes, name) => {
    const { gauge, second } = setup();
    gauge("weir.breaker.state", 0, attributes);
    expect(second()).toMatchObject([{ breakers: { [name]: "closed" } }]);
  });

  it("are bounded in number", () => {
    const { gauge, second } = setup();
    for (let index = 0; index < 1_000; index += 1) {
      gauge("weir.breaker.state", 0, { "weir.breaker.key": `${index}` });
    }
    expect(Object.keys(second()[0]?.breakers ?? {})).toHaveLength(500);
  });

  it("have no names or attributes without end", () => {
    const { gauge, second } = setup();
    gauge("weir.breaker.state", 0, { "weir.breaker.key": "x".repeat(1_000) });
    gauge("weir.queue.length", 1, { unknown: "x".repeat(1_000) });
    gauge("weir.queue.length", 1, {}, "x".repeat(1_000));
    expect(second()).toMatchObject([{ breakers: {}, queue: {} }]);
    expect(Object.keys(second()[0]?.queue ?? {})).toEqual([]);
  });
});
