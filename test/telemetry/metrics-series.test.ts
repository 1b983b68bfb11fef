import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { GaugeLabels, GaugeName, Gauges } from "../../src/core/gauges.js";
import { canonicalTarget } from "../../src/telemetry/attributes.js";
import { GaugeBoard } from "../../src/telemetry/metrics-gauges.js";
import { Places } from "../../src/telemetry/metrics-places.js";
import { Tally } from "../../src/telemetry/metrics-tally.js";

describe("a counter", () => {
  it("counts together what is beyond 1,998 series, as the SDK does", () => {
    const tally = new Tally();
    for (let n = 0; n < 2_500; n += 1) tally.cell({ key: n }).value += 1;
    expect(tally.cells).toHaveLength(1_999);
    expect(tally.cells.at(-1)).toEqual({
      attributes: { "otel.metric.overflow": true },
      value: 502,
    });
  });
});

describe("the places of calls", () => {
  it("are those of 500 methods and targets on clients; all others are one", () => {
    const places = new Places();
    for (let n = 0; n < 700; n += 1) {
      places.client(`dns:///shop-${n % 7}:443`, `/shop.v1.Orders/Get${n}`).ended("low", Status.OK);
    }
    const others = places.calls.cells.filter(
      ({ attributes }) => attributes["rpc.method"] === "_OTHER",
    );
    expect(places.calls.cells).toHaveLength(501);
    expect(others).toEqual([
      {
        attributes: {
          "weir.side": "client",
          "rpc.method": "_OTHER",
          "server.address": "_OTHER",
          "weir.priority": "low",
          "rpc.status_code": "OK",
        },
        value: 200,
      },
    ]);
    expect(places.client("dns:///new", "/a.B/New").grpc["grpc.method"]).toBe("other");
    expect(places.client("dns:///shop-0:443", "/shop.v1.Orders/Get0").duration(Status.OK)).toEqual({
      "rpc.system.name": "grpc",
      "rpc.method": "shop.v1.Orders/Get0",
      "rpc.status_code": "OK",
      "server.address": "shop-0",
      "server.port": 443,
    });
  });

  it("are those of 500 methods on servers; all others are one", () => {
    const places = new Places();
    for (let n = 0; n < 700; n += 1) places.server(`/a.B/C${n}`).ended("normal", Status.OK);
    expect(places.calls.cells).toHaveLength(501);
    expect(places.calls.cells.at(-1)?.value).toBe(200);
  });

  it.each([-1, 17, 999, 2.5, Number.NaN])(
    "count the code %d, which gRPC does not have, as UNKNOWN",
    (code) => {
      const place = new Places().client("dns:///shop", "/a.B/C");
      expect(place.duration(code)).toMatchObject({
        "rpc.status_code": "UNKNOWN",
        "error.type": "UNKNOWN",
      });
      expect(place.grpcDuration(code)).toEqual({
        "grpc.method": "a.B/C",
        "grpc.target": "dns:///shop",
        "grpc.status": "UNKNOWN",
      });
    },
  );
});

describe("gauges", () => {
  /** What is told when these numbers are read. */
  function collect(board: GaugeBoard, numbers: [GaugeName, number, GaugeLabels][]) {
    const told: [GaugeName, number, unknown][] = [];
    const read = () => {
      const gauges: Gauges = board;
      for (const each of numbers) gauges.note(...each);
    };
    board.collect(read, (...one) => told.push(one));
    return told;
  }

  it("with the same labels are joined: lengths are added up, states the highest, budgets the lowest", () => {
    const told = collect(new GaugeBoard(), [
      ["queue", 2, { side: "client" }],
      ["queue", 3, { side: "client" }],
      ["queue", 4, { side: "server" }],
      ["breaker", 0, { key: "a" }],
      ["breaker", 2, { key: "a" }],
      ["breaker", 1, { key: "a" }],
      ["budget", 3, { target: "dns:///a:1", budget: "ratio" }],
      ["budget", 1, { target: "dns:///a:1", budget: "ratio" }],
    ]);
    expect(told).toEqual([
      ["queue", 5, { "weir.side": "client" }],
      ["queue", 4, { "weir.side": "server" }],
      ["breaker", 2, { "weir.breaker.key": "a" }],
      ["budget", 1, { "server.address": "a", "server.port": 1, "weir.budget": "ratio" }],
    ]);
  });

  it("that are gone are told as 0, once, unless 0 would say something else", () => {
    const board = new GaugeBoard();
    collect(board, [
      ["breaker", 2, { key: "a" }],
      ["breaker", 1, { key: "b" }],
      ["budget", 3, { guard: "db" }],
      ["admissionLimit", 7, { pool: "calls" }],
    ]);
    expect(collect(board, [["breaker", 1, { key: "b" }]])).toEqual([
      ["breaker", 1, { "weir.breaker.key": "b" }],
      ["breaker", 0, { "weir.breaker.key": "a" }],
    ]);
    expect(collect(board, [])).toEqual([["breaker", 0, { "weir.breaker.key": "b" }]]);
    expect(collect(board, [])).toEqual([]);
  });

  it("of more than 500 series are those that say most", () => {
    const keys = Array.from({ length: 600 }, (_, n) => n);
    const breakers = keys.map((n): [GaugeName, number, GaugeLabels] => [
      "breaker",
      n >= 550 ? 2 : 0,
      { key: String(n) },
    ]);
    const budgets = keys.map((n): [GaugeName, number, GaugeLabels] => [
      "budget",
      600 - n,
      { guard: String(n) },
    ]);
    const told = collect(new GaugeBoard(), [...breakers, ...budgets]);
    const values = (gauge: GaugeName) =>
      told.filter(([name]) => name === gauge).map((one) => one[1]);
    expect(values("breaker")).toHaveLength(500);
    expect(values("breaker").filter((value) => value === 2)).toHaveLength(50);
    expect(values("budget")).toEqual(keys.slice(0, 500).map((n) => n + 1));
  });
});

it.each([
  ["orders:8443", "dns:///orders:8443"],
  ["dns:orders:8443", "dns:///orders:8443"],
  ["dns:///orders", "dns:///orders"],
  ["dns://10.0.0.1/orders", "dns://10.0.0.1/orders"],
  ["unix:/run/orders.sock", "unix:///run/orders.sock"],
  ["ipv4:10.0.0.1:1,10.0.0.2:1", "ipv4:///10.0.0.1:1,10.0.0.2:1"],
])("the target %s is %s for gRFC A66", (target, uri) => {
  expect(canonicalTarget(target)).toBe(uri);
});
