import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import { clientSpans } from "../../src/telemetry/client-spans.js";
import { resolveTelemetryOptions } from "../../src/telemetry/options.js";
import { serverSpans } from "../../src/telemetry/server-spans.js";
import { traceContext } from "./trace-context.js";

it("traces and measures with what is registered globally, unless told otherwise", () => {
  expect(resolveTelemetryOptions()).toEqual({
    tracing: true,
    tracerProvider: undefined,
    propagator: undefined,
    metrics: true,
    meterProvider: undefined,
    metricNames: "otel",
  });
});

describe.each([
  ["resolveTelemetryOptions", resolveTelemetryOptions, "telemetry"],
  ["clientSpans", clientSpans, "clientSpans"],
  ["serverSpans", serverSpans, "serverSpans"],
] as const)("%s", (_name, build, prefix) => {
  const refused = (options: object) => {
    try {
      build(options);
    } catch (error) {
      if (error instanceof InvalidOptionError) return error.option;
      throw error;
    }
    return undefined;
  };

  it.each([
    [{ tracing: "yes" }, "tracing"],
    [{ tracerProvider: {} }, "tracerProvider"],
    [{ tracerProvider: null }, "tracerProvider"],
    [{ propagator: { inject: () => {} } }, "propagator"],
    [{ traceProvider: undefined }, "traceProvider"],
  ])("refuses %j, and names the option", (options, option) => {
    expect(refused(options)).toBe(`${prefix}.${option}`);
  });

  it("takes a propagator", () => {
    expect(refused({ propagator: traceContext })).toBeUndefined();
  });
});

it.each([
  [{ metrics: 1 }, "telemetry.metrics must be true or false, got 1"],
  [{ meterProvider: {} }, "telemetry.meterProvider must be a meter provider: it has no getMeter()"],
  [{ meterProvider: null }, "telemetry.meterProvider"],
  [{ metricNames: "prometheus" }, "telemetry.metricNames must be one of otel, grpc, both"],
])("refuses %j for metrics, and names the option", (options, message) => {
  expect(() => resolveTelemetryOptions(options as never)).toThrow(InvalidOptionError);
  expect(() => resolveTelemetryOptions(options as never)).toThrow(message);
});

it.each([clientSpans, serverSpans])(
  "knows no metrics where the interceptors for spans stand alone",
  (build) => {
    expect(() => build({ metrics: true } as never)).toThrow("Spans.metrics");
  },
);

it("refuses a clock that is none where the interceptors stand alone", () => {
  expect(() => clientSpans({ clock: {} as never })).toThrow("clientSpans.clock");
});
