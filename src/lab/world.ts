import type { Random } from "../core/clock.js";
import { seededRandom } from "../testing/clock/seeded-random.js";
import { type Timed, TimeQueue } from "../testing/clock/time-queue.js";

/** What the world runs when its time has come. */
export interface Happening extends Timed {
  /** Runs one piece of work. */
  run(): void;
  /** The piece of work, and all that it queued with `process.nextTick` or a promise, is done. */
  settle(): void;
}

/** How many pieces of work are queued at once in the event loop of the real process. */
const piecesPerTurn = 256;

/**
 * Virtual time for several processes. The world runs one piece of work at a time: always that of the process whose next
 * piece begins first. Nothing that a process does reaches another one earlier than it was done, so each process sees
 * all that happened before.
 *
 * Each piece is an immediate of the real event loop, so that Node empties the queues of `process.nextTick` and of
 * promises between two pieces. Nothing depends on real time: the same seed gives the same run.
 */
export class World {
  /** The source of chance of the world itself: of its network and its users. */
  readonly random: Random;
  readonly #seed: number;
  readonly #queue = new TimeQueue<Happening>();
  #nowMs = 0;
  #order = 0;
  #sources = 0;
  #untilMs = 0;
  #pieces = 0;
  #running: { readonly done: () => void; readonly fail: (error: unknown) => void } | undefined;
  #ran: Happening | undefined;

  constructor(seed = 1) {
    this.#seed = seed;
    this.random = seededRandom(seed);
  }

  /** The time at which the latest piece of work began, in milliseconds since the world began. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** How many pieces of work have run. */
  get pieces(): number {
    return this.#pieces;
  }

  /** A number that orders what is due at the same time: what was planned first comes first. */
  nextOrder(): number {
    this.#order += 1;
    return this.#order;
  }

  /** A source of chance for another part of the world, so that none depends on how often another draws. */
  newRandom(): Random {
    this.#sources += 1;
    return seededRandom(Math.imul(this.#seed, 0x9e3779b1) ^ Math.imul(this.#sources, 0x85ebca6b));
  }

  /** Runs a task at a time of the world, outside of all processes: for what happens to them. */
  at(atMs: number, task: () => void): void {
    this.#queue.add({
      at: Math.max(atMs, this.#nowMs),
      order: this.nextOrder(),
      place: -1,
      run: task,
      settle() {},
    });
  }

  /** Plans when the next piece of work of a process begins; `Infinity` for never. */
  plan(happening: Happening, atMs: number): void {
    if (happening.place >= 0 && happening.at === atMs) return;
    this.#queue.remove(happening);
    happening.at = atMs;
    if (atMs < Number.POSITIVE_INFINITY) this.#queue.add(happening);
  }

  /**
   * Lets time pass until `untilMs`. Rejects with what a piece of work threw. Call it outside of the work of processes, and
   * once at a time.
   */
  run(untilMs: number): Promise<void> {
    if (this.#running !== undefined) throw new Error("the world is running already");
    return new Promise((done, fail) => {
      this.#running = { done, fail };
      this.#untilMs = untilMs;
      this.#nextTurn();
    });
  }

  // Node empties the queue of nextTick between two immediates, and many immediates in one turn of the event loop cost a
  // tenth of as many turns.
  readonly #nextTurn = (): void => {
    if (this.#running === undefined) return;
    for (let queued = 0; queued < piecesPerTurn; queued += 1) setImmediate(this.#step);
    setImmediate(this.#nextTurn);
  };

  readonly #step = (): void => {
    const running = this.#running;
    if (running === undefined) return;
    try {
      this.#ran?.settle();
      this.#ran = undefined;
      const next = this.#queue.first;
      if (next === undefined || next.at > this.#untilMs) {
        this.#nowMs = this.#untilMs;
        this.#running = undefined;
        running.done();
        return;
      }
      this.#queue.remove(next);
      this.#nowMs = next.at;
      this.#pieces += 1;
      this.#ran = next;
      next.run();
    } catch (error) {
      this.#running = undefined;
      running.fail(error);
    }
  };
}
