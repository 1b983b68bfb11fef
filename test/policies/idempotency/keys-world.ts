import type { CancelTask, Clock, Random } from "../../../src/core/clock.js";
import type { Queued } from "../../../src/core/permit.js";
import {
  IdempotencyKeys,
  KeyHolder,
  type KeyResult,
  type KeyRules,
} from "../../../src/policies/idempotency/keys.js";
import { MemoryIdempotencyStore } from "../../../src/policies/idempotency/memory-store.js";
import type { Eventually, IdempotencyStore } from "../../../src/policies/idempotency/store.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";

export const leaseMs = 1_000;
const storeTimeoutMs = 150;
/** How late a time-out of the toolkit may be: many share one timer. */
export const lateMs = 41;

/** What a caller was told. */
export interface Told {
  readonly asked: Asked;
  readonly atMs: number;
  /** The text of the answer that it got, or the reason of a refusal. */
  readonly answer?: string;
  readonly reason?: string;
  readonly stored?: boolean;
  readonly replayed?: boolean;
}

export interface Asked {
  readonly number: number;
  readonly key: string;
  readonly fingerprint: string;
  readonly deadlineMs: number;
  readonly process: SimulatedProcess;
  told: number;
  left: boolean;
}

/** A run of a handler. */
export interface SimulatedRun {
  readonly asked: Asked;
  readonly token: number | undefined;
  /** When the resource has accepted the effect of the run: a number that grows. Absent where it has not. */
  appliedAs?: number;
}

/** A process that runs under a clock of its own: it may stand still, or be killed. */
export class SimulatedProcess {
  readonly keys: IdempotencyKeys;
  readonly clock: Clock;
  state: "runs" | "stands" | "dead" = "runs";
  /** It has stood still at some time, and was late with everything. */
  stood = false;
  readonly #backlog: (() => void)[] = [];

  constructor(world: World, number: number) {
    const { clock } = world;
    const later = (task: () => void) => () => this.run(task);
    this.clock = {
      now: () => clock.now(),
      wallNow: () => clock.wallNow(),
      schedule: (ms, task, options): CancelTask => clock.schedule(ms, later(task), options),
      afterPoll: (task) => clock.afterPoll(later(task)),
    };
    this.keys = new IdempotencyKeys(
      new DistantStore(world, this),
      { storeTimeoutMs, maxWaiting: 1_000 },
      { clock: this.clock, random: world.random, report: () => {} },
      `process ${number}`,
      "store",
    );
  }

  /** Runs a task when the process runs. */
  run(task: () => void): void {
    if (this.state === "runs") task();
    else if (this.state === "stands") this.#backlog.push(task);
  }

  goOn(): void {
    if (this.state !== "stands") return;
    this.state = "runs";
    for (const task of this.#backlog.splice(0)) this.run(task);
  }
}

/** The way of one process to the store: slow, and at times without requests or answers. */
class DistantStore implements IdempotencyStore {
  readonly #world: World;
  readonly #process: SimulatedProcess;

  constructor(world: World, process: SimulatedProcess) {
    this.#world = world;
    this.#process = process;
  }

  claim: IdempotencyStore["claim"] = (...args) => this.#ask((store) => store.claim(...args));
  renew: IdempotencyStore["renew"] = (...args) => this.#ask((store) => store.renew(...args));
  complete: IdempotencyStore["complete"] = (...args) =>
    this.#ask((store) => store.complete(...args));
  release: IdempotencyStore["release"] = (...args) => this.#ask((store) => store.release(...args));

  #ask<T>(question: (store: IdempotencyStore) => Eventually<T>): Promise<T> {
    const { random, clock, faults, store } = this.#world;
    return new Promise((resolve, reject) => {
      const back = (task: () => void) => {
        if (random() < faults) return;
        clock.schedule(this.#wayMs(), () => this.#process.run(task));
      };
      if (random() < faults) {
        back(() => reject(new Error("connection refused")));
        return;
      }
      // Not with the process: what is sent is sent.
      clock.schedule(this.#wayMs(), () => {
        const answer = question(store);
        back(() => resolve(answer));
      });
    });
  }

  #wayMs(): number {
    const { random, faults } = this.#world;
    return random() < faults ? random() * 4 * storeTimeoutMs : random() * 5;
  }
}

/** Several processes with one store, a resource that their handlers write to, and their callers. */
export class World {
  readonly clock = new VirtualClock();
  readonly random: Random;
  readonly store: MemoryIdempotencyStore;
  readonly processes: SimulatedProcess[];
  readonly asked: Asked[] = [];
  readonly told: Told[] = [];
  readonly runs: SimulatedRun[] = [];
  /** The share of messages between processes and store that something happens to. */
  faults: number;
  readonly #rules: KeyRules;
  /** By key, the largest token that the resource has seen. */
  readonly #fences = new Map<string, number>();
  #applied = 0;

  constructor(seed: number, onStoreError: KeyRules["onStoreError"], faults: number) {
    this.random = seededRandom(seed);
    this.faults = faults;
    this.#rules = { leaseMs, ttlMs: 1e9, onStoreError };
    this.store = new MemoryIdempotencyStore(this.clock, { maxEntries: 10_000, maxBytes: 1e9 });
    this.processes = [1, 2, 3].map((number) => new SimulatedProcess(this, number));
  }

  pick<T>(from: readonly T[]): T {
    const picked = from[Math.floor(this.random() * from.length)];
    if (picked === undefined) throw new Error("nothing to pick from");
    return picked;
  }

