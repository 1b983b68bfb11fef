import { AsyncResource } from "node:async_hooks";
import type { CancelTask, Clock, Random } from "../core/clock.js";
import type { ProcessReader, Readings } from "../policies/pressure/options.js";
import { LoopDelay } from "../policies/pressure/server-process-reader.js";
import { type Timed, TimeQueue } from "../testing/clock/time-queue.js";
import type { Happening, World } from "./world.js";

/** CPU that a container may use in each period, as the quota of a cgroup. When it is used up, the process stops until the next. */
export interface CpuQuota {
  readonly periodMs: number;
  readonly cpuMs: number;
}

/** Code that is compiled as it runs: the first call costs `extraMs` more CPU, and each one less, down to nothing after `calls`. */
export interface ColdCalls {
  readonly calls: number;
  readonly extraMs: number;
}

export interface ProcessOptions {
  /** What the wall clock shows when the world begins, in milliseconds since the epoch. @defaultValue 1_750_000_000_000 */
  readonly wallStartMs?: number;
  /** What the first calls of a server cost more than all others. @defaultValue nothing: its code is compiled */
  readonly coldCalls?: ColdCalls | undefined;
}

/** A timer, or input that arrives. `task` is absent once it was cancelled. */
interface Planned extends Timed {
  readonly task: () => void;
}

/** A task of the check phase. */
interface Check {
  task: (() => void) | undefined;
}

/**
 * The phases of Node's event loop. An idle process waits in `poll`.
 *
 * - `timers`: all timers that are due when the phase begins.
 * - `poll`: all input that has arrived when the phase begins.
 * - `check`: all immediates that are there when the phase begins.
 */
type Phase = "timers" | "poll" | "check";

const cancelNothing: CancelTask = () => {};
const scopeOptions = { requireManualDestroy: true } as const;

/**
 * A model of a Node process: it does one thing at a time. Each piece of work is a callback in one of the phases of the
 * event loop, and has a cost in virtual time (`spend`). While it runs, everything else waits: timers fire late, and
 * input is read late.
 *
 * It is the clock of the code in it. `now` is the process's own time: that at which the piece of work began, and what it
 * has cost so far.
 */
export class LabProcess implements Clock, Happening {
  readonly name: string;
  readonly random: Random;
  /** For the world alone. */
  at = Number.POSITIVE_INFINITY;
  readonly order: number;
  place = -1;
  readonly #world: World;
  #wallStartMs: number;
  readonly #timers = new TimeQueue<Planned>();
  readonly #inputs = new TimeQueue<Planned>();
  #checks: Check[] = [];
  /** Those of the check phase that runs. */
  #checking: Check[] = [];
  #checked = 0;
  /** What leaves in the next check phase. */
  #outgoing: (() => void)[] = [];
  #phase: Phase = "poll";
  /** What was due or had arrived at this time belongs to the phase that runs. */
  #phaseMs = Number.NEGATIVE_INFINITY;
  #nowMs: number;
  #busyMs = 0;
  #cpuMs = 0;
  #cpuShare = 1;
  #costFactor = 1;
  readonly #coldCalls: ColdCalls | undefined;
  /** Calls of `coldCalls` that have begun. */
  #begun = 0;
  #quota: CpuQuota | undefined;
  /** The period of the quota that runs, by its number, and what was used of it. */
  #period = 0;
  #periodCpuMs = 0;
  #running = false;
  #alive = true;
  /** Made when somebody first wants to be told: most processes are never killed. */
  #onKilled: Set<() => void> | undefined;

  constructor(world: World, name: string, options: ProcessOptions = {}) {
    this.#world = world;
    this.name = name;
    this.random = world.newRandom();
    this.order = world.nextOrder();
    this.#wallStartMs = options.wallStartMs ?? 1_750_000_000_000;
    this.#coldCalls = options.coldCalls;
    this.#nowMs = world.nowMs;
  }

  // ---- The clock.

  now(): number {
    return this.#nowMs;
  }

  wallNow(): number {
    return this.#wallStartMs + this.#nowMs;
  }

