import { Metadata, type ServiceError, status as Status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { value } from "../../src/client.js";
import { Status as StatusMessage } from "../../src/gen/google/rpc/status.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { encodeStatusDetails, statusDetailsKey } from "../../src/grpc/status/rejection.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../src/weir.js";
import { echo, payload } from "../scene.js";
import { startTracing, type TracingUnderTest } from "./tracing.js";

let tracing: TracingUnderTest;

beforeEach(() => {
  tracing = startTracing();
});

afterEach(() => {
  vi.restoreAllMocks();
  tracing.stop();
});

/** A refusal as a server with the toolkit sends it. */
function refused(): Partial<ServiceError> {
  const code = Status.RESOURCE_EXHAUSTED;
  const metadata = new Metadata();
  const details = {
    errorInfo: { reason: "LOAD_SHED", domain: "grpc-weir", metadata: { scope: "instance" } },
    retryDelayMs: 50,
  };
  metadata.set(statusDetailsKey, encodeStatusDetails(code, "Load shed", details));
  return { code, details: "Load shed", metadata };
}

const refusing: ConformanceServiceServer = {
  ...echo,
  unary: (_call, callback) => callback(refused()),
};

/** Makes one call in a handler, through a pipeline with every policy that reads failures. */
async function callInHandler(maxAttempts: number): Promise<ServiceError | null> {
  const transport = inMemoryTransport();
  const { clock, random } = transport;
  const weir = createWeir({ clock, random });
  const inner = await transport.open({
    service: ConformanceServiceService,
    implementation: refusing,
    clientOptions: weir.client({
      deadline: { defaultMs: 10_000 },
      retry: { maxAttempts, idempotent: true },
      breaker: { outcome: ({ rejection }) => (rejection === undefined ? "failure" : "ignored") },
      throttle: {},
      bulkhead: { maxConcurrent: 10 },
      timeouts: { attemptMs: 1_000 },
      fallback: { providers: [value(() => undefined)] },
    }),
  });
  const client = inner.client(ConformanceServiceClient);
  let failure: ServiceError | null = null;
  const asking: ConformanceServiceServer = {
    ...echo,
    unary(call, callback) {
      client.unary(call.request, (error) => {
        failure = error;
        callback(null, call.request);
      });
    },
  };
  const outer = await transport.open({
    service: ConformanceServiceService,
    implementation: asking,
    serverInterceptors: weir.server().interceptors ?? [],
  });
  const request = { payload, sequence: 1 };
  await outer.until(
    new Promise((resolve) => outer.client(ConformanceServiceClient).unary(request, resolve)),
  );
  await inner.close();
  await outer.close();
  return failure;
}

describe("the details of a failed attempt", () => {
  it.each([1, 3])("are decoded once, of %i attempts in a handler", async (attempts) => {
    const decode = vi.spyOn(StatusMessage, "decode");
    const failure = await callInHandler(attempts);
    expect(failure?.code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(tracing.attempts()).toHaveLength(attempts);
    expect(tracing.calls()[0]?.attributes["weir.rejection.reason"]).toBe("LOAD_SHED");
    expect(decode).toHaveBeenCalledTimes(attempts);
  });
});
