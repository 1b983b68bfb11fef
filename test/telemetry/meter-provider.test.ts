import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Metadata, status as Status } from "@grpc/grpc-js";
import { createNoopMeter, type MeterProvider } from "@opentelemetry/api";
import { AggregationTemporality } from "@opentelemetry/sdk-metrics";
import { afterEach, describe, expect, it } from "vitest";
import { systemClock } from "../../src/core/clock.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { clientMeters, Metrics, serverMeter } from "../../src/telemetry/metrics.js";
import { resolveTelemetryOptions } from "../../src/telemetry/options.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../src/weir.js";
import { failing, scene, startCall } from "../scene.js";
import { metering } from "./metering.js";

const open: { stop(): Promise<void> }[] = [];

function meters(temporality?: AggregationTemporality) {
  const made = metering(temporality);
  open.push(made);
  return made;
}

afterEach(async () => {
  for (const one of open.splice(0)) await one.stop();
});

describe("a meter provider", () => {
  it("that is registered after clients, servers and guards were built is used from the next call on", async () => {
    const late = meters();
    const world = await scene({ client: { retry: false }, server: { admission: { limit: 5 } } });
    const guard = world.weir.guard("db", { bulkhead: { maxConcurrent: 1 } });
    await world.call("unary");
    late.register();
    expect(await late.points("rpc.client.call.duration")).toEqual([]);
    await world.call("unary");
    await guard.run(() => 1);
    expect(await late.values("rpc.client.call.duration", "rpc.status_code")).toHaveProperty("OK");
    expect(await late.values("weir.calls", "weir.side")).toEqual({ client: 1, server: 1 });
    expect(await late.values("weir.admission.limit", "weir.pool")).toMatchObject({ calls: 5 });
    // The policies have counted all the time.
    expect(
      await late.values("weir.admission.admitted", "weir.pool", "weir.priority"),
    ).toMatchObject({ "calls normal": 2 });
  });

  it("that is given is used instead of the global one", async () => {
    const global = meters();
    global.register();
    const own = meters();
    const world = await scene({ telemetry: { meterProvider: own.provider }, server: {} });
    await world.call("unary");
    expect(await global.points("weir.calls")).toEqual([]);
    expect(await own.values("weir.calls", "weir.side")).toEqual({ client: 1, server: 1 });
  });

  it("is not used where metrics are off", async () => {
    const global = meters();
    global.register();
    const world = await scene({ telemetry: { metrics: false }, server: {} });
    await world.call("unary");
    expect([...(await global.collect()).keys()]).toEqual([]);
  });

  it("that measures nothing is asked once, and not for each call", async () => {
    let asked = 0;
    const nothing: MeterProvider = {
      getMeter() {
        asked += 1;
        return createNoopMeter();
      },
    };
    const world = await scene({ telemetry: { meterProvider: nothing }, server: {} });
    for (let n = 0; n < 5; n += 1) await world.call("unary");
    expect(asked).toBe(1);
  });

  it.each([
    [
      "throws when it is asked",
      {
        getMeter(): never {
          throw new Error("no meter");
        },
      },
    ],
    ["gives no meter", { getMeter: () => ({}) as never }],
  ])("that %s is reported once, and harms no call", async (_how, provider) => {
    const errors: unknown[] = [];
    const world = await scene({
      telemetry: { meterProvider: provider },
      server: {},
      onError: (error) => errors.push(error),
    });
    for (let n = 0; n < 3; n += 1) expect((await world.call("unary")).code).toBe(Status.OK);
    expect(errors).toHaveLength(1);
  });

  it("whose instruments throw is reported, and harms no call", async () => {
    const real = meters();
    const meter = real.provider.getMeter("grpc-weir");
    const broken: MeterProvider = {
      getMeter: () =>
        Object.assign(Object.create(meter), {
          createHistogram: () => ({
            record() {
              throw new Error("the exporter is closed");
            },
          }),
        }),
    };
    const errors: unknown[] = [];
    const world = await scene({
      telemetry: { meterProvider: broken },
      server: {},
      onError: (error) => errors.push(error),
    });
    expect((await world.call("unary")).code).toBe(Status.OK);
    expect(errors).toEqual([
      new Error("the exporter is closed"),
      new Error("the exporter is closed"),
    ]);
  });
});

describe("two weirs with one provider", () => {
  it("are counted together, and their gauges are added up or joined", async () => {
    const shared = meters();
    shared.register();
    const options = { server: { admission: { limit: 5, pressure: false } } } as const;
    const one = await scene(options);
    const other = await scene(options);
    await one.call("unary");
    await other.call("unary");
    await other.call("unary");
    expect(await shared.values("weir.calls", "weir.side")).toEqual({ client: 3, server: 3 });
    expect(await shared.values("weir.admission.limit", "weir.pool")).toMatchObject({ calls: 10 });
    expect(
      await shared.values("weir.admission.admitted", "weir.pool", "weir.priority"),
    ).toMatchObject({ "calls normal": 3 });
    expect(await shared.values("weir.draining")).toEqual({ "": 0 });
    one.weir.close();
    expect(await shared.values("weir.draining")).toEqual({ "": 1 });
  });
});

describe("what collects", () => {
  it("keeps no weir and no policy alive, and reports what it has lost as 0", async () => {
    setFlagsFromString("--expose-gc");
    const collect: unknown = runInNewContext("gc");
    if (typeof collect !== "function") throw new Error("no gc");
    const all = meters();
    all.register();
    const gone = await (async () => {
      const transport = inMemoryTransport();
      const weir = createWeir({ clock: transport.clock });
      const link = await transport.open({
        service: ConformanceServiceService,
        implementation: failing(99).handlers,
        clientOptions: weir.client({ retry: false }),
      });
      const client = link.client(ConformanceServiceClient);
      for (let n = 0; n < 9; n += 1) {
        await link.until(startCall(client, "unary", {}, new Metadata()).ended);
      }
      expect(await all.values("weir.breaker.state")).toEqual({ "": 2 });
      await link.close();
      return new WeakRef(weir);
    })();
    for (let n = 0; n < 10 && gone.deref() !== undefined; n += 1) {
      await new Promise((resolve) => systemClock.schedule(1, () => resolve(undefined)));
      collect();
    }
    expect(gone.deref()).toBeUndefined();
    expect(await all.values("weir.breaker.state")).toEqual({ "": 0 });
    expect(await all.values("weir.calls", "rpc.status_code")).toHaveProperty("UNAVAILABLE");
  });

  it("gives deltas to a reader that wants them", async () => {
    const deltas = meters(AggregationTemporality.DELTA);
    deltas.register();
    const world = await scene({ server: {} });
    await world.call("unary");
    await world.call("unary");
    expect(await deltas.values("weir.calls", "weir.side")).toEqual({ client: 2, server: 2 });
    await world.call("unary");
    expect(await deltas.values("weir.calls", "weir.side")).toEqual({ client: 1, server: 1 });
  });
});

describe("without a provider", () => {
  it("calls and attempts have no part that watches them", () => {
    const measure = () => expect.unreachable("nobody collects");
    const idle = new Metrics(resolveTelemetryOptions(), () => {}, measure);
    const { call, attempt } = clientMeters(idle);
    expect(idle.idle).toBe(true);
    expect(serverMeter(idle).idle).toBe(true);
    expect(call?.begin({} as never)).toBeUndefined();
    expect(attempt?.begin({} as never)).toBeUndefined();
  });
});
