import { readFileSync } from "node:fs";
import { DataPointType } from "@opentelemetry/sdk-metrics";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { currentCall } from "../../src/grpc/context/inbound-call.js";
import { staticValue } from "../../src/policies/fallback/client-providers.js";
import { staticFlags } from "../../src/policies/flags/source.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../src/weir.js";
import { failing, handlers, type SceneOptions, scene } from "../scene.js";
import { type MeteringUnderTest, metering, pointsOf } from "../telemetry/metering.js";

const page = readFileSync(new URL("../../docs/metrics.md", import.meta.url), "utf8");

/** The cells of the rows of the table below a heading, without the marks of code. */
function rowsBelow(heading: string): string[][] {
  const text = (page.split(`\n## ${heading}\n`)[1] ?? "").replace(/\n## .*/s, "");
  return text
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").map((cell) => cell.trim().replaceAll("`", "")))
    .map(([, ...cells]) => cells);
}

const documented = rowsBelow("Instruments").map(([name = "", type, unit, attributes = ""]) => ({
  name,
  type,
  unit,
  attributes: attributes.split(", ").filter((attribute) => attribute !== ""),
}));
const explained = rowsBelow("Attributes, and how many values they have").flatMap(([names = ""]) =>
  names.split(", "),
);

let meters: MeteringUnderTest;

/** Scenes in which everything happens that is measured. They are alive when the numbers are collected. */
const alive: unknown[] = [];

async function open(options: SceneOptions) {
  const world = await scene({
    ...options,
    telemetry: { tracing: false, metricNames: "both", meterProvider: meters.provider },
    onError: () => {},
  });
  alive.push(world);
  return world;
}

async function retriesAndHedges() {
  const { handlers: twiceDown } = failing(2);
  const retried = await open({
    client: { retry: { idempotent: true }, bulkhead: { maxConcurrent: 2 }, throttle: {} },
    server: {},
    handlers: twiceDown,
  });
  await retried.call("unary");
  let calls = 0;
  const hedged = await open({
    client: { retry: { idempotent: true }, hedge: { delayMs: 10 } },
    server: {},
    network: { latencyMs: 1 },
    handlers: handlers((_call, answer) => {
      calls += 1;
      if (calls > 1) answer();
    }),
  });
  await hedged.call("unary");
  await hedged.link.pass(10);
  const given = await open({
    client: { retry: { idempotent: true, maxAttempts: 2 } },
    server: {},
    handlers: failing(99).handlers,
  });
  for (let n = 0; n < 9; n += 1) await given.call("unary");
}

async function overload() {
  const world: Awaited<ReturnType<typeof open>> = await open({
    client: { retry: false, breaker: false },
    server: {
      admission: { limit: 1, maxQueued: 1, thresholds: false },
      brownout: { optional: { extras: {} } },
      bulkhead: { maxConcurrent: 9 },
      quota: { ratePerSecond: 1_000, store: { take: () => ({ granted: true, alone: true }) } },
    },
    handlers: handlers((_call, answer) => {
      currentCall()?.degrade("extras");
      world.clock.schedule(20, answer);
    }),
  });
  const options = world.weir.with({}, { priority: "high" });
  const running = [1, 2, 3].map(() => world.start("unary", options));
  await world.link.until(Promise.all(running.map(({ ended }) => ended)));
}

async function fallenBack() {
  const world = await open({
    client: { retry: false, fallback: { providers: [staticValue({ sequence: 0 })] } },
    server: {},
    handlers: failing(1).handlers,
  });
  await world.call("unary");
}

async function guarded() {
  const { clock } = inMemoryTransport();
  const telemetry = { tracing: false, meterProvider: meters.provider };
  const weir = createWeir({ clock, telemetry });
  alive.push(weir);
  const guard = weir.guard("db", { retry: {}, breaker: {}, bulkhead: { maxConcurrent: 1 } });
  await guard.run(() => 1);
}

function flagged() {
  const telemetry = { tracing: false, meterProvider: meters.provider };
  const weir = createWeir({ telemetry, flags: staticFlags({ "kill.shop.v1.Orders": true }) });
  alive.push(weir);
  weir.client();
}

beforeAll(() => {
  meters = metering();
});

afterAll(() => meters.provider.shutdown());

const types = {
  [DataPointType.HISTOGRAM]: "histogram",
  [DataPointType.EXPONENTIAL_HISTOGRAM]: "exponential histogram",
  [DataPointType.SUM]: "counter",
  [DataPointType.GAUGE]: "gauge",
};

/** An address without a port has none. */
const maybe = "server.port";

describe("docs/metrics.md", () => {
  it("has every instrument that is exported when everything happens, with its type, unit and attributes", async () => {
    await retriesAndHedges();
    await overload();
    await fallenBack();
    await guarded();
    flagged();
    const found = [...(await meters.collect()).values()].map((data) => ({
      name: data.descriptor.name,
      type: types[data.dataPointType],
      unit: data.descriptor.unit,
      attributes: [...new Set(pointsOf(data).flatMap(({ attributes }) => Object.keys(attributes)))]
        .filter((attribute) => attribute !== maybe)
        .sort(),
    }));
    const byName = (one: { name: string }, other: { name: string }) =>
      one.name < other.name ? -1 : 1;
    const expected = documented.map((row) => ({
      ...row,
      attributes: row.attributes.filter((attribute) => attribute !== maybe).sort(),
    }));
    expect(found.sort(byName)).toEqual(expected.sort(byName));
  });

  it("says of every attribute which values it has, and how many", () => {
    const used = new Set(documented.flatMap(({ attributes }) => attributes));
    expect([...used].filter((attribute) => !explained.includes(attribute))).toEqual([]);
    expect(explained.filter((attribute) => !used.has(attribute))).toEqual([]);
  });

  it("says what each instrument means, in the words of a person", () => {
    for (const [, , , , meaning] of rowsBelow("Instruments")) expect(meaning).toMatch(/\w+ \w+/);
  });
});
