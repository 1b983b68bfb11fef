import { availableParallelism, totalmem } from "node:os";
import { performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import { afterEach, describe, expect, it, vi } from "vitest";
import {
  cpuQuota,
  NodeProcessReader,
} from "../../../src/policies/pressure/server-process-reader.js";

const readers: NodeProcessReader[] = [];

function reader(): NodeProcessReader {
  const made = new NodeProcessReader();
  readers.push(made);
  return made;
}

afterEach(() => {
  for (const made of readers.splice(0)) made.close();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe("the reader of a Node process", () => {
  it("tells memory as a share of what there may be", () => {
    const { memory } = reader().read();
    expect(memory).toBeGreaterThan(0);
    expect(memory).toBeLessThan(1);
  });

  it.each([
    ["its limit", 4e9, 4e9],
    ["the machine, where Node tells no limit", 0, totalmem()],
    ["the machine, where the limit is that of nobody", 2 ** 64, totalmem()],
  ])("measures resident memory by %s", (_what, constrained, limit) => {
    vi.spyOn(process, "constrainedMemory").mockReturnValue(constrained);
    vi.spyOn(process.memoryUsage, "rss").mockReturnValue(0.99 * Math.min(limit, totalmem()));
    expect(reader().read().memory).toBeCloseTo(0.99, 6);
  });

  it("measures the heap by its own limit where that is nearer", () => {
    vi.spyOn(process.memoryUsage, "rss").mockReturnValue(0);
    const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics();
    expect(reader().read().memory).toBeGreaterThan(0);
    expect(reader().read().memory).toBeCloseTo(used / limit, 1);
  });

  /** What it reads after so much work, in milliseconds of CPU and of the event loop. */
  function afterWork(
    works: readonly { userMs: number; systemMs: number; active: number; idle: number }[],
  ) {
    const cpu = { user: 5_000_000, system: 3_000_000 };
    const loop = { active: 7_000, idle: 9_000, utilization: 0 };
    vi.spyOn(process, "cpuUsage").mockImplementation(() => ({ ...cpu }));
    vi.spyOn(performance, "eventLoopUtilization").mockImplementation((now = loop, before) => {
      const active = now.active - (before?.active ?? 0);
      const idle = now.idle - (before?.idle ?? 0);
      return { active, idle, utilization: active / Math.max(1, active + idle) };
    });
    const made = reader();
    return works.map(({ userMs, systemMs, active, idle }) => {
      cpu.user += 1_000 * userMs;
      cpu.system += 1_000 * systemMs;
      loop.active += active;
      loop.idle += idle;
      return made.read();
    });
  }
  const cores = cpuQuota() ?? availableParallelism();

  it("tells what CPU and event loop did since the reading before", () => {
    const first = { userMs: 60, systemMs: 20, active: 75, idle: 25 };
    const second = { userMs: 10, systemMs: 30, active: 20, idle: 180 };
    const readings = afterWork([first, second]);
    expect(readings.map(({ eventLoop }) => eventLoop)).toEqual([0.75, 0.1]);
    expect(readings[0]?.cpu).toBeCloseTo(0.8 / cores);
    expect(readings[1]?.cpu).toBeCloseTo(0.2 / cores);
  });

  it("has a timer from its first reading on until it is closed", () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const made = reader();
    expect(vi.getTimerCount()).toBe(0);
    made.read();
    made.read();
    expect(vi.getTimerCount()).toBe(1);
    made.close();
    expect(vi.getTimerCount()).toBe(0);
  });

  it("takes less than a millisecond for a whole one, so that a glance is no pressure", () => {
    const [glance] = afterWork([{ userMs: 0.1, systemMs: 0, active: 0.1, idle: 0 }]);
    expect(glance?.cpu).toBeCloseTo(0.1 / cores);
  });
});
