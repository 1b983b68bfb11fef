import type { CancelTask, Clock } from "./clock.js";

/** What is due at some time, on the monotonic clock. */
export interface Due {
  readonly dueMs: number;
  /** It is still in the list, and its time is up. */
  due(): void;
}

/** So close to each other, times are one: the list is gone through for all of them together. */
const togetherMs = 20;

/**
 * Things of which most are gone long before their time is up, with one timer for all of them: adding and removing one costs
 * no timer. They are told up to 20 ms late, and after the sockets were read: what would remove one may lie there.
 * The timer keeps no process alive.
 */
export class DueList {
  readonly #clock: Clock;
  readonly #all = new Set<Due>();
  #firesMs = Number.POSITIVE_INFINITY;
  #stop: CancelTask = () => {};
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#all.size;
  }

  /** @param nowMs The time now, so that the clock is read once. */
  add(due: Due, nowMs: number): void {
    this.#all.add(due);
    if (due.dueMs < this.#firesMs) this.#fireAt(due.dueMs, nowMs);
  }

  delete(due: Due): void {
    this.#all.delete(due);
    if (this.#closed) this.#stopIfEmpty();
  }

  /** From now on no timer runs while nothing is in the list. */
  close(): void {
    this.#closed = true;
    this.#stopIfEmpty();
  }

  #stopIfEmpty(): void {
    if (this.#all.size > 0) return;
    this.#stop();
    this.#firesMs = Number.POSITIVE_INFINITY;
  }

  #fireAt(atMs: number, nowMs: number): void {
    this.#stop();
    this.#firesMs = atMs;
    this.#stop = this.#clock.schedule(Math.max(0, atMs - nowMs), this.#fire, { ref: false });
  }

  readonly #fire = (): void => {
    this.#stop = this.#clock.afterPoll(() => {
      const nowMs = this.#clock.now();
      this.#firesMs = Number.POSITIVE_INFINITY;
      let nextMs = Number.POSITIVE_INFINITY;
      let failed: { readonly error: unknown } | undefined;
      for (const each of this.#all) {
        if (each.dueMs > nowMs) {
          nextMs = Math.min(nextMs, each.dueMs);
          continue;
        }
        this.#all.delete(each);
        try {
          each.due();
        } catch (error) {
          failed ??= { error };
        }
      }
      // One that was added meanwhile has seen to itself.
      if (nextMs < this.#firesMs) this.#fireAt(Math.max(nextMs, nowMs + togetherMs), nowMs);
      // The others are told all the same.
      if (failed !== undefined) throw failed.error;
    });
  };
}
