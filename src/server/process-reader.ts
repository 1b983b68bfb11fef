import { availableParallelism, totalmem } from "node:os";
import { type IntervalHistogram, monitorEventLoopDelay, performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import type { ProcessReader, Readings } from "../core/process-readings.js";
import { cpuQuota } from "./cpu-quota.js";

/** Resolution of the delay histogram. It costs 0.3 % of a core at 20 ms, and 2 % at 1 ms. */
const resolutionMs = 20;

/**
 * What Node and its control group tell of this process. The costly parts are read once: the quota of the CPU and the
 * limit of the memory do not change under a process as a rule.
 */
export class NodeProcessReader implements ProcessReader {
  readonly #cores = cpuQuota() ?? availableParallelism();
  readonly #memoryLimit = memoryLimit();
  #delays: IntervalHistogram | undefined;
  #loop = performance.eventLoopUtilization();
  #cpu = process.cpuUsage();

  read(): Readings {
    const loop = performance.eventLoopUtilization();
    const { utilization, active, idle } = performance.eventLoopUtilization(loop, this.#loop);
    const spanMs = Math.max(1, active + idle);
    this.#loop = loop;
    const cpu = process.cpuUsage();
    const cpuMs = (cpu.user + cpu.system - this.#cpu.user - this.#cpu.system) / 1000;
    this.#cpu = cpu;
    return {
      eventLoop: utilization,
      loopDelayMs: this.#longestDelay(),
      cpu: cpuMs / spanMs / this.#cores,
      memory: this.#memory(),
    };
  }

  close(): void {
    this.#delays?.disable();
  }

  #longestDelay(): number {
    if (this.#delays === undefined) {
      this.#delays = monitorEventLoopDelay({ resolution: resolutionMs });
      this.#delays.enable();
      return 0;
    }
    const { max } = this.#delays;
    this.#delays.reset();
    // The histogram measures from one tick of its timer to the next, so its own period is in each value.
    return Math.max(0, max / 1e6 - resolutionMs);
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
