import { status as Status } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { faults } from "../../src/policies/faults/client.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { openScene, unary } from "./scene.js";
import { decisionsOf, startTracing, type TracingUnderTest } from "./tracing.js";

let tracing: TracingUnderTest;

beforeEach(() => {
  vi.stubEnv("GRPC_WEIR_FAULTS", "1");
  tracing = startTracing();
});

afterEach(() => {
  vi.unstubAllEnvs();
  tracing.stop();
});

it("the span of an attempt names what was injected into it, and the span of its call tells when", async () => {
  const transport = inMemoryTransport();
  const { clock, random } = transport;
  const injected = faults({
    latency: { rate: 1, ms: 20 },
    status: { rate: 1, code: Status.UNAVAILABLE },
    when: ({ attempt }) => attempt === 1,
    clock,
    random,
  });
  const scene = await openScene(transport, { innermost: [injected] });
  expect(await scene.link.until(unary(scene))).toBe("OK");
  const [first, second] = tracing.attempts();
  expect(first?.attributes).toMatchObject({
    "weir.attempt.faults": ["latency", "status"],
    // Whatever looks at the status takes it for the server's.
    "weir.attempt.origin": "remote",
    "rpc.status_code": "UNAVAILABLE",
  });
  expect(second?.attributes).not.toHaveProperty("weir.attempt.faults");
  expect(decisionsOf(tracing.calls()[0])).toEqual([
    "faults inject FAULT_INJECTED",
    "faults inject FAULT_INJECTED",
    "retry retry",
  ]);
  await scene.link.close();
});

it("an attempt whose connection seems to break has the origin of one whose connection did", async () => {
  const transport = inMemoryTransport();
  const { clock, random } = transport;
  const injected = faults({ reset: { rate: 1 }, clock, random });
  const scene = await openScene(transport, { innermost: [injected], maxAttempts: 1 });
  expect(await scene.link.until(unary(scene))).toBe("UNAVAILABLE");
  expect(tracing.attempts()[0]?.attributes).toMatchObject({
    "weir.attempt.faults": ["reset"],
    "weir.attempt.origin": "transport",
  });
  await scene.link.close();
});
