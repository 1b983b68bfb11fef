import { status as Status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { failing, handlers, kinds, path, scene } from "../scene.js";
import { type MeteringUnderTest, metering, pointsOf } from "./metering.js";

let meters: MeteringUnderTest;

beforeEach(() => {
  meters = metering();
});

afterEach(() => meters.stop());

const telemetry = () => ({ metricNames: "grpc", meterProvider: meters.provider }) as const;

describe.each(kinds)("by the names of gRPC, a %s call", (method) => {
  const name = path[method].slice(1);

  it("is measured on both sides, and by no other names than these and the toolkit's own", async () => {
    const world = await scene({ telemetry: telemetry(), server: {} });
    await world.call(method);
    const all = await meters.collect();
    const names = [...all.keys()].filter((one) => !one.startsWith("weir.")).sort();
    expect(names).toEqual([
      "grpc.client.attempt.duration",
      "grpc.client.attempt.started",
      "grpc.client.call.duration",
      "grpc.client.call.retry_delay",
      "grpc.server.call.duration",
      "grpc.server.call.started",
    ]);
    const attributes = (metric: string) =>
      pointsOf(all.get(metric)).map(({ attributes: its }) => its);
    const target = expect.stringContaining("://");
    const started = { "grpc.method": name, "grpc.target": target };
    expect(attributes("grpc.client.attempt.started")).toEqual([started]);
    expect(attributes("grpc.client.call.duration")).toEqual([{ ...started, "grpc.status": "OK" }]);
    expect(attributes("grpc.client.call.retry_delay")).toEqual([started]);
    expect(attributes("grpc.server.call.started")).toEqual([{ "grpc.method": name }]);
    expect(attributes("grpc.server.call.duration")).toEqual([
      { "grpc.method": name, "grpc.status": "OK" },
    ]);
  });

  it("has its retries in its number of retries, and the waits between them in its delay", async () => {
    const world = await scene({
      telemetry: telemetry(),
      client: { retry: { idempotent: true, backoff: { baseMs: 100, maxMs: 100, jitter: "none" } } },
      handlers: failing(2).handlers,
    });
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(await meters.values("grpc.client.call.retries")).toEqual({ "": 2 });
    expect(await meters.values("grpc.client.call.retry_delay")).toEqual({
      "": expect.closeTo(0.2, 2),
    });
    expect(await meters.points("grpc.client.call.hedges")).toEqual([]);
    expect(await meters.values("grpc.client.attempt.started")).toEqual({ "": 3 });
    expect(await meters.values("grpc.client.attempt.duration", "grpc.status")).toHaveProperty(
      "UNAVAILABLE",
    );
  });

  it("has its hedges in its number of hedges, and no delay while an attempt is active", async () => {
    let calls = 0;
    const world = await scene({
      telemetry: telemetry(),
      client: { retry: { idempotent: true }, hedge: { delayMs: 50 } },
      network: { latencyMs: 1 },
      handlers: handlers((_call, answer) => {
        calls += 1;
        if (calls > 1) answer();
      }),
    });
    await world.call(method);
    await world.link.pass(10);
    expect(await meters.values("grpc.client.call.hedges")).toEqual({ "": 1 });
    expect(await meters.values("grpc.client.call.retry_delay")).toEqual({ "": 0 });
    expect(await meters.points("grpc.client.call.retries")).toEqual([]);
  });
});