  /** A call arrives at a process. */
  call(process: SimulatedProcess, key: string, fingerprint: string, withinMs: number): void {
    const number = this.asked.length;
    const deadlineMs = this.clock.now() + withinMs;
    const asked: Asked = { number, key, fingerprint, deadlineMs, process, told: 0, left: false };
    this.asked.push(asked);
    process.run(() => this.#enter(asked));
  }

  #enter(asked: Asked): void {
    const { key, fingerprint, deadlineMs, process } = asked;
    let entered = false;
    const result = process.keys.enter({
      key,
      fingerprint,
      rules: this.#rules,
      deadlineMs,
      onGranted: (granted) => {
        if (!entered) throw new Error("granted before it had entered");
        this.#granted(asked, granted);
      },
    });
    entered = true;
    if (!isQueued(result)) this.#granted(asked, result);
    else if (this.random() < 0.1) {
      process.clock.schedule(this.random() * 500, () => {
        if (result.leave()) asked.left = true;
      });
    }
  }

  #granted(asked: Asked, result: KeyResult): void {
    if (asked.left) throw new Error("granted after it had left");
    if (result instanceof KeyHolder) this.#run(asked, result);
    else if (result.kind === "replay") {
      const answer = new TextDecoder().decode(result.answer);
      this.#tell(asked, { answer, stored: result.stored, replayed: true });
    } else this.#tell(asked, { reason: result.reason });
  }

  #run(asked: Asked, holder: KeyHolder): void {
    const { random } = this;
    const { process } = asked;
    if (random() < 0.1) {
      // A gate behind refuses it.
      holder.abandon();
      this.#tell(asked, { reason: "LOAD_SHED" });
      return;
    }
    const run: SimulatedRun = { asked, token: holder.token };
    this.runs.push(run);
    const onAnswered: (() => void)[] = [];
    let over = false;
    let callerLeft = false;
    holder.onLost = () => {
      over = true;
      if (!callerLeft) this.#tell(asked, { reason: "LOST" });
    };
    const tookMs = random() < 0.2 ? random() * 3 * leaseMs : random() * 50;
    const outcome = random();
    if (random() < 0.2) {
      process.clock.schedule(random() * tookMs, () => {
        if (over) return;
        callerLeft = true;
        asked.left = true;
        const worksOn = (maxMs: number, ended: (answered: boolean) => void) => {
          const stop = process.clock.schedule(maxMs, () => ended(false));
          onAnswered.push(() => {
            stop();
            ended(true);
          });
        };
        holder.settle("ignored", { worksOn });
      });
    }
    // One that never answers, and whose caller has a deadline.
    if (outcome < 0.05) {
      process.clock.schedule(Math.max(0, asked.deadlineMs - this.clock.now()), () => {
        if (over || callerLeft) return;
        callerLeft = true;
        asked.left = true;
        holder.settle("failure", {
          worksOn: (maxMs, ended) => {
            process.clock.schedule(maxMs, () => ended(false));
          },
        });
      });
      return;
    }
    process.clock.schedule(tookMs, () => {
      if (over) return;
      over = true;
      if (outcome < 0.25 || !this.#apply(run)) {
        holder.keep(undefined, () => callerLeft || this.#tell(asked, { reason: "TRANSIENT" }));
        for (const answered of onAnswered) answered();
        return;
      }
      const answer = `${asked.key} ${asked.fingerprint} ${asked.number}`;
      const bytes = new TextEncoder().encode(answer);
      holder.keep({ stored: bytes, shared: bytes }, (kept) => {
        if (callerLeft) return;
        if (typeof kept === "string") this.#tell(asked, { answer, stored: kept === "stored" });
        else this.#tell(asked, { reason: kept.reason });
      });
      for (const answered of onAnswered) answered();
    });
  }

  /** The resource refuses a holder whose key another has taken over, and has written before. */
  #apply(run: SimulatedRun): boolean {
    const { token, asked } = run;
    if (token !== undefined) {
      if (token < (this.#fences.get(asked.key) ?? 0)) return false;
      this.#fences.set(asked.key, token);
    }
    this.#applied += 1;
    run.appliedAs = this.#applied;
    return true;
  }

  #tell(asked: Asked, told: Omit<Told, "asked" | "atMs">): void {
    asked.told += 1;
    this.told.push({ asked, atMs: this.clock.now(), ...told });
  }

  /** Calls, faults, processes that stand still or die, for some seconds. Then all is well again, and time passes. */
  async live(): Promise<void> {
    const { random, clock, processes } = this;
    const keys = ["a", "b", "c"];
    for (let step = 0; step < 40; step += 1) {
      const chance = random();
      const running = processes.filter(({ state }) => state !== "dead");
      const process = this.pick(running);
      if (chance < 0.04 && running.length > 1) process.state = "dead";
      else if (chance < 0.1 && process.state === "runs") {
        process.state = "stands";
        process.stood = true;
        clock.schedule(random() * 2 * leaseMs, () => process.goOn());
      } else {
        const key = this.pick(keys);
        const fingerprint = random() < 0.9 ? `${key}1` : `${key}2`;
        this.call(process, key, fingerprint, 100 + random() * 4 * leaseMs);
      }
      await clock.pass(random() < 0.2 ? random() * leaseMs : random() * 20);
    }
    this.faults = 0;
    for (const process of processes) process.goOn();
    await clock.pass(40 * leaseMs);
  }
}

function isQueued(result: KeyResult | Queued): result is Queued {
  return !(result instanceof KeyHolder) && result.kind === "queued";
}
