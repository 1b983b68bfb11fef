import {
  type ClientUnaryCall,
  credentials,
  Metadata,
  Server,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { Relay } from "../../../src/grpc/status/relay.js";
import { createWeir } from "../../../src/weir.js";
import { echo, payload } from "../../scene.js";
import { listen } from "./listen.js";

const open: { close(): void }[] = [];

afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

async function serve(implementation: ConformanceServiceServer, relay?: Relay) {
  const weir = createWeir();
  const server = new Server(weir.server(relay === undefined ? {} : { relay }));
  server.addService(ConformanceServiceService, implementation);
  const port = await listen(server);
  open.push({ close: () => server.forceShutdown() });
  const connect = (budget?: { ratio: number; minPerSecond: number; maxTokens: false }) => {
    const options = weir.client({
      breaker: false,
      retry: {
        idempotent: true,
        maxAttempts: 3,
        backoff: { baseMs: 1, maxMs: 5 },
        budget: budget ?? false,
      },
    });
    const client = new ConformanceServiceClient(
      `127.0.0.1:${port}`,
      credentials.createInsecure(),
      options,
    );
    open.push(client);
    return client;
  };
  return { connect };
}

type Budget = { ratio: number; minPerSecond: number; maxTokens: false };

/** Three services; the upper two pass on what they get from below, errors as they come. */
async function chain(bottom: ConformanceServiceServer["unary"], budget?: Budget, relay?: Relay) {
  const inventory = await serve({ ...echo, unary: bottom });
  const pass =
    (below: ConformanceServiceClient): ConformanceServiceServer["unary"] =>
    (call, callback) => {
      below.unary(call.request, callback);
    };
  const orders = await serve({ ...echo, unary: pass(inventory.connect(budget)) }, relay);
  const edge = await serve({ ...echo, unary: pass(orders.connect(budget)) }, relay);
  const client = edge.connect(budget);
  return () =>
    new Promise<ServiceError | null>((resolve) => {
      const done = (error: ServiceError | null) => resolve(error);
      const call: ClientUnaryCall = client.unary({ payload, sequence: 1 }, done);
      call.on("error", resolve);
    });
}

function failing(metadata?: Metadata) {
  let calls = 0;
  const unary: ConformanceServiceServer["unary"] = (_call, callback) => {
    calls += 1;
    const error = { code: Status.UNAVAILABLE, details: "out of stock room" };
    callback(metadata === undefined ? error : { ...error, metadata });
  };
  return { unary, calls: () => calls };
}

describe("three services that pass errors on", () => {
  it("try a call as often as one of them may, not the product of all", async () => {
    const bottom = failing();
    const call = await chain(bottom.unary);
    const error = await call();
    expect([error?.code, error?.details]).toEqual([Status.UNAVAILABLE, "out of stock room"]);
    expect(bottom.calls()).toBe(3);
    expect(rejectionOf(error ?? {})).toMatchObject({
      reason: "RETRY_EXHAUSTED_BELOW",
      local: false,
      hops: 2,
    });
  });

  it("multiply their attempts where relayed statuses pass untouched and handlers are not known to retry", async () => {
    const bottom = failing();
    const call = await chain(bottom.unary, undefined, "pass");
    await call();
    // Depth alone still holds: the calls of a retried call are not retried, so 3 + 1 + 1, and not 27.
    expect(bottom.calls()).toBeGreaterThan(3);
    expect(bottom.calls()).toBeLessThanOrEqual(9);
  });

  it("take the pushback out that was meant for the hop below", async () => {
    const metadata = new Metadata();
    metadata.set("grpc-retry-pushback-ms", "1");
    const bottom = failing(metadata);
    const call = await chain(bottom.unary);
    const error = await call();
    expect(error?.metadata.get("grpc-retry-pushback-ms")).toEqual([]);
    expect(bottom.calls()).toBe(3);
  });

  it("let no more than the budgeted number of calls reach the bottom in an outage", async () => {
    const bottom = failing();
    const call = await chain(bottom.unary, { ratio: 0.2, minPerSecond: 0, maxTokens: false });
    const calls = 200;
    for (let n = 0; n < calls / 10; n++) {
      await Promise.all(Array.from({ length: 10 }, () => call()));
    }
    expect(bottom.calls()).toBeGreaterThan(calls);
    expect(bottom.calls()).toBeLessThanOrEqual(calls * 1.2 + 1);
  });
});