  /** As Node's timers, it counts in whole milliseconds, at least one. The task runs in the async context of the caller. */
  schedule(delayMs: number, task: () => void): CancelTask {
    if (!this.#alive) return cancelNothing;
    const scope = new AsyncResource("LabTimer", scopeOptions);
    const timer: Planned = {
      at: Math.floor(this.#nowMs) + Math.max(1, Math.trunc(delayMs) || 0),
      order: this.#world.nextOrder(),
      place: -1,
      task: () => scope.runInAsyncScope(task),
    };
    this.#timers.add(timer);
    this.#planned(timer.at);
    return () => this.#timers.remove(timer);
  }

  afterPoll(task: () => void): CancelTask {
    if (!this.#alive) return cancelNothing;
    const scope = new AsyncResource("LabCheck", scopeOptions);
    const check: Check = { task: () => scope.runInAsyncScope(task) };
    this.#checks.push(check);
    this.#planned(this.#nowMs);
    return () => {
      check.task = undefined;
    };
  }

  // ---- Work.

  /** The work that runs costs `cpuMs` milliseconds of CPU. */
  spend(cpuMs: number): void {
    const costMs = cpuMs * this.#costFactor;
    const startMs = this.#nowMs;
    if (this.#quota === undefined) this.#nowMs += costMs / this.#cpuShare;
    else this.#spendQuota(costMs / this.#cpuShare, this.#quota);
    this.#busyMs += this.#nowMs - startMs;
    this.#cpuMs += costMs;
  }

  #spendQuota(costMs: number, { periodMs, cpuMs }: CpuQuota): void {
    let leftMs = costMs;
    for (;;) {
      const period = Math.floor(this.#nowMs / periodMs);
      if (period > this.#period) {
        this.#period = period;
        this.#periodCpuMs = 0;
      }
      const tookMs = Math.min(leftMs, cpuMs - this.#periodCpuMs);
      this.#nowMs += tookMs;
      this.#periodCpuMs += tookMs;
      leftMs -= tookMs;
      if (this.#periodCpuMs < cpuMs) return;
      this.#nowMs = Math.max(this.#nowMs, (this.#period + 1) * periodMs);
      if (leftMs <= 0) return;
    }
  }

  /** A call begins: what `coldCalls` say of it is spent. */
  beginCall(): void {
    if (this.#coldCalls === undefined) return;
    const { calls, extraMs } = this.#coldCalls;
    if (this.#begun >= calls) return;
    this.spend(extraMs * (1 - this.#begun / calls));
    this.#begun += 1;
  }

  /** Input arrives at the process at `atMs`. It is read in the poll phase, by `task`. */
  deliver(atMs: number, task: () => void): void {
    if (!this.#alive) return;
    this.#inputs.add({ at: atMs, order: this.#world.nextOrder(), place: -1, task });
    this.#planned(atMs);
  }

  /**
   * Sends something: `leave` is called when it leaves the process, in the check phase. As with node:http2, all that is
   * written in a turn of the event loop leaves together, so that the first answer of a turn waits for the last handler.
   */
  send(leave: () => void): void {
    if (!this.#alive) return;
    this.#outgoing.push(leave);
    this.#planned(this.#nowMs);
  }

  /** Stops the process for `ms` milliseconds, as a garbage collection does, after the piece of work that runs. */
  block(ms: number): void {
    if (!this.#alive) return;
    this.#nowMs = Math.max(this.#nowMs, this.#world.nowMs);
    this.#beginPoll();
    this.spend((ms * this.#cpuShare) / this.#costFactor);
    if (!this.#running) this.settle();
  }

  /** Sets which share of the CPU the process gets, above 0, up to 1. Other programs of the machine take the rest. */
  set cpuShare(share: number) {
    this.#cpuShare = share;
  }

  /** Sets how many times as much CPU everything costs, above 0: code that is not compiled yet takes more. */
  set costFactor(factor: number) {
    this.#costFactor = factor;
  }

  /** Sets the quota of CPU of the container; `undefined` for none. */
  set quota(quota: CpuQuota | undefined) {
    this.#quota = quota;
  }

  /** The wall clock is set so many milliseconds ahead, or back where it is negative. */
  stepClock(ms: number): void {
    this.#wallStartMs += ms;
  }

  /** How long the process was busy, in milliseconds since it was started. */
  get busyMs(): number {
    return this.#busyMs;
  }

  /** How much CPU it has used, in milliseconds. */
  get cpuMs(): number {
    return this.#cpuMs;
  }

  // ---- Life and death.

  get alive(): boolean {
    return this.#alive;
  }

  /** The process dies at once: no timer fires any more, and nothing is read. The piece of work that runs is its last. */
  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#timers.clear();
    this.#inputs.clear();
    this.#checks = [];
    this.#checking = [];
    this.#outgoing = [];
    this.#world.plan(this, Number.POSITIVE_INFINITY);
    const told = [...(this.#onKilled ?? [])];
    this.#onKilled = undefined;
    for (const each of told) each();
  }

  /** Calls `told` when the process is killed, unless it is forgotten before. */
  whenKilled(told: () => void): void {
    this.#onKilled ??= new Set();
    this.#onKilled.add(told);
  }

  /** Takes back `whenKilled`. */
  forget(told: () => void): void {
    this.#onKilled?.delete(told);
  }

  // ---- For the world.

  run(): void {
    this.#running = true;
    this.#nowMs = Math.max(this.#nowMs, this.at);
    this.#nextTask()?.();
  }

  settle(): void {
    this.#running = false;
    if (!this.#alive) return;
    const nowMs = this.#nowMs;
    const hasChecks =
      this.#checks.length > 0 || this.#outgoing.length > 0 || this.#checked < this.#checking.length;
    const nextMs = Math.min(this.#timers.nextAt, this.#inputs.nextAt);
    if (!hasChecks && nextMs > nowMs) this.#waitInPoll();
    this.#world.plan(this, hasChecks ? nowMs : Math.max(nowMs, nextMs));
  }

  /** Something is planned for a time that may be earlier than the next piece of work. */
  #planned(atMs: number): void {
    if (this.#running) return;
    const startMs = Math.max(atMs, this.#nowMs);
    if (this.place < 0 || startMs < this.at) this.#world.plan(this, startMs);
  }

  /** Goes through the phases until there is something to do; once around at most. */
  #nextTask(): (() => void) | undefined {
    for (let phases = 0; phases <= 3; phases += 1) {
      const task = this.#taskOfPhase();
      if (task !== undefined) return task;
      if (phases < 3) this.#nextPhase();
    }
    this.#waitInPoll();
    return undefined;
  }

  #taskOfPhase(): (() => void) | undefined {
    if (this.#phase === "timers") return this.#due(this.#timers);
    if (this.#phase === "poll") return this.#due(this.#inputs);
    while (this.#checked < this.#checking.length) {
      const task = this.#checking[this.#checked]?.task;
      this.#checked += 1;
      if (task !== undefined) return task;
    }
    return undefined;
  }

  #due(planned: TimeQueue<Planned>): (() => void) | undefined {
    const { first } = planned;
    this.#beginPoll();
    if (first === undefined || first.at > this.#phaseMs) return undefined;
    planned.remove(first);
    return first.task;
  }

  #nextPhase(): void {
    this.#phaseMs = this.#nowMs;
    if (this.#phase === "timers") this.#phase = "poll";
    else if (this.#phase === "poll") {
      this.#phase = "check";
      this.#flush();
      this.#checking = this.#checks;
      this.#checked = 0;
      this.#checks = [];
    } else this.#phase = "timers";
  }

  #flush(): void {
    if (this.#outgoing.length === 0) return;
    const outgoing = this.#outgoing;
    this.#outgoing = [];
    for (const leave of outgoing) leave();
  }

  /** A process that waits in the poll phase begins that phase with whatever it does first. */
  #beginPoll(): void {
    if (this.#phaseMs === Number.NEGATIVE_INFINITY) this.#phaseMs = this.#nowMs;
  }

  #waitInPoll(): void {
    this.#phase = "poll";
    this.#phaseMs = Number.NEGATIVE_INFINITY;
  }
}

/** Reads a process of the lab for the policies, as the toolkit reads a process of Node. */
export class LabProcessReader implements ProcessReader {
  readonly #process: LabProcess;
  #delay: LoopDelay | undefined;
  #readMs: number;
  #busyMs: number;
  #cpuMs: number;

  constructor(process: LabProcess) {
    this.#process = process;
    this.#readMs = process.now();
    this.#busyMs = process.busyMs;
    this.#cpuMs = process.cpuMs;
  }

  read(): Readings {
    const process = this.#process;
    const nowMs = process.now();
    const spanMs = Math.max(1, nowMs - this.#readMs);
    const { busyMs, cpuMs } = process;
    // Started by the first reading, as in Node: a server that was never called has no timer.
    this.#delay ??= new LoopDelay(process);
    const readings = {
      eventLoop: (busyMs - this.#busyMs) / spanMs,
      loopDelayMs: this.#delay.take(),
      cpu: (cpuMs - this.#cpuMs) / spanMs,
      memory: 0.3,
    };
    this.#readMs = nowMs;
    this.#busyMs = busyMs;
    this.#cpuMs = cpuMs;
    return readings;
  }

  close(): void {
    this.#delay?.stop();
  }
}
