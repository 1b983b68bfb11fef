import type { CancelTask, Clock } from "./clock.js";

/** An entry of a {@link DueList}. */
export interface Due {
  /** When its time is up, on the monotonic clock. */
  readonly dueMs: number;
  /** For the list alone: where the entry stands in it. -1 while it is in none, as at first. */
  place: number;
  /** Called when its time is up and it is still in the list. */
  due(): void;
}

/** The least time between two walks through the list, in milliseconds: entries that are due within it are called together. */
const togetherMs = 20;

/**
 * One timer for many entries, most of which are removed long before their time is up: adding and removing one is cheap.
 * Entries are called up to 20 ms late, and only after the sockets have been read, because what is read there may remove
 * them. The timer does not keep the process alive.
 */
export class DueList {
  readonly #clock: Clock;
  /** In no order. */
  readonly #all: Due[] = [];
  #firesMs = Number.POSITIVE_INFINITY;
  #stop: CancelTask = () => {};
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#all.length;
  }

  /** @param nowMs The time now, so that the clock is not read again. */
  add(due: Due, nowMs: number): void {
    if (due.place < 0) {
      due.place = this.#all.length;
      this.#all.push(due);
    }
    if (due.dueMs < this.#firesMs) this.#fireAt(due.dueMs, nowMs);
  }

  delete(due: Due): void {
    const { place } = due;
    if (place < 0) return;
    due.place = -1;
    const last = this.#all.pop();
    // The last one takes its place.
    if (last !== undefined && last !== due) {
      last.place = place;
      this.#all[place] = last;
    }
    if (this.#closed) this.#stopIfEmpty();
  }

  /** From now on, no timer runs while the list is empty. */
  close(): void {
    this.#closed = true;
    this.#stopIfEmpty();
  }

  #stopIfEmpty(): void {
    if (this.#all.length > 0) return;
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
      // A copy, because `due` adds and removes entries.
      for (const each of this.#all.slice()) {
        if (each.place < 0) continue;
        if (each.dueMs > nowMs) {
          nextMs = Math.min(nextMs, each.dueMs);
          continue;
        }
        this.delete(each);
        try {
          each.due();
        } catch (error) {
          failed ??= { error };
        }
      }
      // An entry that `due` has added may have set the timer already, for an earlier time.
      if (nextMs < this.#firesMs) this.#fireAt(Math.max(nextMs, nowMs + togetherMs), nowMs);
      // Only now, so that all others have been called.
      if (failed !== undefined) throw failed.error;
    });
  };
}
