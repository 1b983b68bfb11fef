import type { Clock, Random } from "../../core/clock.js";
import { HeardEvents } from "../../core/heard-events.js";
import {
  type Ending,
  OncePermit,
  type Outcome,
  type Permit,
  type Refusal,
  refusal,
} from "../../core/permit.js";
import { type Priority, priorities } from "../../core/priority.js";
import { SliceRing } from "../../core/stats/slice-ring.js";
import type { ResolvedThrottleOptions } from "./options.js";

type ByPriority = Readonly<Record<Priority, number>>;

/** Numbers of one throttle. `requests` and `accepts` are of the window; `throttled` only grows. */
export interface ThrottleSnapshot {
  readonly requests: ByPriority;
  readonly accepts: ByPriority;
  /** The share of each priority that is held back now. */
  readonly rejectRatio: ByPriority;
  readonly throttled: number;
}

/**
 * Holds calls back that a target would refuse, as in "Handling Overload" of the SRE book: of R requests, with A
 * served, a share of (R − K·A) / (R + 1) is not sent. What is held back is a request too, so what is sent settles
 * near K times what is served. When a target has served all of that for a while, what it refused before is forgotten.
 *
 * Priorities stand together, the best first: K·A requests may go on, and what is over is held back from the lowest.
 * A priority that the target does not serve is also held back by its own numbers, but never more than a lower one.
 *
 * A request is counted when it starts, and as served until it ends otherwise: calls that run are no evidence
 * against a target, whether they are a burst to one that was idle or streams that last for hours.
 */
export class Throttle {
  readonly #options: ResolvedThrottleOptions;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #window: ThrottleWindow;
  /** So many served calls in a row are no chance: of a target that still refuses all that is over K, one in fifty are. */
  readonly #enoughInRow: number;
  #passedAtMs = Number.NEGATIVE_INFINITY;
  /** Something of the window was not served, and when that was seen last. */
  #troubled = false;
  #unservedAtMs = Number.NEGATIVE_INFINITY;
  /** Requests that were not served and began when all those before them were known. */
  #events = 0;
  readonly #heard = new HeardEvents();
  #servedInRow = 0;
  /** How long all has to be served now: longer each time that it was not the recovery. */
  #recoveryMs: number;
  #forgaveAtMs = Number.NEGATIVE_INFINITY;
  #throttled = 0;

  constructor(options: ResolvedThrottleOptions, clock: Clock, random: Random) {
    this.#options = options;
    this.#clock = clock;
    this.#random = random;
    this.#window = new ThrottleWindow(options.windowMs, priorities.length);
    this.#recoveryMs = options.recoveryMs;
    this.#enoughInRow = Math.max(options.minRequests, Math.ceil(4 / Math.log(options.k)));
  }

  /** Asks for a permit; the lower `rank`, the longer it is spared. Refuses with `THROTTLED`. */
  acquire(rank: number): Permit | Refusal {
    const refused = this.check(rank);
    if (refused === undefined) return this.#pass(rank);
    this.#window.add(rank, false);
    return refused;
  }

  /** The refusal that `acquire` would answer with, for a call that goes on all the same: let it `pass` then. */
  check(rank: number): Refusal | undefined {
    const nowMs = this.#clock.now();
    this.#window.advance(nowMs);
    const ratio = this.#ratio(rank);
    const forced = nowMs - this.#passedAtMs >= this.#options.forcedPassMs;
    if (ratio > 0 && !forced && this.#random() < ratio) {
      this.#throttled += 1;
      const percent = Math.round(ratio * 100);
      return refusal("THROTTLED", `${percent} % of such calls are held back, ${this.#numbers()}`);
    }
    this.#passedAtMs = nowMs;
    return undefined;
  }

  /**
   * Counts a call that goes on in any case, by the end that it has. A target that serves so many a second serves as
   * many of all that it is sent, so what it serves is what it would have served of fewer.
   */
  pass(rank: number): Permit {
    this.#window.advance(this.#clock.now());
    return this.#pass(rank);
  }

