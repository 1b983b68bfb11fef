import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { PressureMeter } from "../../../src/policies/pressure/meter.js";
import {
  idleReader,
  type PressureOptions,
  type Readings,
  resolvePressureOptions,
} from "../../../src/policies/pressure/options.js";
import { fakeClock } from "../../core/fake-clock.js";

const idle = idleReader.read();

function meter(options: PressureOptions = {}) {
  const clock = fakeClock();
  const errors: string[] = [];
  const thrown: unknown[] = [];
  let readings: Readings = idle;
  let reads = 0;
  const reader = {
    read: () => {
      reads += 1;
      return readings;
    },
  };
  const made = new PressureMeter(resolvePressureOptions(options), reader, clock, (error, where) => {
    thrown.push(error);
    errors.push(where);
  });
  return {
    meter: made,
    clock,
    errors,
    thrown,
    reads: () => reads,
    /** The process looks like this from now on, for as long as it takes to believe it. */
    become: (next: Partial<Readings>): void => {
      readings = { ...idle, ...next };
      for (let step = 0; step < 20; step += 1) {
        clock.advance(250);
        made.now();
      }
    },
    set: (next: Partial<Readings>): void => {
      readings = { ...idle, ...next };
    },
  };
}

describe("pressure", () => {
  it("is none in a process that has room", () => {
    const { meter: pressure, become } = meter();
    become({ eventLoop: 0.8, loopDelayMs: 40, cpu: 0.8, memory: 0.8 });
    expect(pressure.now()).toBe(0);
  });

  it.each([
    ["eventLoop", 0.915, 0.5],
    ["loopDelayMs", 150, 0.5],
    ["cpu", 0.98, 1],
    ["memory", 0.9, 0.5],
    ["memory", 2, 1],
  ] as const)("rises with %s at %d to %d", (signal, reading, expected) => {
    const { meter: pressure, become } = meter();
    become({ [signal]: reading });
    expect(pressure.now()).toBeCloseTo(expected, 3);
  });

  it("is the greatest of its signals, and tells them all", () => {
    const { meter: pressure, become } = meter({ signals: { pool: () => 0.25 } });
    become({ eventLoop: 0.915, memory: 0.91 });
    expect(pressure.now()).toBeCloseTo(0.6, 3);
    expect(pressure.snapshot().signals).toEqual({
      eventLoop: expect.closeTo(0.5, 3) as number,
      loopDelayMs: 0,
      cpu: 0,
      memory: expect.closeTo(0.6, 3) as number,
      pool: 0.25,
    });
  });

  it.each<[string, (pressure: PressureMeter) => unknown]>([
    ["the pressure", (pressure) => pressure.now()],
    ["some signals", (pressure) => pressure.of(["memory"])],
    ["the delay of the event loop", (pressure) => pressure.loopDelayMs],
    ["a snapshot", (pressure) => pressure.snapshot()],
  ])("reads the process once in sampleMs, and only when it is asked for %s", (_what, ask) => {
    const { meter: pressure, clock, reads } = meter({ sampleMs: 100 });
    expect(reads()).toBe(0);
    const readAtMs: number[] = [];
    for (let ms = 0; ms <= 300; ms += 1) {
      const before = reads();
      ask(pressure);
      if (reads() > before) readAtMs.push(ms);
      clock.advance(1);
    }
    expect(readAtMs).toEqual([0, 100, 200, 300]);
  });

  it("ignores how busy the process is while it starts, and then follows it by half in 250 ms", () => {
    const { meter: pressure, clock, set } = meter();
    set({ eventLoop: 1, cpu: 1 });
    const told: number[] = [];
    for (let step = 0; step < 4; step += 1) {
      told.push(pressure.now());
      clock.advance(250);
    }
    // From -1, where there is all the room that counts, up to 1.
    expect(told).toEqual([0, 0, 0.5, 0.75]);
  });

  it("does not believe one bad reading of the event loop, and believes one of memory", () => {
    const { meter: pressure, clock, set } = meter();
    pressure.now();
    set({ eventLoop: 1 });
    clock.advance(250);
    expect(pressure.now()).toBe(0);
    set({ memory: 0.95 });
    clock.advance(250);
    expect(pressure.now()).toBe(1);
  });

  it("forgets a day of idleness in a second", () => {
    const { meter: pressure, clock, set, become } = meter();
    become({});
    clock.advance(86_400_000);
    pressure.now();
    set({ eventLoop: 1 });
    for (let step = 0; step < 4; step += 1) {
      clock.advance(250);
      pressure.now();
    }
    // As after a second of idleness: the pressure is never further below its range than the range is long.
    expect(pressure.now()).toBe(0.875);
  });

  it.each([
    [
      "throws",
      () => {
        throw new Error("broken");
      },
    ],
    ["returns no number", () => Number.NaN],
  ])("has no part of a signal that %s", (_what, signal) => {
    const { meter: pressure, errors } = meter({ signals: { pool: signal } });
    expect(pressure.now()).toBe(0);
    expect(errors).toEqual(["pressure.signals.pool"]);
  });

  it("has no part of a signal that fails from now on, whatever it said before", () => {
    let said = 0.5;
    const { meter: pressure, clock } = meter({ signals: { pool: () => said } });
    expect([pressure.now(), pressure.of(["pool"])]).toEqual([0.5, 0.5]);
    said = Number.NaN;
    clock.advance(250);
    expect([pressure.now(), pressure.of(["pool"])]).toEqual([0, 0]);
    expect(pressure.snapshot().signals).not.toHaveProperty("pool");
  });

  it.each([undefined, null, 5, {}])("reports a reader that answers %j", (answer) => {
    const { meter: pressure, thrown } = meter({ reader: { read: () => answer as never } });
    expect(pressure.now()).toBe(0);
    expect(thrown).toEqual([new TypeError("the reader gave no readings")]);
  });

  it("reports a reader that reads nothing, and goes by the last reading", () => {
    const { meter: pressure, clock, errors, set } = meter();
    set({ memory: 0.9 });
    const before = pressure.now();
    const nothing = undefined as never;
    set({ eventLoop: nothing, loopDelayMs: nothing, cpu: nothing, memory: nothing });
    clock.advance(1_000);
    expect([pressure.now(), errors]).toEqual([before, ["pressure.reader"]]);
    set({ eventLoop: nothing, loopDelayMs: nothing, cpu: nothing, memory: 0 });
    clock.advance(1_000);
    expect([pressure.now(), errors]).toEqual([0, ["pressure.reader"]]);
  });

  it("tells the delay of the event loop, the last one that was measured", () => {
    const { meter: pressure, clock, set } = meter();
    expect(pressure.loopDelayMs).toBe(idle.loopDelayMs);
    for (const [loopDelayMs, expected] of [
      [70, 70],
      [Number.NaN, 70],
      [-1, 70],
      ["90" as never, 70],
      [0, 0],
    ] as const) {
      set({ loopDelayMs });
      clock.advance(1_000);
      expect(pressure.loopDelayMs).toBe(expected);
    }
  });

  it("leaves out what is switched off", () => {
    const { meter: pressure, become } = meter({ memory: false });
    become({ memory: 1 });
    expect(pressure.now()).toBe(0);
    const none = meter({ eventLoop: false, loopDelayMs: false, cpu: false, memory: false });
    expect(none.meter.snapshot()).toEqual({ pressure: 0, signals: {} });
  });

  it("reads what the user reads the process with", () => {
    const reader = { read: () => ({ ...idle, memory: 0.9 }) };
    expect(meter({ reader }).meter.now()).toBeCloseTo(0.5);
  });

  it.each<[string, PressureOptions, Partial<Readings>, number]>([
    ["neither is busy", {}, {}, 0],
    ["the loop is busy", {}, { eventLoop: 0.9 }, 1],
    ["the CPU is busy", {}, { cpu: 0.9 }, 1],
    ["both are just at the start of their ranges", {}, { eventLoop: 0.85, cpu: 0.85 }, 0],
    ["the loop is idle, and the CPU is left out", { cpu: false }, {}, 0],
    ["the loop is busy, and the CPU is left out", { cpu: false }, { eventLoop: 0.9 }, 1],
    ["the CPU is idle, and the loop is left out", { eventLoop: false }, {}, 0],
    ["the CPU is busy, and the loop is left out", { eventLoop: false }, { cpu: 0.9 }, 1],
    ["both are left out", { eventLoop: false, cpu: false }, {}, 1],
  ])("where %s, a late event loop counts so much", (_where, options, readings, expected) => {
    const { meter: pressure, clock, set } = meter(options);
    pressure.now();
    set({ loopDelayMs: 250, ...readings });
    // So long that nothing is left of what was read before.
    clock.advance(1_000_000);
    expect(pressure.of(["loopDelayMs"])).toBe(expected);
  });

  it("reads nothing more when it is closed", () => {
    const { meter: pressure, clock, reads } = meter();
    pressure.now();
    pressure.close();
    clock.advance(10_000);
    pressure.now();
    expect(reads()).toBe(1);
  });

  it("closes its reader with it, and reports what that throws", () => {
    let closed = 0;
    const close = () => {
      closed += 1;
      throw new Error("broken");
    };
    const { meter: pressure, errors } = meter({ reader: { read: () => idle, close } });
    pressure.close();
    expect([closed, errors]).toEqual([1, ["pressure.reader"]]);
    // Nothing was read before, and nothing is now.
    expect([pressure.now(), pressure.loopDelayMs]).toEqual([0, 0]);
  });
});

