import { type Priority, priorities, priorityRank } from "../../core/priority.js";
import { type OutcomeWindow, timeWindow } from "../../core/stats/outcome-window.js";

/** How far back the server looks. */
const spanMs = 1_000;
/** Fewer refusals than this may be a hiccup. */
const minRefused = 5;
/** The share of all admitted calls that may be lost by sending the priority away before it comes. */
const maxLoss = 0.05;
/** So many admissions in a row, and it is no longer refused. */
const enoughInRow = 2;

/** The rank of `high`: that of `critical` is never sent away. */
const firstRank = priorityRank.high;
const lastRank = priorityRank.low;
const nothing = lastRank + 1;

/**
 * Learns from what a server refuses which priorities have no prospect of being served at present, so that callers
 * can be told. A priority is doomed when it was refused five times in the last second, while hardly anything (5 %) of
 * what was admitted was of it or a lower one: so the room goes to better calls, and nothing is lost if it stays away.
 * Where most of the load is of one priority, some of it is served, and nobody is sent away.
 *
 * It stays so until two of its calls in a row are admitted, or none was refused for a second: probes that callers
 * send are enough to keep it or to lift it.
 */
export class PublishedLevel {
  readonly #ranks: readonly Seen[] = priorities.map(() => ({
    window: timeWindow({ spanMs, buckets: 10 }),
    admittedInRow: 0,
  }));
  #level = nothing;
  #refusing = false;

  /** Something was refused lately. While not, there is no level, and no clock is needed to know it. */
  get refusing(): boolean {
    return this.#refusing;
  }

  admitted(priority: Priority, nowMs: number): void {
    const rank = priorityRank[priority];
    const seen = this.#seen(rank);
    seen.window.record(nowMs, false, false);
    seen.admittedInRow += 1;
    if (rank < this.#level || seen.admittedInRow < enoughInRow) return;
    // What was refused before is no reason to refuse again.
    for (let lifted = this.#level; lifted <= rank; lifted += 1) this.#seen(lifted).window.clear();
    this.#level = rank + 1;
  }

  refused(priority: Priority, nowMs: number): void {
    const seen = this.#seen(priorityRank[priority]);
    seen.window.record(nowMs, true, false);
    seen.admittedInRow = 0;
    this.#refusing = true;
  }

  /** The best rank that is doomed, and all worse ones with it; `undefined` while nothing is. */
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
    let level: number = nothing;
    let worseAdmitted = 0;
    for (let rank: number = lastRank; rank >= firstRank; rank -= 1) {
      const { calls, failures } = this.#seen(rank).window.totals(nowMs);
      worseAdmitted += calls - failures;
      const stays = rank >= this.#level && failures > 0;
      const begins = failures >= minRefused && admitted > 0 && worseAdmitted <= maxLoss * admitted;
      if (stays || begins) level = rank;
    }
    this.#level = level;
    return level === nothing ? undefined : level;
  }

  #seen(rank: number): Seen {
    const seen = this.#ranks[rank];
    if (seen === undefined) throw new RangeError(`no rank ${rank}`);
    return seen;
  }
}

/** What became of the calls of one rank. */
interface Seen {
  readonly window: OutcomeWindow;
  admittedInRow: number;
}
