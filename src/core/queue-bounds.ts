import type { AdmissionPoolOptions } from "./admission-options.js";
import type { Slots } from "./admission-slots.js";
import type { LatencyCeiling } from "./latency-ceiling.js";
import type { Priority } from "./priority.js";

/**
 * How many calls may wait, and how long. A burst is let wait for as long as its callers can spare, since it will be worked
 * off. A queue that stands will not: it makes all late and serves nobody more, so it is kept short (CoDel, RFC 8289).
 */
export class QueueBounds {
  readonly #options: AdmissionPoolOptions;
  readonly #ceiling: Pick<LatencyCeiling, "ms">;
  readonly #slots: Pick<Slots, "count" | "atBestIn">;
  #burstMs: number;
  #standing = false;

  constructor(
    options: AdmissionPoolOptions,
    ceiling: Pick<LatencyCeiling, "ms">,
    slots: Pick<Slots, "count" | "atBestIn">,
  ) {
    this.#options = options;
    this.#ceiling = ceiling;
    this.#slots = slots;
    this.#burstMs = options.burstWaitMs;
  }

  /** Somebody waits where nobody did. */
  begin(): void {
    const { burstWaitMs, maxWaitShare } = this.#options;
    // What callers as a rule can wait. The ceiling is half of what they come with.
    const sparedMs = 2 * maxWaitShare * (this.#ceiling.ms ?? Number.POSITIVE_INFINITY);
    this.#burstMs = Math.min(burstWaitMs, sparedMs);
  }

  /** Whether the queue has stood for so long that it is no burst. */
  see(standing: boolean): void {
    this.#standing = standing;
  }

  /** How many may wait: no more than get through in the longest wait. */
  get maxQueued(): number {
    const { maxQueued, minQueued, maxWaitMs } = this.#options;
    if (maxQueued !== undefined) return maxQueued;
    const waitMs = this.#standing ? Math.min(maxWaitMs, this.#burstMs) : this.#burstMs;
    const longest = Math.min(this.#slots.count, Math.floor(this.#slots.atBestIn(waitMs)));
    return Math.max(minQueued, longest);
  }

  /** The longest wait of a call that comes now with so much time, in milliseconds; its time may be infinite. */
  longestWaitMs(priority: Priority, leftMs: number): number {
    const { burstWaitMs, maxWaitMs, maxWaitShare } = this.#options;
    const { criticalMaxWaitMs, criticalWaitShare } = this.#options;
    return priority === "critical"
      ? Math.min(criticalMaxWaitMs, leftMs * criticalWaitShare)
      : Math.min(this.#standing ? maxWaitMs : burstWaitMs, leftMs * maxWaitShare);
  }
}
