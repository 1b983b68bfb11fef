import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import { type CancelTask, type Clock, systemClock } from "../../core/clock.js";
import { outside } from "../../grpc/context/async-context.js";
import type { ProcessReader, Readings } from "./options.js";

/**
 * Reads this process from Node and its cgroup. The CPU quota and the memory limit, which are expensive to read and rarely
 * change, are read once.
 */
export class NodeProcessReader implements ProcessReader {
  readonly #cores = cpuQuota() ?? availableParallelism();
  readonly #memoryLimit = memoryLimit();
  #delay: LoopDelay | undefined;
  #loop = performance.eventLoopUtilization();
  #cpu = process.cpuUsage();

  read(): Readings {
    const loop = performance.eventLoopUtilization();
    const { utilization, active, idle } = performance.eventLoopUtilization(loop, this.#loop);
    const spanMs = Math.max(1, active + idle);
    this.#loop = loop;
    const cpu = process.cpuUsage();
    // Started by the first reading: a server that was never called has no timer.
    this.#delay ??= outside(() => new LoopDelay(systemClock));
    const cpuMs = (cpu.user + cpu.system - this.#cpu.user - this.#cpu.system) / 1000;
    this.#cpu = cpu;
    return {
      eventLoop: utilization,
      loopDelayMs: this.#delay.take(),
      cpu: cpuMs / spanMs / this.#cores,
      memory: this.#memory(),
    };
  }

  close(): void {
    this.#delay?.stop();
  }

  #memory(): number {
    const heap = getHeapStatistics();
    return Math.max(
      heap.used_heap_size / heap.heap_size_limit,
      process.memoryUsage.rss() / this.#memoryLimit,
    );
  }
}

/** The memory limit of the cgroup, or the memory of the machine. Without a limit, Node reports 2^64. */
function memoryLimit(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}

/** How often the delay is measured, in milliseconds. It costs 0.7 % of a core; every millisecond would cost ten times that. */
const everyMs = 20;
/** A delay that ended longer ago, in milliseconds, says nothing about calls that come now. */
const recentMs = 1_000;

/**
 * Measures the longest wait for the event loop, by how late a timer fires.
 *
 * Node has a histogram for this, `monitorEventLoopDelay`, but it ignores the first tick after each `reset`. When one turn of
 * the event loop takes longer than the time between two readings there is no other tick, so it reads 0 exactly when nothing
 * is served any more.
 */
export class LoopDelay {
  readonly #clock: Pick<Clock, "now" | "schedule">;
  #stop: CancelTask = () => {};
  #dueMs = 0;
  #longestMs = 0;
  /** When the longest delay ended. */
  #overMs = 0;

  constructor(clock: Pick<Clock, "now" | "schedule">) {
    this.#clock = clock;
    this.#wait(clock.now());
  }

  /** The longest delay since the last `take`, within the last second, in milliseconds. One that goes on counts so far. */
  take(): number {
    const nowMs = this.#clock.now();
    const pastMs = nowMs - this.#overMs <= recentMs ? this.#longestMs : 0;
    this.#longestMs = 0;
    return Math.max(pastMs, nowMs - this.#dueMs);
  }

  stop(): void {
    this.#stop();
  }

  #wait(nowMs: number): void {
    this.#dueMs = nowMs + everyMs;
    const weakly = new WeakRef(this);
    // The timer keeps neither the process nor the reader alive: it ends when the reader is collected.
    const tick = () => {
      const delay = weakly.deref();
      if (delay !== undefined) delay.#tick();
    };
    this.#stop = this.#clock.schedule(everyMs, tick, { ref: false });
  }

  #tick(): void {
    const nowMs = this.#clock.now();
    const lateMs = nowMs - this.#dueMs;
    if (lateMs >= this.#longestMs || nowMs - this.#overMs > recentMs) {
      this.#longestMs = lateMs;
      this.#overMs = nowMs;
    }
    this.#wait(nowMs);
  }
}

/** Reads a file; `undefined` when it does not exist. */
export type ReadText = (path: string) => string | undefined;

const root = "/sys/fs/cgroup";

/**
 * How many cores the cgroups of this process allow; `undefined` when they set no limit or there are none. Groups above limit
 * it too, so the lowest limit counts. In a container, its own group is the root. Never more than the cores of the machine.
 *
 * @param machineCores The cores of the machine; 0 when unknown.
 *
 * @internal Exported for its tests.
 */
export function cpuQuota(
  read: ReadText = readSystemText,
  machineCores = cpus().length,
): number | undefined {
  let narrowest = Number.POSITIVE_INFINITY;
  for (const line of (read("/proc/self/cgroup") ?? "0::/\n1:cpu:/").split("\n")) {
    // `0::/system.slice/orders.service` in version 2, `4:cpu,cpuacct:/orders` in version 1.
    const group = /^\d+:([^:]*):(\/.*)$/.exec(line);
    if (group === null) continue;
    const [, controllers = "", path = ""] = group;
    const unified = controllers === "";
    if (!unified && !controllers.split(",").includes("cpu")) continue;
    for (const each of groupsOf(path)) {
      const cores = unified ? unifiedQuota(each, read) : legacyQuota(each, read);
      // No limit reads as `max` or -1.
      if (cores > 0) narrowest = Math.min(narrowest, cores);
    }
  }
  if (!Number.isFinite(narrowest)) return undefined;
  return Math.min(narrowest, machineCores || Infinity, allowedCores(read) || Infinity);
}

/**
 * The number of cores on which this process may run, which may include cores that the machine does not have; 0 when unknown.
 * Not `availableParallelism()`: since libuv 1.49 it includes the quota, rounded down.
 */
function allowedCores(read: ReadText): number {
  // `0-3,8`
  const [, list = ""] =
    /^Cpus_allowed_list:\s*([\d,-]+)$/m.exec(read("/proc/self/status") ?? "") ?? [];
  let cores = 0;
  for (const range of list.split(",").filter((each) => each !== "")) {
    const [first = Number.NaN, last = first] = range.split("-").map(Number);
    cores += last - first + 1;
  }
  return cores;
}

/** A cgroup and those above it: the root as an empty string, `/a`, `/a/b`. */
function groupsOf(path: string): string[] {
  const groups = [""];
  for (const name of path.split("/")) {
    if (name !== "" && name !== "..") groups.push(`${groups.at(-1)}/${name}`);
  }
  return groups;
}

function unifiedQuota(group: string, read: ReadText): number {
  const text = read(`${root}${group}/cpu.max`) ?? "";
  const [quota = Number.NaN, period = Number.NaN] = text.trim().split(" ").map(Number);
  return quota / period;
}

function legacyQuota(group: string, read: ReadText): number {
  const number = (name: string) => Number(read(`${root}/cpu${group}/${name}`));
  return number("cpu.cfs_quota_us") / number("cpu.cfs_period_us");
}

function readSystemText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
