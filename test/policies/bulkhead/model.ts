/** A partition of the model, its shares in tenths so that nothing has to be rounded twice. */
export interface ModelPartition {
  readonly name: string;
  readonly tenths: number;
  readonly maxTenths: number;
}

export interface ModelCall {
  readonly id: number;
  readonly partition: string;
  readonly rank: number;
  readonly weight: number;
  readonly deadlineMs: number;
  /** Gives its permit back as soon as it is told its turn. */
  readonly brief: boolean;
  since: number;
}

export type Fate = "admitted" | "BULKHEAD_FULL" | "DEADLINE_EXPIRED" | "QUEUE_TIMEOUT" | "CLOSED";

/**
 * What a bulkhead with partitions should do, written as the page describes it and not as it is built: flat lists,
 * searched anew each time.
 */
export class BulkheadModel {
  readonly partitions: readonly ModelPartition[];
  readonly maxQueued: number;
  readonly maxWaitMs: number;
  permits: number;
  nowMs: number;
  waiting: ModelCall[] = [];
  running: ModelCall[] = [];
  /** Told to calls after they had to wait, in the order of telling. */
  readonly told: string[] = [];
  #entering: ModelCall | undefined;

  constructor(
    partitions: readonly ModelPartition[],
    limits: { permits: number; maxQueued: number; maxWaitMs: number; nowMs: number },
  ) {
    this.partitions = partitions;
    this.permits = limits.permits;
    this.maxQueued = limits.maxQueued;
    this.maxWaitMs = limits.maxWaitMs;
    this.nowMs = limits.nowMs;
  }

  enter(call: ModelCall): Fate | "queued" {
    if (call.deadlineMs <= this.nowMs) return "DEADLINE_EXPIRED";
    if (call.weight > this.most(call.partition)) return "BULKHEAD_FULL";
    call.since = this.nowMs;
    this.waiting.push(call);
    this.#entering = call;
    const atOnce = this.#next() === call;
    if (!atOnce) {
      this.#drop(call);
      if (this.maxWaitMs === 0 || !this.hasPlace(call.partition)) return "BULKHEAD_FULL";
      this.waiting.push(call);
    }
    // It may be the turn of others now: of those behind one whom the newcomer has passed.
    this.serve();
    this.#entering = undefined;
    return this.running.includes(call) ? "admitted" : "queued";
  }

  settle(call: ModelCall): void {
    this.running = this.running.filter((other) => other !== call);
    this.serve();
  }

  leave(call: ModelCall): boolean {
    if (!this.waiting.includes(call)) return false;
    this.#drop(call);
    this.serve();
    return true;
  }

  resize(permits: number): void {
    this.permits = permits;
    const outgrown = this.waiting.filter((call) => call.weight > this.most(call.partition));
    for (const call of outgrown) this.#drop(call);
    this.serve();
    for (const call of outgrown) this.#tell(call, "BULKHEAD_FULL");
  }

  /** Moves time to a moment, ending the waits that are over by then one after the other. */
  advanceTo(ms: number): void {
    for (;;) {
      const [first] = this.waiting
        .map((call) => ({ call, dueMs: Math.min(call.since + this.maxWaitMs, call.deadlineMs) }))
        .toSorted((a, b) => a.dueMs - b.dueMs || a.call.id - b.call.id);
      if (first === undefined || first.dueMs > ms) break;
      this.nowMs = first.dueMs;
      this.#drop(first.call);
      this.serve();
      this.#tell(
        first.call,
        this.nowMs >= first.call.deadlineMs ? "DEADLINE_EXPIRED" : "QUEUE_TIMEOUT",
      );
    }
    this.nowMs = ms;
  }

  serve(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.#drop(next);
      if (next === this.#entering) this.running.push(next);
      else if (next.deadlineMs <= this.nowMs) this.#tell(next, "DEADLINE_EXPIRED");
      else {
        if (!next.brief) this.running.push(next);
        this.#tell(next, "admitted");
      }
    }
  }

  weight(name?: string): number {
    return this.running
      .filter(({ partition }) => name === undefined || partition === name)
      .reduce((sum, call) => sum + call.weight, 0);
  }

  guaranteed(name: string): number {
    return this.#own(this.permits, name);
  }

  most(name: string): number {
    const { maxTenths } = this.#partition(name);
    const share = Math.max(1, Math.floor((maxTenths * this.permits) / 10), this.guaranteed(name));
    return Math.min(share, this.permits);
  }

  hasPlace(name: string): boolean {
    const queued = (partition: string) =>
      this.waiting.filter((call) => call.partition === partition).length;
    const own = this.#own(this.maxQueued, name);
    const bound = Math.max(
      1,
      own,
      Math.floor((this.#partition(name).maxTenths * this.maxQueued) / 10),
    );
    if (queued(name) >= Math.min(bound, this.maxQueued)) return false;
    if (queued(name) < own) return true;
    let common = this.maxQueued;
    for (const partition of this.partitions) {
      const places = this.#own(this.maxQueued, partition.name);
      common -= places + Math.max(0, queued(partition.name) - places);
    }
    return common > 0;
  }

  /** The next of each partition that may have any of its calls run now, however many permits are free. */
  heads(): ModelCall[] {
    return this.partitions
      .flatMap(
        ({ name }) => ordered(this.waiting.filter((call) => call.partition === name))[0] ?? [],
      )
      .filter((call) => this.weight(call.partition) + call.weight <= this.most(call.partition));
  }

  isOwn(call: ModelCall): boolean {
    return this.weight(call.partition) + call.weight <= this.guaranteed(call.partition);
  }

  fits(call: ModelCall): boolean {
    return this.weight() + call.weight <= this.permits;
  }

  #next(): ModelCall | undefined {
    const heads = ordered(this.heads());
    const own = heads.filter((call) => this.isOwn(call));
    if (own.length > 0) return own.find((call) => this.fits(call));
    return heads.slice(0, 1).find((call) => this.fits(call));
  }

  #own(total: number, name: string): number {
    const whole = new Map(
      this.partitions.map((one) => [one.name, Math.floor((one.tenths * total) / 10)]),
    );
    for (const { name: other, tenths } of this.partitions) {
      const sum = [...whole.values()].reduce((a, b) => a + b, 0);
      if (tenths > 0 && whole.get(other) === 0 && sum < total) whole.set(other, 1);
    }
    return whole.get(name) ?? 0;
  }

  #partition(name: string): ModelPartition {
    const found = this.partitions.find((partition) => partition.name === name);
    if (found === undefined) throw new Error(`no partition ${name}`);
    return found;
  }

  #drop(call: ModelCall): void {
    this.waiting = this.waiting.filter((other) => other !== call);
  }

  #tell(call: ModelCall, fate: Fate): void {
    this.told.push(`${call.id} ${fate}`);
  }
}

function ordered(calls: readonly ModelCall[]): ModelCall[] {
  return calls.toSorted((a, b) => a.rank - b.rank || a.since - b.since || a.id - b.id);
}
