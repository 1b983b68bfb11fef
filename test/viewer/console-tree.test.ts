import { SpanKind } from "@opentelemetry/api";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { consoleTree } from "grpc-weir/viewer";
import { describe, expect, it } from "vitest";
import type { SpanView } from "../../src/viewer/api.js";
import { callSpan, decision, epochMs, spanOf } from "./scene.js";

const drawn = (spans: readonly SpanView[], width = 100) =>
  consoleTree(spans, { width, colors: false });

const attempt = (number: number, cause: string, more = {}) => ({
  "weir.attempt.number": number,
  "weir.attempt.cause": cause,
  "weir.attempt.origin": "remote",
  ...more,
});

/** A call that was refused, waited, was hedged, and won by the third attempt. */
const story: readonly SpanView[] = [
  callSpan({
    id: 1,
    ms: 100,
    service: "edge",
    attributes: { "weir.call.attempts": 3, "weir.call.priority": "critical" },
    events: [
      decision(
        "retry",
        "retry",
        { "weir.decision.detail": "retry after UNAVAILABLE (remote), 20 ms" },
        epochMs + 20,
      ),
      decision("hedge", "hedge", {}, epochMs + 60),
      decision("hedge", "stop", { "weir.decision.reason": "RETRY_ATTEMPTS_SPENT" }, epochMs + 80),
    ],
  }),
  callSpan({
    id: 2,
    parent: 1,
    ms: 20,
    service: "edge",
    attributes: attempt(1, "first", { "rpc.status_code": "UNAVAILABLE" }),
  }),
  callSpan({
    id: 3,
    parent: 2,
    ms: 10,
    startMs: epochMs + 5,
    kind: "server",
    service: "stock",
    attributes: { "rpc.status_code": "UNAVAILABLE", "weir.rejection.reason": "LOAD_SHED" },
  }),
  spanOf({
    id: 4,
    parent: 1,
    ms: 20,
    startMs: epochMs + 20,
    service: "edge",
    name: "wait: backoff",
    attributes: { "weir.wait.kind": "backoff" },
  }),
  callSpan({
    id: 5,
    parent: 1,
    ms: 60,
    startMs: epochMs + 40,
    service: "edge",
    attributes: attempt(2, "retry", { "weir.attempt.superseded": true }),
  }),
  callSpan({
    id: 6,
    parent: 1,
    ms: 40,
    startMs: epochMs + 60,
    service: "edge",
    attributes: attempt(3, "hedge"),
  }),
];

describe("a tree of a trace", () => {
  it("has a bar for each span, and a line for each decision that no span shows", () => {
    expect(`\n${drawn(story)}\n`).toBe(`
trace 00000000000000000000000000000001: 6 spans, 2 services, 100 ms
█ call  ▒ attempt  ░ lost the race  · waiting  ◆ decision
edge  List              ████◆███████◆███◆███      100  OK, 3 attempts, priority critical
edge   attempt 1: first ▒▒▒▒                       20  UNAVAILABLE (remote)
stock   List (server)    ██                        10  UNAVAILABLE: LOAD_SHED
edge   wait: backoff        ····                   20  retry after UNAVAILABLE (remote), 20 ms
edge   attempt 2: retry         ░░░░░░░░░░░░       60  another attempt was faster
edge   attempt 3: hedge             ▒▒▒▒▒▒▒▒       40  OK
edge   hedge: stop                      ◆              RETRY_ATTEMPTS_SPENT
`);
  });

  it("names services only where there are several", () => {
    expect(drawn(story)).toMatch(/^stock/m);
    expect(drawn([callSpan({ id: 1 })])).toMatch(/^List/m);
  });

  it.each([60, 80, 120, 200])("fits into %i columns, but for the id of the trace", (width) => {
    const [, ...lines] = drawn(story, width).split("\n");
    expect(lines.filter((line) => line.length > width)).toEqual([]);
  });

  it("says that a policy only observes, and the numbers behind a decision", () => {
    const more = { "weir.decision.enforced": false, "weir.decision.detail": "8 of 8 run" };
    const events = [decision("bulkhead", "reject", more)];
    expect(drawn([callSpan({ id: 1, events })])).toContain("8 of 8 run, only observed");
  });

  it("shows spans whose parents are missing, and spans that are their own ancestors", () => {
    const spans = [
      spanOf({ id: 1, parent: 9, name: "orphan" }),
      spanOf({ id: 2, parent: 3, name: "hen" }),
      spanOf({ id: 3, parent: 2, name: "egg" }),
    ];
    const tree = drawn(spans);
    expect(tree.match(/orphan|hen|egg/g)).toHaveLength(3);
  });

  it("lets no name move the cursor", () => {
    const evil = spanOf({ id: 1, name: "\x1b[2Jevil\r\nname", service: "a\u009bb" });
    const tree = drawn([evil, spanOf({ id: 2 })]);
    expect(tree).toContain("a?b  ?[2Jevil??name");
    expect(tree.split("\n")).toHaveLength(4);
  });

  it("shows a failed span of another kind", () => {
    expect(drawn([spanOf({ id: 1, status: "error", statusMessage: "no such table" })])).toContain(
      "error: no such table",
    );
  });

  it("shows a span without duration", () => {
    expect(drawn([spanOf({ id: 1, ms: 0 })])).toContain("0.0");
  });

  it("says that spans are missing", () => {
    const view = { traceId: "1", spans: [spanOf({ id: 1 })], truncated: true };
    expect(consoleTree(view, { colors: false })).toContain("are not kept");
  });

  it("is coloured on demand", () => {
    const spans = [
      callSpan({ id: 1 }),
      callSpan({ id: 2, attributes: { "rpc.status_code": "INTERNAL" } }),
    ];
    const tree = consoleTree(spans, { colors: true });
    expect(tree).toContain("\x1b[32mOK\x1b[0m");
    expect(tree).toContain("\x1b[31mINTERNAL\x1b[0m");
    expect(drawn(spans)).not.toContain("\x1b");
  });
});

it("several traces follow one another", () => {
  const tree = drawn([callSpan({ id: 1 }), callSpan({ trace: 2, id: 1 })]);
  expect(tree.match(/^trace /gm)).toHaveLength(2);
});

it("nothing is drawn of no spans", () => {
  expect(drawn([])).toBe("");
  expect(consoleTree({ traceId: "1", spans: [], truncated: false })).toBe("");
});

it("finished spans of the SDK are drawn as they are", () => {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  const attributes = { "rpc.method": "shop.v1.Shop/List", "rpc.status_code": "OK" };
  provider.getTracer("a").startSpan("List", { kind: SpanKind.CLIENT, attributes }).end();
  expect(consoleTree(exporter.getFinishedSpans(), { colors: false })).toMatch(/List .* OK$/);
});

it("a width below 60 is refused", () => {
  expect(() => drawn(story, 59)).toThrow("consoleTree.width");
});
