import type { LabProcess } from "./process.js";
import type { World } from "./world.js";

/**
 * Something outside of the process that serves its handlers: a database, a disk, another service. It works on `size` pieces
 * of work at a time, and the others wait in their order.
 */
export class Dependency {
  readonly #world: World;
  readonly #meanMs: number;
  readonly #waiting: Piece[] = [];
  #free: number;
  #factor = 1;
  /** Work whose end waits until it no longer hangs; `undefined` while it does not. */
  #held: Piece[] | undefined;

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
    for (const piece of held) this.#end(piece);
  }

  /**
   * Does a piece of work for a process, which is told by `done` when it reads the answer.
   *
   * @returns Takes the work back: its place is free for the next piece, and nobody is told. False once it has ended.
   */
  work(process: LabProcess, done: () => void): () => boolean {
    const piece: Piece = { process, done, state: "waits" };
    if (this.#free === 0) this.#waiting.push(piece);
    else {
      this.#free -= 1;
      this.#begin(piece, process.now());
    }
    return () => this.#takeBack(piece);
  }

  #begin(piece: Piece, startMs: number): void {
    piece.state = "runs";
    const tookMs = this.#meanMs * this.#factor * (0.5 + this.#world.random());
    this.#world.at(startMs + tookMs, () => this.#end(piece));
  }

  #end(piece: Piece): void {
    if (piece.state === "over") return;
    if (this.#held !== undefined) {
      this.#held.push(piece);
      return;
    }
    piece.state = "over";
    const { nowMs } = this.#world;
    piece.process.deliver(nowMs, piece.done);
    this.#beginNext(nowMs);
  }

  #takeBack(piece: Piece): boolean {
    const { state } = piece;
    if (state === "over") return false;
    piece.state = "over";
    if (state === "runs") this.#beginNext(piece.process.now());
    return true;
  }

  #beginNext(atMs: number): void {
    let next = this.#waiting.shift();
    while (next?.state === "over") next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else this.#begin(next, atMs);
  }
}

/** A piece of work for a process. */
interface Piece {
  readonly process: LabProcess;
  readonly done: () => void;
  state: "waits" | "runs" | "over";
}