describe("pressure options", () => {
  it("have defaults", () => {
    expect(resolvePressureOptions()).toEqual({
      eventLoop: { from: 0.85, to: 0.98 },
      loopDelayMs: { from: 50, to: 250 },
      cpu: { from: 0.85, to: 0.98 },
      memory: { from: 0.85, to: 0.95 },
      signals: {},
      sampleMs: 250,
    });
  });

  it("take an idle process for one that uses nothing", () => {
    expect(idleReader.read()).toEqual({ eventLoop: 0, loopDelayMs: 0, cpu: 0, memory: 0 });
  });

  it("take ranges and times up to their bounds", () => {
    const cpu = { from: 0, to: 0.5 };
    const memory = { from: 999_999_999, to: 1_000_000_000 };
    expect(resolvePressureOptions({ cpu, memory, sampleMs: 10 })).toMatchObject({
      cpu,
      memory,
      sampleMs: 10,
    });
  });

  it.each([
    ["pressure.cpus", { cpus: false }],
    ["pressure.cpu.to", { cpu: { from: 0.9, to: 0.9 } }],
    ["pressure.cpu.from", { cpu: { from: "0.9", to: 1 } }],
    ["pressure.cpu.from", { cpu: { from: -0.1, to: 1 } }],
    ["pressure.cpu.from", { cpu: { from: 1_000_000_001, to: 1_000_000_002 } }],
    ["pressure.cpu.to", { cpu: { from: 0, to: 1_000_000_001 } }],
    ["pressure.cpu", { cpu: true }],
    ["pressure.signals.pool", { signals: { pool: 0.5 } }],
    ["pressure.signals", { signals: [] }],
    ["pressure.signals", { signals: new Map([["pool", () => 0.5]]) }],
    ["pressure.signals", { signals: null }],
    ["pressure.signals.eventLoop", { signals: { eventLoop: () => 0.5 } }],
    ["pressure.signals.loopDelayMs", { signals: { loopDelayMs: () => 0.5 } }],
    ["pressure.signals.cpu", { cpu: false, signals: { cpu: () => 0.5 } }],
    ["pressure.signals.memory", { signals: { memory: () => 0.5 } }],
    ["pressure.sampleMs", { sampleMs: 9.9 }],
    ["pressure.reader", { reader: {} }],
  ])("refuse nonsense and name %s", (option, options) => {
    const build = () => resolvePressureOptions(options as PressureOptions);
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(expect.objectContaining({ option }));
  });
});
