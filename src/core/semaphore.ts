import { PriorityQueue, type QueueHandle } from "./priority-queue.js";

export interface SemaphoreOptions {
  /** How many may hold a permit at once. */
  readonly permits: number;
  /** How many may wait for one. Zero: nobody waits. */
  readonly maxQueued: number;
}

/** Something that waits for a permit. */
export interface Candidate {
  /**
   * The permit is the candidate's now, and has to be released. Runs inside the call that freed it.
   * An error thrown here keeps nobody else waiting: it is thrown on after the others were served,
   * and the permit still counts as taken.
   */
  grant(): void;
}

/** A candidate's place in the queue. */
export interface Waiter<C extends Candidate> {
  readonly candidate: C;
  readonly rank: number;
  /** Leaves the queue. False when it has left already: by a grant, an eviction, or a cancel. */
  cancel(): boolean;
}

/**
 * A counting semaphore with a bounded queue, ordered by rank: the lowest number first, by arrival
 * inside a rank. A freed permit goes to the best waiter, never to a newcomer who is no better.
 *
 * Headroom lets some candidates go beyond `permits`. The queue is served strictly in order, so
 * a better rank should never have less headroom than a worse one: it would hold that one up.
 *
 * It knows no time and no reasons; those belong to the policies that stand on it.
 */
export class Semaphore<C extends Candidate> {
  readonly #queue = new PriorityQueue<Place<C>>();
  readonly #maxQueued: number;
  #permits: number;
  #running = 0;
  #serving = false;

  constructor(options: SemaphoreOptions) {
    this.#permits = options.permits;
    this.#maxQueued = options.maxQueued;
  }

  get permits(): number {
    return this.#permits;
  }

  /** Permits that are out. Above `permits` when headroom was used or the semaphore has shrunk. */
  get running(): number {
    return this.#running;
  }

  get queued(): number {
    return this.#queue.size;
  }

  /**
   * Takes a permit if one is free now, and nobody of the same or a better rank waits for it.
   * Nobody waits while a permit is free, so a free permit is refused only from inside a grant.
   */
  tryAcquire(rank = 0, headroom = 0): boolean {
    if (this.#running >= this.#permits + headroom) return false;
    const best = this.#queue.first();
    if (best !== undefined && best.rank <= rank) return false;
    this.#running += 1;
    return true;
  }

  /**
   * Waits for a permit; undefined when the queue is full. It is for those whom `tryAcquire` refused:
   * a candidate for whom a permit is free is granted it before this returns.
   */
  enqueue(rank: number, candidate: C, headroom = 0): Waiter<C> | undefined {
    if (this.#queue.size >= this.#maxQueued) return undefined;
    const place = new Place(candidate, rank, headroom, (left) => this.#leave(left));
    place.handle = this.#queue.push(place, rank);
    this.#serve();
    return place;
  }

  /** Takes the worst waiter out, the newest inside its rank, if its rank is strictly worse than `rank`. */
  evictLast(rank: number): Waiter<C> | undefined {
    const worst = this.#queue.last();
    if (worst === undefined || worst.rank <= rank) return undefined;
    return this.#queue.popLast()?.item;
  }

  /** Gives a permit back. Throws when none is out: somebody has released twice. */
  release(): void {
    if (this.#running === 0) throw new Error("released a permit that nobody holds");
    this.#running -= 1;
    this.#serve();
  }

  /**
   * Changes the number of permits. Growing serves the queue at once; shrinking takes nothing away
   * from those who run, but what they release goes to nobody until the number fits.
   */
  resize(permits: number): void {
    this.#permits = permits;
    this.#serve();
  }

  #leave(place: Place<C>): boolean {
    if (place.handle === undefined || !this.#queue.remove(place.handle)) return false;
    this.#serve();
    return true;
  }

  #serve(): void {
    // A grant may release at once, and that release would grant to the next, as deep as the queue is
    // long. The outermost call serves everyone instead, in a loop.
    if (this.#serving) return;
    let failed = false;
    let failure: unknown;
    this.#serving = true;
    for (;;) {
      const best = this.#queue.first()?.item;
      if (best === undefined || this.#running >= this.#permits + best.headroom) break;
      this.#queue.popFirst();
      this.#running += 1;
      try {
        best.candidate.grant();
      } catch (error) {
        if (!failed) failure = error;
        failed = true;
      }
    }
    this.#serving = false;
    if (failed) throw failure;
  }
}

class Place<C extends Candidate> implements Waiter<C> {
  readonly candidate: C;
  readonly rank: number;
  readonly headroom: number;
  handle: QueueHandle<Place<C>> | undefined;
  readonly #leave: (place: Place<C>) => boolean;

  constructor(candidate: C, rank: number, headroom: number, leave: (place: Place<C>) => boolean) {
    this.candidate = candidate;
    this.rank = rank;
    this.headroom = headroom;
    this.#leave = leave;
  }

  cancel(): boolean {
    return this.#leave(this);
  }
}
