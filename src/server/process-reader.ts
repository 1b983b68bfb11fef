import { availableParallelism, totalmem } from "node:os";
import { performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import { systemClock } from "../core/clock.js";
import type { ProcessReader, Readings } from "../core/process-readings.js";
import { outside } from "../grpc/async-context.js";
import { cpuQuota } from "./cpu-quota.js";
import { LoopDelay } from "./loop-delay.js";

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
