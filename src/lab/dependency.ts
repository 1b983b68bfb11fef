import type { LabProcess } from "./process.js";
import type { World } from "./world.js";

/**
 * Something outside of the process that serves its handlers: a database, a disk, another service. It works on `size` pieces
 * of work at a time, and the others wait in their order; nobody can take back what waits.
 */
export class Dependency {
  readonly #world: World;
  readonly #meanMs: number;
  readonly #waiting: ((startMs: number) => void)[] = [];
  #free: number;
  #factor = 1;
  /** The ends of work that wait until it no longer hangs; `undefined` while it does not. */
  #held: (() => void)[] | undefined;

  /**
   * @param size How many pieces of work it does at a time; `Infinity` for a mere delay.
   * @param meanMs How long one takes on average, in milliseconds: from half of that to one and a half.
   */
  constructor(world: World, size: number, meanMs: number) {
    this.#world = world;
    this.#free = size;
    this.#meanMs = meanMs;
  }

  /** From now on, work takes this many times as long. */
  set factor(factor: number) {
    this.#factor = factor;
  }

  /** From now on, no piece of work ends. */
  hang(): void {
    this.#held ??= [];
  }

  /** It no longer hangs: what would have ended meanwhile ends now. */
  resume(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const task of held) task();
  }

  /** Does a piece of work for a process, which is told by `done` when it reads the answer. */
  work(process: LabProcess, done: () => void): void {
    const begin = (startMs: number) => {
      const tookMs = this.#meanMs * this.#factor * (0.5 + this.#world.random());
      const endMs = startMs + tookMs;
      this.#world.at(endMs, () => this.#end(process, done));
    };
    if (this.#free === 0) {
      this.#waiting.push(begin);
      return;
    }
    this.#free -= 1;
    begin(process.now());
  }

  #end(process: LabProcess, done: () => void): void {
    if (this.#held !== undefined) {
      this.#held.push(() => this.#end(process, done));
      return;
    }
    const { nowMs } = this.#world;
    process.deliver(nowMs, done);
    this.#ended(nowMs);
  }

  #ended(atMs: number): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next(atMs);
  }
}
