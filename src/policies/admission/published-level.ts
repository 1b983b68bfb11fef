import { type Priority, priorities, priorityRank } from "../../core/priority.js";
import { type OutcomeWindow, timeWindow } from "../../core/stats/outcome-window.js";

/** How far back it looks, in milliseconds. */
const spanMs = 1_000;
/** Refusals of a priority that it takes to publish it. */
const minRefused = 5;
/** The most that may be lost when a priority stays away: a share of all admitted calls. */
const maxLoss = 0.05;
/** So many admitted calls of a priority in a row end its publication. */
const enoughInRow = 2;

/** The rank of `high`: `critical` is never published. */
const firstRank = priorityRank.high;
const lastRank = priorityRank.low;
const none = lastRank + 1;

/**
 * The lowest priorities that a server has no room for at present. It is published to callers (`x-weir-admission`), which
 * then need not send such calls.
 *
 * A priority is published when, in the last second, it was refused five times and at most 5 % of all admitted calls were of
 * it or a lower one: nearly all room goes to better calls, so next to nothing is lost when it stays away. Where most of the
 * load has one priority, some of it is admitted, and nothing is published.
 *
 * It stays published until two of its calls in a row are admitted, or none is refused for a second. The probes that callers
 * go on to send are enough for both.
 */
export class PublishedLevel {
  readonly #ranks: readonly Seen[] = priorities.map(() => ({
    window: timeWindow({ spanMs, buckets: 10 }),
    admittedInRow: 0,
  }));
  #level = none;
  #refusing = false;

  /** A call was refused of late. While it is false there is no level, and the clock need not be read to know it. */
  get refusing(): boolean {
    return this.#refusing;
  }

  admitted(priority: Priority, nowMs: number): void {
    const rank = priorityRank[priority];
    const seen = this.#seen(rank);
    seen.window.record(nowMs, false, false);
    seen.admittedInRow += 1;
    if (rank < this.#level || seen.admittedInRow < enoughInRow) return;
    // Refusals from before must not publish it again.
    for (let lifted = this.#level; lifted <= rank; lifted += 1) this.#seen(lifted).window.clear();
    this.#level = rank + 1;
  }

  refused(priority: Priority, nowMs: number): void {
    const seen = this.#seen(priorityRank[priority]);
    seen.window.record(nowMs, true, false);
    seen.admittedInRow = 0;
    this.#refusing = true;
  }

  /** The best rank that is published; all worse ones are, too. `undefined` while none is. */
  level(nowMs: number): number | undefined {
    if (!this.#refusing) return undefined;
    let refused = 0;
    let admitted = 0;
    for (const { window } of this.#ranks) {
      const { calls, failures } = window.totals(nowMs);
      refused += failures;
      admitted += calls - failures;
    }
    this.#refusing = refused > 0;
    let level: number = none;
    let worseAdmitted = 0;
    for (let rank: number = lastRank; rank >= firstRank; rank -= 1) {
      const { calls, failures } = this.#seen(rank).window.totals(nowMs);
      worseAdmitted += calls - failures;
      const stays = rank >= this.#level && failures > 0;
      const begins = failures >= minRefused && admitted > 0 && worseAdmitted <= maxLoss * admitted;
      if (stays || begins) level = rank;
    }
    this.#level = level;
    return level === none ? undefined : level;
  }

  #seen(rank: number): Seen {
    const seen = this.#ranks[rank];
    if (seen === undefined) throw new RangeError(`no rank ${rank}`);
    return seen;
  }
}

/** The calls of one rank: refused ones count as failures. */
interface Seen {
  readonly window: OutcomeWindow;
  admittedInRow: number;
}
