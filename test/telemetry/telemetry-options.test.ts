import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import { clientSpans } from "../../src/telemetry/client-spans.js";
import { resolveTelemetryOptions } from "../../src/telemetry/options.js";
import { serverSpans } from "../../src/telemetry/server-spans.js";
import { traceContext } from "./trace-context.js";

it("traces with what is registered globally, unless told otherwise", () => {
  expect(resolveTelemetryOptions()).toEqual({
    tracing: true,
    tracerProvider: undefined,
    propagator: undefined,
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

it("refuses a clock that is none where the interceptors stand alone", () => {
  expect(() => clientSpans({ clock: {} as never })).toThrow("clientSpans.clock");
});
