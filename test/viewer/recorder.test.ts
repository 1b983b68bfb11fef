import { VirtualClock } from "grpc-weir/testing";
import { describe, expect, it } from "vitest";
import type { BoardPoint, CallRow } from "../../src/viewer/api.js";
import type { BoardSample } from "../../src/viewer/board.js";
import { Recorder } from "../../src/viewer/recorder.js";
import { callSpan, spanId, spanOf, traceId } from "./scene.js";

function setup(sample?: () => { sample: BoardSample; service: string }) {
  const clock = new VirtualClock();
  const shown: CallRow[] = [];
  const points: BoardPoint[] = [];
  const recorder = new Recorder(
    { limits: {}, clock, ...(sample === undefined ? {} : { sample }) },
    { onCall: (call) => shown.push(call), onPoints: (some) => points.push(...some) },
  );
  const sides = (calls: Iterable<CallRow>) =>
    [...calls].map(({ side, traceId: id }) => `${side} ${Number.parseInt(id, 16)}`);
  return {
    clock,
    recorder,
    points,
    /** A call that is seen from both sides: its server's span comes first, as it ends first. */
    server: (trace: number) =>
      recorder.record(callSpan({ trace, id: 3, parent: 2, kind: "server", service: "stock" })),
    client: (trace: number) => {
      recorder.record(
        callSpan({ trace, id: 2, parent: 1, attributes: { "weir.attempt.number": 1 } }),
      );
      recorder.record(callSpan({ trace, id: 1 }));
    },
    shown: () => sides(shown),
    kept: () => sides(recorder.store.calls.values()),
  };
}

describe("a call", () => {
  it("of a client is shown when its span comes", () => {
    const { client, shown, kept } = setup();
    client(1);
    expect(shown()).toEqual(["client 1"]);
    expect(kept()).toEqual(["client 1"]);
  });

  it("of a server is shown at once while no caller reports here", () => {
    const { server, shown } = setup();
    server(1);
    expect(shown()).toEqual(["server 1"]);
  });

  it("that both sides report is kept once, as the client's", () => {
    const { server, client, kept } = setup();
    server(1);
    client(1);
    expect(kept()).toEqual(["client 1"]);
  });

  it("that both sides report is shown once, when it is known that callers report", () => {
    const { server, client, shown } = setup();
    server(1);
    client(1);
    server(2);
    client(2);
    client(3);
    server(3);
    expect(shown()).toEqual(["server 1", "client 1", "client 2", "client 3"]);
  });

  it("of a server is shown 8 s later where its caller might have reported and did not", () => {
    const { server, client, clock, shown } = setup();
    client(1);
    server(1);
    server(2);
    clock.advance(7_900);
    expect(shown()).toEqual(["client 1"]);
    clock.advance(1_200);
    expect(shown()).toEqual(["client 1", "server 2"]);
  });

  it("of a server is taken back when its caller reports later still", () => {
    const { server, client, clock, kept } = setup();
    client(1);
    server(1);
    server(2);
    clock.advance(10_000);
    client(2);
    expect(kept()).toEqual(["client 1", "client 2"]);
  });

  it("waits for its caller only while few do", () => {
    const { server, client, shown } = setup();
    client(1);
    server(1);
    for (let trace = 2; trace < 12_002; trace += 1) server(trace);
    expect(shown().length).toBeGreaterThanOrEqual(2_000);
    expect(shown().slice(0, 3)).toEqual(["client 1", "server 2", "server 3"]);
  });

  it("of a server without a parent is one of a client that is not traced", () => {
    const { recorder, shown } = setup();
    recorder.record(callSpan({ id: 1, kind: "server" }));
    expect(shown()).toEqual(["server 1"]);
  });

  it("is shown once when its span comes twice", () => {
    const { client, shown } = setup();
    client(1);
    client(1);
    expect(shown()).toEqual(["client 1"]);
  });
});

describe("what is the viewer's own", () => {
  it("is left out: spans that are exported", () => {
    const { recorder } = setup();
    const method = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
    recorder.record(callSpan({ id: 1, kind: "server", attributes: { "rpc.method": method } }));
    expect(recorder.store.spanCount).toBe(0);
  });

  it("is left out: requests of its page", () => {
    const { recorder } = setup();
    recorder.addOwnPort(4319);
    const served = (id: number, port: number) =>
      spanOf({
        id,
        kind: "server",
        attributes: { "http.request.method": "GET", "server.port": port },
      });
    recorder.record(served(1, 4319));
    recorder.record(served(2, 8080));
    expect(recorder.store.view(traceId(1))?.spans.map((span) => span.spanId)).toEqual([spanId(2)]);
  });
});

describe("the board", () => {
  it("has a point each second, also without calls", () => {
    const { clock, points, client } = setup();
    client(1);
    clock.advance(3_000);
    expect(points.map(({ goodput, p50Ms }) => [goodput[""] ?? 0, p50Ms !== null])).toEqual([
      [1, true],
      [0, false],
      [0, false],
    ]);
  });

  it("has what the process says of itself", () => {
    const sample: BoardSample = { queue: 3, limit: 20, running: 17, breakers: { stock: "open" } };
    const { clock, points } = setup(() => ({ sample, service: "shop" }));
    clock.advance(1_000);
    expect(points).toMatchObject([
      {
        queue: { shop: 3 },
        limit: { shop: 20 },
        running: { shop: 17 },
        breakers: { "shop stock": "open" },
      },
    ]);
  });

  it("stands still after the end", () => {
    const { clock, points, recorder } = setup();
    recorder.close();
    clock.advance(5_000);
    expect(points).toEqual([]);
  });
});
