import { describe, expect, it } from "vitest";
import { callOf, httpServerPort, isExport } from "../../src/viewer/span.js";
import { callSpan, decision, epochMs, spanId, spanOf, traceId } from "./scene.js";

describe("the call of a span", () => {
  it("has what the list of calls shows", () => {
    const span = callSpan({
      id: 7,
      service: "edge",
      ms: 12.3456,
      attributes: {
        "rpc.status_code": "UNAVAILABLE",
        "weir.call.priority": "critical",
        "weir.call.attempts": 3,
        "weir.rejection.reason": "LOAD_SHED",
      },
      events: [
        decision("retry", "retry"),
        decision("breaker", "reject"),
        decision("retry", "stop"),
      ],
    });
    expect(callOf(span)).toEqual({
      id: `${traceId(1)}-${spanId(7)}`,
      traceId: traceId(1),
      spanId: spanId(7),
      service: "edge",
      side: "client",
      method: "shop.v1.Shop/List",
      status: "UNAVAILABLE",
      priority: "critical",
      reason: "LOAD_SHED",
      policies: ["retry", "breaker"],
      startMs: epochMs,
      durationMs: 12.346,
      attempts: 3,
    });
  });

  it("has short texts and few policies, because it may outlive its span", () => {
    const long = "x".repeat(4_000);
    const call = callOf(
      callSpan({
        id: 7,
        service: long,
        attributes: {
          "rpc.method": `shop.v1.Shop/${long}`,
          "rpc.status_code": long,
          "weir.call.priority": long,
          "weir.rejection.reason": long,
        },
        events: Array.from({ length: 128 }, (_, index) => decision(`${index}${long}`, "admit")),
      }),
    );
    expect(call?.policies).toHaveLength(32);
    expect(JSON.stringify(call).length).toBeLessThan(10_000);
  });

  it("is that of the server where the span is a server's", () => {
    expect(callOf(callSpan({ id: 1, kind: "server" }))).toMatchObject({ side: "server" });
  });

  it("is degraded where a fallback answered it", () => {
    const events = [decision("fallback", "fallback")];
    expect(callOf(callSpan({ id: 1, events }))).toMatchObject({ degraded: true });
  });

  it("is not degraded by a fallback that only observes", () => {
    const events = [decision("fallback", "fallback", { "weir.decision.enforced": false })];
    expect(callOf(callSpan({ id: 1, events }))).not.toHaveProperty("degraded");
  });

  it.each([
    ["an attempt", callSpan({ id: 1, attributes: { "weir.attempt.number": 1 } })],
    ["work inside of a process", callSpan({ id: 1, kind: "internal" })],
    ["a query of a database", spanOf({ id: 1, kind: "client" })],
  ])("is none for %s", (_, span) => {
    expect(callOf(span)).toBeUndefined();
  });

  it.each([
    [{ "rpc.method": "List", "rpc.service": "shop.v1.Shop" }, "shop.v1.Shop/List"],
    [{ "rpc.method": "shop.v1.Shop/List", "rpc.service": "shop.v1.Shop" }, "shop.v1.Shop/List"],
    [{ "rpc.method": "List" }, "List"],
    [{ "rpc.service": "shop.v1.Shop" }, "shop.v1.Shop"],
  ])("has its method from %j", (attributes, method) => {
    expect(callOf(spanOf({ id: 1, kind: "server", attributes }))).toMatchObject({ method });
  });

  it.each([
    [{ "rpc.status_code": "ABORTED" }, "ABORTED"],
    [{ "rpc.response.status_code": "ABORTED" }, "ABORTED"],
    [{ "rpc.grpc.status_code": 14 }, "UNAVAILABLE"],
    [{ "rpc.grpc.status_code": 0 }, "OK"],
    [{ "rpc.grpc.status_code": 77 }, "77"],
  ])("has its status from %j", (attributes, status) => {
    const span = spanOf({
      id: 1,
      kind: "client",
      attributes: { ...attributes, "rpc.method": "a.B/C" },
    });
    expect(callOf(span)).toMatchObject({ status });
  });

  it.each([
    ["error", "UNKNOWN"],
    ["unset", "OK"],
    ["ok", "OK"],
  ] as const)("has, without a code, by the status %s of the span the status %s", (status, name) => {
    const span = spanOf({ id: 1, kind: "client", status, attributes: { "rpc.method": "a.B/C" } });
    expect(callOf(span)).toMatchObject({ status: name });
  });
});

it("telemetry that is sent is told from other calls", () => {
  const method = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
  expect(isExport(callSpan({ id: 1, attributes: { "rpc.method": method } }))).toBe(true);
  expect(isExport(callSpan({ id: 1 }))).toBe(false);
});

it.each([
  ["server", { "http.request.method": "GET", "server.port": 4319 }, 4319],
  ["server", { "http.method": "GET", "net.host.port": 4319 }, 4319],
  ["client", { "http.request.method": "GET", "server.port": 4319 }, undefined],
  ["server", { "rpc.method": "a.B/C", "server.port": 4319 }, undefined],
  ["server", { "http.request.method": "GET", "server.port": "4319" }, undefined],
] as const)(
  "a span of kind %s with %j was served over HTTP at port %s",
  (kind, attributes, port) => {
    expect(httpServerPort(spanOf({ id: 1, kind, attributes }))).toBe(port);
  },
);