  snapshot(): ThrottleSnapshot {
    this.#window.advance(this.#clock.now());
    return {
      requests: byPriority((rank) => this.#window.requests(rank)),
      accepts: byPriority((rank) => this.#window.accepts(rank)),
      rejectRatio: byPriority((rank) => this.#ratio(rank)),
      throttled: this.#throttled,
    };
  }

  #pass(rank: number): Permit {
    return new ThrottlePermit(this.#settle, rank, this.#window.add(rank, true), this.#events);
  }

  readonly #settle: Settle = (rank, slice, knownEvents, outcome, ending) => {
    const unserved = ending?.unserved !== undefined;
    if (!unserved && outcome !== "ignored") {
      this.#heard.forget();
      if (this.#troubled) this.#served();
      return;
    }
    const nowMs = this.#clock.now();
    this.#window.advance(nowMs);
    const isNews = knownEvents === this.#events;
    // One lost connection, or one failed connect, is one request that was not served, and the others were none.
    if (
      unserved &&
      !this.#heard.isKnown(ending, nowMs) &&
      (isNews || ending.connectionLost !== true)
    ) {
      if (isNews) this.#events += 1;
      this.#window.refuse(rank, slice);
      if (!this.#troubled) this.#relapse(nowMs);
      this.#unservedAtMs = nowMs;
      this.#servedInRow = 0;
    } else this.#window.takeBack(rank, slice);
  };

  /**
   * A target that serves all it is sent for a while has recovered: what it is sent is K times what it served while it
   * had too much, and a part of that would be refused.
   */
  #served(): void {
    this.#servedInRow += 1;
    if (this.#servedInRow < this.#enoughInRow) return;
    const nowMs = this.#clock.now();
    if (nowMs - this.#unservedAtMs < this.#recoveryMs) return;
    this.#window.forgive();
    this.#troubled = false;
    this.#forgaveAtMs = nowMs;
  }

  /** It refuses again. Soon after it was forgiven, that was too early. */
  #relapse(nowMs: number): void {
    const { recoveryMs, windowMs } = this.#options;
    this.#troubled = true;
    const soon = nowMs - this.#forgaveAtMs < windowMs;
    this.#recoveryMs = soon
      ? Math.min(2 * this.#recoveryMs, Math.max(windowMs, recoveryMs))
      : recoveryMs;
  }

  /** The share of a rank's calls that is held back. It never falls as the rank rises. */
  #ratio(rank: number): number {
    const { maxRejectRatio } = this.#options;
    return Math.min(maxRejectRatio, Math.max(this.#together(rank), this.#byItself(rank)));
  }

  /** Of all requests, K·A may go on. The better ranks have them first. */
  #together(rank: number): number {
    const { minRequests, k } = this.#options;
    let requests = 0;
    let accepts = 0;
    for (let each = 0; each < priorities.length; each += 1) {
      requests += this.#window.requests(each);
      accepts += this.#window.accepts(each);
    }
    if (requests < minRequests || requests <= k * accepts) return 0;
    let pendingCalls = k * accepts;
    let ratio = 0;
    for (let each = 0; each <= rank; each += 1) {
      const asked = this.#window.requests(each);
      // A rank of few requests is not spared what a better one is not.
      ratio = Math.max(ratio, (asked - Math.min(asked, pendingCalls)) / (asked + 1));
      pendingCalls = Math.max(0, pendingCalls - asked);
    }
    return ratio;
  }

  /** By its own numbers, and no more than any lower rank by its own. Without numbers, as the next better rank. */
  #byItself(rank: number): number {
    const { minRequests, k } = this.#options;
    let from = rank;
    while (from >= 0 && this.#window.requests(from) < minRequests) from -= 1;
    if (from < 0) return 0;
    let least = 1;
    for (let each = from; each < priorities.length; each += 1) {
      const asked = this.#window.requests(each);
      if (asked < minRequests) continue;
      const own = (asked - k * this.#window.accepts(each)) / (asked + 1);
      least = Math.min(least, Math.max(0, own));
    }
    return least;
  }

  #numbers(): string {
    let requests = 0;
    let accepts = 0;
    for (let rank = 0; rank < priorities.length; rank += 1) {
      requests += this.#window.requests(rank);
      accepts += this.#window.accepts(rank);
    }
    return `served ${accepts} of ${requests}`;
  }
}

type Settle = (
  rank: number,
  slice: number,
  knownEvents: number,
  outcome: Outcome,
  ending: Ending | undefined,
) => void;

/** All permits of a throttle share the function, so that passing costs one small object. */
class ThrottlePermit extends OncePermit {
  readonly #settle: Settle;
  readonly #rank: number;
  readonly #slice: number;
  readonly #knownEvents: number;

  constructor(settle: Settle, rank: number, slice: number, knownEvents: number) {
    super();
    this.#settle = settle;
    this.#rank = rank;
    this.#slice = slice;
    this.#knownEvents = knownEvents;
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    this.#settle(this.#rank, this.#slice, this.#knownEvents, outcome, ending);
  }
}

function byPriority(value: (rank: number) => number): ByPriority {
  const [critical, high, normal, low] = priorities.map((_, rank) => value(rank));
  return {
    critical: critical ?? 0,
    high: high ?? 0,
    normal: normal ?? 0,
    low: low ?? 0,
  };
}

/** How many slices the window is cut into. */
const slices = 20;

/**
 * Requests and accepts of the last while, by rank, forgotten a slice at a time.
 *
 * @param ranks How many ranks there are: 0 to `ranks - 1`.
 */
export class ThrottleWindow {
  readonly #ranks: number;
  /** The requests of each rank, then the accepts of each. */
  readonly #ring: SliceRing;

  constructor(windowMs: number, ranks: number) {
    this.#ranks = ranks;
    this.#ring = new SliceRing(windowMs, slices, 2 * ranks);
  }

  /** Forgets what is too old at `nowMs`. */
  advance(nowMs: number): void {
    this.#ring.advance(nowMs);
  }

  requests(rank: number): number {
    return this.#ring.total(rank);
  }

  accepts(rank: number): number {
    return this.#ring.total(this.#ranks + rank);
  }

  /** Counts a request into the newest slice, and tells its number. */
  add(rank: number, accepted: boolean): number {
    this.#ring.add(rank);
    if (accepted) this.#ring.add(this.#ranks + rank);
    return this.#ring.newest;
  }

  /** What was counted as accepted in a slice was not. One that is forgotten already counts as a request of now. */
  refuse(rank: number, slice: number): void {
    if (this.#ring.holds(slice)) this.#ring.add(this.#ranks + rank, -1, slice);
    else this.#ring.add(rank);
  }

  /** What was counted as an accepted request in a slice was none. */
  takeBack(rank: number, slice: number): void {
    if (!this.#ring.holds(slice)) return;
    this.#ring.add(rank, -1, slice);
    this.#ring.add(this.#ranks + rank, -1, slice);
  }

  /** What was not accepted was never asked for. */
  forgive(): void {
    const ring = this.#ring;
    for (let slice = ring.newest; ring.holds(slice); slice -= 1) {
      for (let rank = 0; rank < this.#ranks; rank += 1) {
        ring.add(rank, ring.within(slice, this.#ranks + rank) - ring.within(slice, rank), slice);
      }
    }
  }
}
