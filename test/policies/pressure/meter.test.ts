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
  let readings: Readings = idle;
  let reads = 0;
  const reader = {
    read: () => {
      reads += 1;
      return readings;
    },
  };
  const made = new PressureMeter(resolvePressureOptions(options), reader, clock, (_error, where) =>
    errors.push(where),
  );
  return {
    meter: made,
    clock,
    errors,
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
    expect(pressure.saturated()).toBe(false);
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
    // A late event loop that is not busy has been held up, and could do more.
    expect(pressure.saturated()).toBe(signal !== "loopDelayMs");
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

  it("reads the process no more than once in sampleMs, and only when asked", () => {
    const { meter: pressure, clock, reads } = meter({ sampleMs: 100 });
    expect(reads()).toBe(0);
    for (let call = 0; call < 1_000; call += 1) {
      pressure.now();
      clock.advance(1);
    }
    expect(reads()).toBe(10);
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
    expect(pressure.now()).toBeGreaterThan(0.8);
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
  });

  it("reads nothing more when it is closed", () => {
    const { meter: pressure, clock, reads } = meter();
    pressure.now();
    pressure.close();
    clock.advance(10_000);
    pressure.now();
    expect(reads()).toBe(1);
  });
});

describe("pressure options", () => {
  it.each([
    ["pressure.cpus", { cpus: false }],
    ["pressure.cpu.to", { cpu: { from: 0.9, to: 0.9 } }],
    ["pressure.cpu.from", { cpu: { from: "0.9", to: 1 } }],
    ["pressure.cpu", { cpu: true }],
    ["pressure.signals.pool", { signals: { pool: 0.5 } }],
    ["pressure.signals", { signals: [] }],
    ["pressure.signals", { signals: new Map([["pool", () => 0.5]]) }],
    ["pressure.signals", { signals: null }],
    ["pressure.signals.eventLoop", { signals: { eventLoop: () => 0.5 } }],
    ["pressure.signals.loopDelayMs", { signals: { loopDelayMs: () => 0.5 } }],
    ["pressure.signals.cpu", { cpu: false, signals: { cpu: () => 0.5 } }],
    ["pressure.signals.memory", { signals: { memory: () => 0.5 } }],
    ["pressure.sampleMs", { sampleMs: 1 }],
    ["pressure.reader", { reader: {} }],
  ])("refuse nonsense and name %s", (option, options) => {
    const build = () => resolvePressureOptions(options as PressureOptions);
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(expect.objectContaining({ option }));
  });

  it("counts the delay of the event loop while the loop or the CPU is busy, or where neither is known", () => {
    const delay = { loopDelayMs: 250 };
    const { meter: pressure, become } = meter();
    become(delay);
    expect(pressure.of(["loopDelayMs"])).toBe(0);
    become({ ...delay, eventLoop: 0.9 });
    expect(pressure.of(["loopDelayMs"])).toBeCloseTo(1, 2);
    become({ ...delay, cpu: 0.9 });
    expect(pressure.of(["loopDelayMs"])).toBeCloseTo(1, 2);
    const other = meter({ eventLoop: false, cpu: false });
    other.become(delay);
    expect(other.meter.of(["loopDelayMs"])).toBeCloseTo(1, 2);
    expect(other.meter.saturated()).toBe(true);
  });
});
