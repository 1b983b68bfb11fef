import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import { type CancelTask, type Clock, systemClock } from "../../core/clock.js";
import { outside } from "../../grpc/context/async-context.js";
import type { ProcessReader, Readings } from "./options.js";

/**
 * What Node and its control group tell of this process. The costly parts are read once: the quota of the CPU and the
 * limit of the memory do not change under a process as a rule.
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
    // Begun by the first reading: a server that was never called has no timer.
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

/** The control group's limit where there is one: without one, Node tells 2^64, which is more than the machine has. */
function memoryLimit(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}

/** How often the loop is asked to be on time. It costs 0.7 % of a core; every millisecond would cost ten times as much. */
const everyMs = 20;
/** A delay that is over for so long says nothing of the calls that come now, however long nobody asked. */
const recentMs = 1_000;

/**
 * The longest that anything waited for the event loop, by the lateness of a timer.
 *
 * Node has a histogram for this, `monitorEventLoopDelay`. But after each `reset` it leaves the first tick out, and where a
 * turn of the loop takes longer than the time between two readings, it has no tick that counts: it reads 0 just when
 * nothing is served any more.
 */
export class LoopDelay {
  readonly #clock: Pick<Clock, "now" | "schedule">;
  #stop: CancelTask = () => {};
  #dueMs = 0;
  #longestMs = 0;
  /** When the longest was over. */
  #overMs = 0;

  constructor(clock: Pick<Clock, "now" | "schedule">) {
    this.#clock = clock;
    this.#wait(clock.now());
  }

  /**
   * In milliseconds, since the last time it was taken, but no longer ago than a second; a delay that goes on counts as far
   * as it is.
   */
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
    // Nobody's process stays alive for this, and it ends with whoever reads it: servers come and go.
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

/** Reads a file of the system; `undefined` where there is none. */
export type ReadText = (path: string) => string | undefined;

const root = "/sys/fs/cgroup";

/**
 * How many cores the control groups of this process allow, or `undefined` where they set no bound or there are none. A
 * bound of any group above counts too, so the narrowest holds. In a container its own group is the root.
 *
 * Never more than the cores there are: they are used up first, and a share of more would not tell.
 *
 * @param machineCores 0 where they cannot be told.
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
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const unified = controllers === "";
    if (!unified && !controllers.split(",").includes("cpu")) continue;
    for (const group of groupsOf(path)) {
      const cores = unified ? unifiedQuota(group, read) : legacyQuota(group, read);
      // No bound reads as `max` or -1.
      if (cores > 0) narrowest = Math.min(narrowest, cores);
    }
  }
  if (!Number.isFinite(narrowest)) return undefined;
  return Math.min(narrowest, machineCores || Infinity, allowedCores(read) || Infinity);
}

/**
 * The cores on which this process may run, among them such as the machine could have and has not; 0 where nothing
 * tells. Not `availableParallelism()`: from libuv 1.49 on it knows the quota too, rounded down.
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

/** A group and those above it, as `/a/b`, `/a` and the root, which is empty. */
function groupsOf(path: string): string[] {
  const names = path.split("/").filter((name) => name !== "" && name !== "..");
  return Array.from({ length: names.length + 1 }, (_, above) =>
    names
      .slice(0, names.length - above)
      .map((name) => `/${name}`)
      .join(""),
  );
}

function unifiedQuota(group: string, read: ReadText): number {
  const [quota, period] = (read(`${root}${group}/cpu.max`) ?? "").trim().split(" ").map(Number);
  return (quota ?? Number.NaN) / (period ?? Number.NaN);
}

function legacyQuota(group: string, read: ReadText): number {
  const number = (name: string) => Number(read(`${root}/cpu${group}/${name}`) ?? Number.NaN);
  return number("cpu.cfs_quota_us") / number("cpu.cfs_period_us");
}

function readSystemText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
