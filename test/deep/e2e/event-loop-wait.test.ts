import { credentials, Server } from "@grpc/grpc-js";
import { afterEach, expect, it, onTestFinished } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { createWeir } from "../../../src/weir.js";
import { echo, payload } from "../../scene.js";
import { parentIdOf, startTracing, type TracingUnderTest } from "../../telemetry/tracing.js";
import { listen } from "./listen.js";

let tracing: TracingUnderTest;

afterEach(() => tracing.stop());

const computesMs = 20;

const computing: ConformanceServiceServer = {
  ...echo,
  unary: (call, callback) => {
    const untilMs = performance.now() + computesMs;
    while (performance.now() < untilMs);
    callback(null, call.request);
  },
};

it("calls that arrive together at handlers which compute have the time before theirs as a wait", async () => {
  tracing = startTracing();
  const weir = createWeir();
  const server = new Server(weir.server());
  server.addService(ConformanceServiceService, computing);
  const port = await listen(server);
  onTestFinished(() => server.forceShutdown());
  const address = `127.0.0.1:${port}`;
  const client = new ConformanceServiceClient(address, credentials.createInsecure(), weir.client());
  onTestFinished(() => client.close());
  const call = () =>
    new Promise<void>((resolve, reject) => {
      client.unary({ payload, sequence: 1 }, (error) =>
        error === null ? resolve() : reject(error),
      );
    });
  await call();
  await Promise.all(Array.from({ length: 5 }, call));
  const waits = tracing.spans().filter(({ name }) => name === "wait: event loop");
  const longestMs = Math.max(...waits.map(({ duration: [s, nanos] }) => s * 1_000 + nanos / 1e6));
  // The last one waits for the four before it, or for fewer where they came in several pieces.
  expect(longestMs).toBeGreaterThan(computesMs * 0.9);
  const servers = new Set(tracing.servers().map((span) => span.spanContext().spanId));
  expect(waits.every((wait) => servers.has(parentIdOf(wait) ?? ""))).toBe(true);
});
