import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  type AdmissionOptions,
  resolveAdmissionOptions,
} from "../../../src/policies/admission/options.js";

const calm = { ceilingMs: () => undefined, demand: () => 0 };

describe("admission options", () => {
  it("have defaults, and a queue as long as the limit", () => {
    const { makeLimit, streams, pressure, ...rest } = resolveAdmissionOptions({});
    expect(rest).toEqual({
      byTurns: true,
      maxConcurrent: Infinity,
      maxQueued: undefined,
      minQueued: 16,
      maxWaitMs: 100,
      burstWaitMs: 1_000,
      maxWaitShare: 1 / 3,
      criticalMaxWaitMs: 1_000,
      criticalWaitShare: 2 / 3,
      thresholds: { low: 0.7, normal: 0.85, high: 0.95 },
      criticalHeadroom: 0.1,
      thresholdsWithQueue: false,
      publish: false,
      queue: {
        order: "priority",
        overflow: "evict-lowest",
        minShare: 0.02,
        maxAgeMs: 50,
        intervalMs: undefined,
        targetMs: 5,
      },
    });
    expect(makeLimit(calm, () => {}).current).toBe(1_000);
    expect(pressure).toBeUndefined();
    expect(resolveAdmissionOptions({ pressure: {} }).pressure).toMatchObject({
      target: 0.5,
      maxRefusedShare: 0.95,
    });
    expect(streams).toMatchObject({ maxQueued: 0, maxAgeMs: Infinity });
    expect(streams === "together" ? 0 : streams.makeLimit(calm, () => {}).current).toBe(1_000);
  });

  it("have a queue as long as a limit that is a number, and at least 16 of one that is learnt", () => {
    expect(resolveAdmissionOptions({ limit: 5 }).minQueued).toBe(0);
    expect(resolveAdmissionOptions({ limit: { algorithm: "elastic" } }).minQueued).toBe(16);
  });

  it("name the signals that shed, which are memory, the delay of the event loop and those of the user's own", () => {
    const shedOn = (pressure: AdmissionOptions["pressure"]) => {
      const resolved = resolveAdmissionOptions(pressure === undefined ? {} : { pressure }).pressure;
      return resolved === false ? false : resolved?.shedOn;
    };
    const signals = { pool: () => 0 };
    expect(shedOn(undefined)).toBeUndefined();
    expect(shedOn({})).toEqual(["memory", "loopDelayMs"]);
    expect(shedOn({ signals })).toEqual(["memory", "loopDelayMs", "pool"]);
    expect(shedOn({ signals, shedOn: ["cpu", "pool"] })).toEqual(["cpu", "pool"]);
    expect(shedOn({ shedOn: [] })).toEqual([]);
    expect(shedOn(false)).toBe(false);
  });

  it.each<AdmissionOptions>([
    { criticalHeadroom: 0, maxConcurrent: 1, maxQueued: 0, maxWaitMs: 0 },
    { criticalHeadroom: 1, thresholds: { low: 1, normal: 1, high: 1 } },
    { thresholds: { low: 0.001, normal: 0.001, high: 0.001 } },
    { queue: { minShare: 0.25, maxAgeMs: 0, intervalMs: 1, targetMs: 0 } },
    { queue: { minShare: 0 } },
    { pressure: { target: 0.999, maxRefusedShare: 1 } },
    { streams: { maxAgeMs: 1 } },
  ])("go as far as %j", (options) => {
    expect(resolveAdmissionOptions(options)).toMatchObject(options);
  });

  it("take a wait of the user's for what it is", () => {
    expect(resolveAdmissionOptions({ maxWaitMs: 70 })).toMatchObject({
      maxWaitMs: 70,
      maxWaitShare: 1,
      criticalMaxWaitMs: 70,
      criticalWaitShare: 1,
    });
  });

  it.each([
    [{}, true],
    [{ limit: 5 }, false],
    [{ maxQueued: 0 }, false],
    [{ maxQueued: 1 }, true],
    [{ maxWaitMs: 0 }, false],
    [{ maxWaitMs: 1 }, true],
  ])(
    "%j: calls wait for their turn of the event loop where there is a queue, unless told a number: %j",
    (options, byTurns) => {
      expect(resolveAdmissionOptions(options).byTurns).toBe(byTurns);
    },
  );

  it.each([
    [{ limit: 0 }, "admission.limit must be a whole number of at least 1, got 0"],
    [{ maxQueued: -1 }, "admission.maxQueued must be a whole number of at least 0, got -1"],
    [{ maxWaitMs: -1 }, "admission.maxWaitMs must be milliseconds from 0"],
    [{ criticalHeadroom: 1.1 }, "admission.criticalHeadroom must be a number from 0 to 1, got 1.1"],
    [{ thresholds: { low: 0 } }, "admission.thresholds.low must be a number above 0 and up to 1"],
    [
      { thresholds: { high: 1.01 } },
      "admission.thresholds.high must be a number above 0 and up to 1",
    ],
    [
      { thresholds: { low: 0.9 } },
      "admission.thresholds.low must be at most admission.thresholds.normal, 0.85, got 0.9",
    ],
    [
      { thresholds: { high: 0.8 } },
      "admission.thresholds.normal must be at most admission.thresholds.high, 0.8, got 0.85",
    ],
    [{ thresholds: { critical: 1 } }, "admission.thresholds.critical is not an option"],
    [{ thresholds: 0.5 }, "admission.thresholds must be an object of options, or false, got 0.5"],
    [{ queue: { order: "lifo" } }, "admission.queue.order must be one of priority, fifo"],
    [{ queue: { overflow: "drop" } }, "admission.queue.overflow must be one of evict-lowest"],
    [{ criticalHeadroom: -0.1 }, "admission.criticalHeadroom must be a number from 0 to 1"],
    [{ queue: { minShare: -0.1 } }, "admission.queue.minShare must be a number from 0 to 0.25"],
    [{ queue: { minShare: 0.251 } }, "admission.queue.minShare must be a number from 0 to 0.25"],
    [{ queue: { maxAgeMs: -1 } }, "admission.queue.maxAgeMs must be"],
    [{ queue: { intervalMs: 0.9 } }, "admission.queue.intervalMs must be"],
    [{ queue: { targetMs: -1 } }, "admission.queue.targetMs must be"],
    [{ pressure: { shedOn: ["memory", "pool"] } }, "admission.pressure.shedOn must be a list of"],
    [{ pressure: { shedOn: "memory" } }, "admission.pressure.shedOn must be a list of"],
    [{ pressure: { maxRefusedShare: 1.1 } }, "admission.pressure.maxRefusedShare must be"],
    [{ streams: { maxAgeMs: 0.9 } }, "admission.streams.maxAgeMs must be"],
    [{ queue: { minShare: 0.3 } }, "admission.queue.minShare must be a number from 0 to 0.25"],
    [{ queue: { maxAge: 1 } }, "admission.queue.maxAge is not an option"],
    [{ pressure: { target: 1 } }, "admission.pressure.target must be below 1"],
    [{ pressure: { cpus: false } }, "admission.pressure.cpus is not an option"],
    [{ streams: { limit: 0 } }, "admission.streams.limit must be a whole number"],
    [{ streams: "apart" }, 'admission.streams must be "together" or an object of options'],
    [{ streams: { thresholds: {} } }, "admission.streams.thresholds is not an option"],
    [{ maxConcurrent: 0 }, "admission.maxConcurrent must be a whole number of at least 1"],
    [{ publish: 1 }, "admission.publish must be true or false"],
    [{ treshold: 1 }, "admission.treshold is not an option"],
  ])("refuse %o", (options, message) => {
    const resolve = () => resolveAdmissionOptions(options as AdmissionOptions);
    expect(resolve).toThrow(InvalidOptionError);
    expect(resolve).toThrow(message);
  });

  it("name the place they were given in", () => {
    expect(() => resolveAdmissionOptions({ thresholds: { low: 2 } }, "server.admission")).toThrow(
      "server.admission.thresholds.low",
    );
  });
});

it("thresholds hold where calls wait only when they are given", () => {
  const withQueue = (options: AdmissionOptions) =>
    resolveAdmissionOptions(options).thresholdsWithQueue;
  expect([withQueue({}), withQueue({ thresholds: {} })]).toEqual([false, true]);
});
