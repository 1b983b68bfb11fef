import { describe, expect, it } from "vitest";
import { gaugesOf } from "../../../src/viewer/otlp/gauges.js";
import { metricsFromJson, tracesFromJson } from "../../../src/viewer/otlp/json.js";
import { spansOf } from "../../../src/viewer/otlp/spans.js";

const read = (message: unknown) => spansOf(tracesFromJson(JSON.stringify(message)));

const attribute = (key: string, value: object) => ({ key, value });

/** A message with one span. */
const withSpan = (span: object) => ({
  resourceSpans: [
    {
      resource: { attributes: [attribute("service.name", { stringValue: "orders" })] },
      scopeSpans: [{ scope: { name: "grpc-weir" }, spans: [span] }],
    },
  ],
});

const ids = { traceId: "5b8efff798038103d269b633813fc60c", spanId: "EEE19B7EC3C1B174" };

describe("a span in JSON", () => {
  it("is read with hexadecimal ids, numbers in texts, and enums as numbers", () => {
    const { spans, rejected } = read(
      withSpan({
        ...ids,
        parentSpanId: "eee19b7ec3c1b173",
        name: "shop.v1.Shop/List",
        kind: 2,
        startTimeUnixNano: "1544712660000001000",
        endTimeUnixNano: "1544712661000001000",
        attributes: [
          attribute("text", { stringValue: "a" }),
          attribute("whole", { intValue: "42" }),
          attribute("big", { intValue: "9223372036854775807" }),
          attribute("part", { doubleValue: 0.5 }),
          attribute("flag", { boolValue: false }),
          attribute("list", { arrayValue: { values: [{ stringValue: "a" }, { intValue: 1 }] } }),
          attribute("map", {
            kvlistValue: { values: [attribute("traceId", { stringValue: "no id" })] },
          }),
          attribute("bytes", { bytesValue: "AQI=" }),
          attribute("traceId", { stringValue: "no id" }),
          attribute("empty", {}),
        ],
        events: [{ timeUnixNano: "1544712660500000000", name: "weir.decision", attributes: [] }],
        status: { code: 2, message: "no" },
      }),
    );
    expect(rejected).toBe(0);
    expect(spans).toEqual([
      {
        traceId: ids.traceId,
        spanId: ids.spanId.toLowerCase(),
        parentSpanId: "eee19b7ec3c1b173",
        name: "shop.v1.Shop/List",
        kind: "server",
        service: "orders",
        scope: "grpc-weir",
        startMs: 1_544_712_660_000.001,
        endMs: 1_544_712_661_000.001,
        status: "error",
        statusMessage: "no",
        attributes: {
          text: "a",
          whole: 42,
          big: "9223372036854775807",
          part: 0.5,
          flag: false,
          list: ["a", 1],
          map: '{"traceId":"no id"}',
          bytes: "AQI=",
          traceId: "no id",
        },
        events: [{ name: "weir.decision", atMs: 1_544_712_660_500, attributes: {} }],
      },
    ]);
  });

  it("may be all but empty", () => {
    const { spans } = read(withSpan({ ...ids, unknownField: 1 }));
    expect(spans).toMatchObject([{ kind: "internal", status: "unset", startMs: 0, endMs: 0 }]);
  });

  it.each([30, 400])("has no time that a page could not show, as one of %i digits", (digits) => {
    for (const time of ["9".repeat(digits), `-${"9".repeat(digits)}`]) {
      const events = [{ timeUnixNano: time }];
      const { spans } = read(
        withSpan({ ...ids, startTimeUnixNano: time, endTimeUnixNano: time, events }),
      );
      expect(spans).toMatchObject([{ startMs: 0, endMs: 0, events: [{ atMs: 0 }] }]);
    }
  });

  it("never ends before it starts", () => {
    const { spans } = read(withSpan({ ...ids, startTimeUnixNano: "2000000", endTimeUnixNano: 1 }));
    expect(spans).toMatchObject([{ startMs: 2, endMs: 2 }]);
  });

  it.each([
    { ...ids, traceId: "" },
    { ...ids, traceId: "00000000000000000000000000000000" },
    { ...ids, spanId: "0000000000000000" },
    { ...ids, spanId: "ab" },
    {},
  ])("is rejected with ids of %j", (span) => {
    expect(read(withSpan(span))).toEqual({ spans: [], rejected: 1 });
  });

  it("is of the service unknown where the resource names none", () => {
    const message = { resourceSpans: [{ scopeSpans: [{ spans: [ids] }] }] };
    expect(read(message).spans).toMatchObject([{ service: "unknown", scope: "" }]);
  });
});

describe("a message in JSON", () => {
  it("may be empty", () => {
    expect(read({})).toEqual({ spans: [], rejected: 0 });
  });

  it.each([
    ["", "JSON"],
    ["[]", "an object with resourceSpans"],
    ["null", "an object with resourceSpans"],
    ["7", "an object with resourceSpans"],
    ['{"resourceSpans":{}}', "resourceSpans is a list"],
    [JSON.stringify(withSpan({ ...ids, traceId: "xyz" })), "traceId is hexadecimal"],
    [JSON.stringify(withSpan({ ...ids, spanId: 7 })), "spanId is hexadecimal"],
    [JSON.stringify(withSpan({ ...ids, startTimeUnixNano: "soon" })), "BigInt"],
  ])("is refused if it is %s", (text, why) => {
    expect(() => tracesFromJson(text)).toThrow(why);
  });

  it("is refused if it is nested too deeply", () => {
    const depth = 20_000;
    const deep = `${'{"arrayValue":{"values":['.repeat(depth)}${"]}}".repeat(depth)}`;
    const text = `{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":${deep}}]}}]}`;
    expect(() => tracesFromJson(text)).toThrow();
  });
});

describe("metrics in JSON", () => {
  const gauge = (name: string, kind: string, dataPoints: readonly object[]) => ({
    name,
    [kind]: { dataPoints },
  });
  const read = (metrics: readonly object[]) =>
    gaugesOf(
      metricsFromJson(
        JSON.stringify({
          resourceMetrics: [
            {
              resource: { attributes: [attribute("service.name", { stringValue: "orders" })] },
              scopeMetrics: [{ metrics }],
            },
          ],
        }),
      ),
    );

  it("are read where they are gauges that the board shows", () => {
    const low = [attribute("weir.priority", { stringValue: "low" })];
    expect(
      read([
        gauge("weir.queue.length", "gauge", [{ asInt: "3", attributes: low }, { asInt: 4 }]),
        gauge("weir.admission.limit", "sum", [{ asDouble: 20.5 }]),
        gauge("weir.refusals", "sum", [{ asInt: 5 }]),
        gauge("weir.breaker.state", "gauge", [{}, { asDouble: "NaN" }]),
        { name: "weir.admission.running" },
      ]),
    ).toEqual([
      {
        name: "weir.queue.length",
        service: "orders",
        attributes: { "weir.priority": "low" },
        value: 3,
      },
      { name: "weir.queue.length", service: "orders", attributes: {}, value: 4 },
      { name: "weir.admission.limit", service: "orders", attributes: {}, value: 20.5 },
    ]);
  });
});
