import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
import { describe, it } from "vitest";
import { clientSpans } from "../../src/telemetry/client-spans.js";
import { serverSpans } from "../../src/telemetry/server-spans.js";
import { type ConformanceSubject, conformance } from "../../src/testing/conformance/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { traceContext } from "./trace-context.js";

/** With spans that are recorded: without an SDK, the interceptors step aside. */
const telemetry = { tracerProvider: new BasicTracerProvider(), propagator: traceContext };

const subjects: Readonly<Record<string, ConformanceSubject>> = {
  "the spans of calls": { client: (env) => [clientSpans({ ...telemetry, ...env }).call] },
  "the spans of attempts": { client: (env) => [clientSpans({ ...telemetry, ...env }).attempt] },
  "the spans of servers": { server: (env) => [serverSpans({ ...telemetry, ...env })] },
};

describe.each(Object.entries(subjects))("%s", (_name, subject) => {
  for (const each of conformance(subject, inMemoryTransport)) it(each.name, () => each.run());
});
