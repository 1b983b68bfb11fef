import { Metadata } from "@grpc/grpc-js";
import { trace } from "@opentelemetry/api";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { DecisionEvent } from "../../src/core/decision.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import type { FinishedCall } from "../../src/grpc/context/finished-call.js";
import type { TelemetryOptions } from "../../src/telemetry/options.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../src/weir.js";
import { failing, kinds, startCall } from "../scene.js";
import { startTracing, type TracingUnderTest } from "./tracing.js";

let tracing: TracingUnderTest;
beforeEach(() => {
  tracing = startTracing();
});
afterEach(() => tracing.stop());

/** A retried call of each kind, and what is told of it. */
async function toldOf(kind: (typeof kinds)[number], telemetry?: TelemetryOptions) {
  const made = inMemoryTransport();
  const calls: FinishedCall[] = [];
  const decisions: DecisionEvent[] = [];
  const weir = createWeir({
    clock: made.clock,
    random: made.random,
    ...(telemetry === undefined ? {} : { telemetry }),
    onCall: (call) => calls.push(call),
    onDecision: (decision) => decisions.push(decision),
  });
  const link = await made.open({
    service: ConformanceServiceService,
    implementation: failing(1).handlers,
    clientOptions: weir.client({ retry: { idempotent: true }, breaker: false }),
    serverInterceptors: weir.server({}).interceptors ?? [],
  });
  const start = () => startCall(link.client(ConformanceServiceClient), kind, {}, new Metadata());
  return { link, start, calls, decisions };
}

const ids = ({ traceId, spanId }: { traceId?: string; spanId?: string }) => ({ traceId, spanId });

describe.each(kinds)("what is told of a %s call", (kind) => {
  it("names its span, on the client and on the server", async () => {
    const { link, start, calls, decisions } = await toldOf(kind);
    await link.until(start().ended, 10_000);
    const [call] = tracing.calls();
    const clientIds = ids(call?.spanContext() ?? {});
    expect(clientIds.traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(calls.filter(({ side }) => side === "client").map(ids)).toEqual([clientIds]);
    expect(decisions.filter(({ side }) => side === "client").map(ids)).toEqual([clientIds]);
    const servers = tracing.servers().map((span) => ids(span.spanContext()));
    expect(calls.filter(({ side }) => side === "server").map(ids)).toEqual(servers);
  });

  it("names the span that was active when it was made, where the toolkit makes none", async () => {
    const { link, start, calls, decisions } = await toldOf(kind, { tracing: false });
    const own = trace.getTracer("own");
    const ended = own.startActiveSpan("request", (span) => {
      const running = start();
      return running.ended.then(() => ids(span.spanContext()));
    });
    const active = await link.until(ended, 10_000);
    expect(calls.filter(({ side }) => side === "client").map(ids)).toEqual([active]);
    expect(decisions.map(ids)).toEqual([active]);
  });
});

describe("what is told of a guarded run", () => {
  it("names its span", async () => {
    const calls: FinishedCall[] = [];
    const decisions: DecisionEvent[] = [];
    const weir = createWeir({
      onCall: (call) => calls.push(call),
      onDecision: (decision) => decisions.push(decision),
    });
    const guard = weir.guard("db", { breaker: { consecutiveFailures: 1 } });
    await guard.run(() => Promise.reject(new Error("down"))).catch(() => {});
    await guard.run(() => "never").catch(() => {});
    const spans = tracing.spans().filter(({ name }) => name === "Guard.db");
    expect(calls.map(ids)).toEqual(spans.map((span) => ids(span.spanContext())));
    expect(decisions.map(ids)).toEqual([calls[1]].map((call) => ids(call ?? {})));
  });
});

it("nothing is named where there is no span", async () => {
  tracing.stop();
  const { link, start, calls } = await toldOf("unary");
  await link.until(start().ended, 10_000);
  for (const call of calls) expect(call).not.toHaveProperty("traceId");
});
