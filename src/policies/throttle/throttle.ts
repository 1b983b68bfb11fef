import type { Clock, Random } from "../../core/clock.js";
import {
  type Ending,
  OncePermit,
  type Outcome,
  type Permit,
  type Refusal,
  refusal,
} from "../../core/permit.js";
import { type Priority, priorities, priorityRank } from "../../core/priority.js";
import { SeenEvents } from "../../core/seen-events.js";
import { SliceRing } from "../../core/stats/slice-ring.js";
import type { ResolvedThrottleOptions } from "./options.js";

type ByPriority = Readonly<Record<Priority, number>>;

/**
 * Numbers of one throttle. `requests` and `accepts` are those of the window; `throttled` only grows.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/throttle.md
 */
export interface ThrottleSnapshot {
  readonly requests: ByPriority;
  readonly accepts: ByPriority;
  /** The share of each priority that is held back at present. */
  readonly rejectRatio: ByPriority;
  readonly throttled: number;
}

/**
 * Holds back calls that a target would refuse: adaptive throttling, as in "Handling Overload" of the SRE book
 * (https://sre.google/sre-book/handling-overload/). Of R requests in the window, of which the target has served A, a
 * share of (R − K·A) / (R + 1) is held back.
 *
 * - A request that is held back counts as a request, so that what is sent settles near K times what is served.
 * - When a target has served everything for a while (`recoveryMs`), its earlier refusals are dropped.
 * - Priorities share K·A, the best first: the lowest is held back first. A priority that the target does not serve is
 *   also held back by its own numbers, but never more than a lower one.
 * - A request counts when it starts, and as served until it ends otherwise. Calls in flight say nothing against a
 *   target, be it a burst to an idle one or streams that last for hours.
 */
export class Throttle {
  #options: ResolvedThrottleOptions;
  readonly #clock: Clock;
  readonly #random: Random;
  #window: ThrottleWindow;
  /**
   * How many served calls in a row show a recovery. A target that still refuses everything above K serves as many in a
   * row in one of fifty cases.
   */
  #enoughInRow: number;
  #passedAtMs = Number.NEGATIVE_INFINITY;
  /** A request of the window was not served. */
  #troubled = false;
  /** When a request was not served last, in monotonic milliseconds. */
  #unservedAtMs = Number.NEGATIVE_INFINITY;
  /** Independent events: requests that were not served and began when all events before were known. */
  #events = 0;
  readonly #seenEvents = new SeenEvents();
  #servedInRow = 0;
  /** How long everything has to be served now. It doubles each time that the target had not recovered after all. */
  #recoveryMs: number;
  /** When earlier refusals were dropped last, in monotonic milliseconds. */
  #forgaveAtMs = Number.NEGATIVE_INFINITY;
  #throttled = 0;

  constructor(options: ResolvedThrottleOptions, clock: Clock, random: Random) {
    this.#options = options;
    this.#clock = clock;
    this.#random = random;
    this.#window = new ThrottleWindow(options.windowMs, priorities.length);
    this.#recoveryMs = options.recoveryMs;
    this.#enoughInRow = enoughInRow(options);
  }

  /** Goes on with other options. What has been counted stays, and a window of another length takes it over. */
  reconfigure(options: ResolvedThrottleOptions): void {
    const nowMs = this.#clock.now();
    if (options.windowMs !== this.#options.windowMs) {
      const before = this.#window;
      before.advance(nowMs);
      this.#window = new ThrottleWindow(options.windowMs, priorities.length);
      this.#window.advance(nowMs);
      this.#window.refill(before);
    }
    this.#options = options;
    this.#recoveryMs = options.recoveryMs;
    this.#enoughInRow = enoughInRow(options);
  }

  /** Gives a permit, or refuses with `THROTTLED`. Calls of a lower `rank` are held back last. */
  acquire(rank: number): Permit | Refusal {
    const refused = this.check(rank);
    if (refused === undefined) return this.#pass(rank);
    this.#window.add(rank, false);
    return refused;
  }

  /** The refusal that `acquire` would give, for a call that goes on all the same: call `pass` for it then. */
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
   * Counts a call that goes on in any case, by its end. A target that serves a number of calls per second serves as many
   * of a larger number, so that the counts are those of enforcing.
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

  /** For its permits: the call of one has ended. */
  ended(permit: ThrottlePermit, outcome: Outcome, ending: Ending | undefined): void {
    const { rank, knownEvents } = permit;
    // A window that was replaced meanwhile has other slices.
    const slice = permit.window === this.#window ? permit.slice : Number.NEGATIVE_INFINITY;
    const unserved = ending?.unserved !== undefined;
    if (!unserved && outcome !== "ignored") {
      this.#seenEvents.forget();
      if (this.#troubled) this.#served();
      return;
    }
    const nowMs = this.#clock.now();
    this.#window.advance(nowMs);
    const independent = knownEvents === this.#events;
    // A lost connection or a failed connect counts as one request that was not served. The others do not count.
    if (
      unserved &&
      !this.#seenEvents.isKnown(ending, nowMs) &&
      (independent || ending.connectionLost !== true)
    ) {
      if (independent) this.#events += 1;
      this.#window.refuse(rank, slice);
      if (!this.#troubled) this.#relapse(nowMs);
      this.#unservedAtMs = nowMs;
      this.#servedInRow = 0;
    } else this.#window.takeBack(rank, slice);
  }

  #pass(rank: number): Permit {
    const window = this.#window;
    return new ThrottlePermit(this, rank, window, window.add(rank, true), this.#events);
  }

  /**
   * A target that serves everything for a while has recovered: it is sent K times what it served under overload, and would
   * refuse a part of that.
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

  /** The target refuses again. If that is within a window of the recovery, the recovery was assumed too early. */
  #relapse(nowMs: number): void {
    const { recoveryMs, windowMs } = this.#options;
    this.#troubled = true;
    const soon = nowMs - this.#forgaveAtMs < windowMs;
    this.#recoveryMs = soon
      ? Math.min(2 * this.#recoveryMs, Math.max(windowMs, recoveryMs))
      : recoveryMs;
  }

  /** The share of a rank's calls that is held back. It does not fall as the rank rises. */
  #ratio(rank: number): number {
    const { maxRefusedShare } = this.#options;
    return Math.min(maxRefusedShare, Math.max(this.#together(rank), this.#byItself(rank)));
  }

  /** The share by the numbers of all ranks: K·A requests may go on, the better ranks first. */
  #together(rank: number): number {
    const { minCalls, k } = this.#options;
    let requests = 0;
    let accepts = 0;
    for (let each = 0; each < priorities.length; each += 1) {
      requests += this.#window.requests(each);
      accepts += this.#window.accepts(each);
    }
    if (requests < minCalls || requests <= k * accepts) return 0;
    let left = k * accepts;
    let ratio = 0;
    for (let each = 0; each <= rank; each += 1) {
      const asked = this.#window.requests(each);
      // A rank with few requests is held back at least as much as a better one.
      ratio = Math.max(ratio, (asked - Math.min(asked, left)) / (asked + 1));
      left = Math.max(0, left - asked);
    }
    return ratio;
  }

  /**
   * The share by the rank's own numbers, at most that of each lower rank by its own. A rank with fewer than `minCalls`
   * requests has the share of the next better rank that has enough.
   */
  #byItself(rank: number): number {
    const { minCalls, k } = this.#options;
    let from = rank;
    while (from >= 0 && this.#window.requests(from) < minCalls) from -= 1;
    if (from < 0) return 0;
    let least = 1;
    for (let each = from; each < priorities.length; each += 1) {
      const asked = this.#window.requests(each);
      if (asked < minCalls) continue;
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

/** The permit of one call that was sent. */
class ThrottlePermit extends OncePermit {
  readonly rank: number;
  /** The window, and the slice of it, that its request is counted in. */
  readonly window: ThrottleWindow;
  readonly slice: number;
  /** How many events the throttle knew of when the call began. */
  readonly knownEvents: number;
  readonly #throttle: Throttle;

  constructor(
    throttle: Throttle,
    rank: number,
    window: ThrottleWindow,
    slice: number,
    knownEvents: number,
  ) {
    super();
    this.#throttle = throttle;
    this.rank = rank;
    this.window = window;
    this.slice = slice;
    this.knownEvents = knownEvents;
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    this.#throttle.ended(this, outcome, ending);
  }
}

/** With a smaller `k` it takes more served calls to notice a recovery. */
function enoughInRow({ minCalls, k }: ResolvedThrottleOptions): number {
  return Math.max(minCalls, Math.ceil(4 / Math.log(k)));
}

function byPriority(value: (rank: number) => number): ByPriority {
  return {
    critical: value(priorityRank.critical),
    high: value(priorityRank.high),
    normal: value(priorityRank.normal),
    low: value(priorityRank.low),
  };
}

/** The window slides by a twentieth of its length at a time. */
const slices = 20;

/** Requests and accepts of the window, by rank from 0 to `ranks - 1`. */
class ThrottleWindow {
  readonly #ranks: number;
  /** Its counters are the requests of each rank, then the accepts of each. */
  readonly #ring: SliceRing;

  constructor(windowMs: number, ranks: number) {
    this.#ranks = ranks;
    this.#ring = new SliceRing(windowMs, slices, 2 * ranks);
  }

  /** Drops what is older than the window at `nowMs`. */
  advance(nowMs: number): void {
    this.#ring.advance(nowMs);
  }

  /** Takes over what another window holds, as requests of now. */
  refill(other: ThrottleWindow): void {
    for (let rank = 0; rank < this.#ranks; rank += 1) {
      this.#ring.add(rank, other.requests(rank));
      this.#ring.add(this.#ranks + rank, other.accepts(rank));
    }
  }

  requests(rank: number): number {
    return this.#ring.total(rank);
  }

  accepts(rank: number): number {
    return this.#ring.total(this.#ranks + rank);
  }

  /** Counts a request in the newest slice. Returns the number of the slice. */
  add(rank: number, accepted: boolean): number {
    this.#ring.add(rank);
    if (accepted) this.#ring.add(this.#ranks + rank);
    return this.#ring.newest;
  }

  /** A request that was counted as accepted was not. If its slice is dropped, it counts as a request of the newest one. */
  refuse(rank: number, slice: number): void {
    if (this.#ring.holds(slice)) this.#ring.add(this.#ranks + rank, -1, slice);
    else this.#ring.add(rank);
  }

  /** A request that was counted as accepted does not count. */
  takeBack(rank: number, slice: number): void {
    if (!this.#ring.holds(slice)) return;
    this.#ring.add(rank, -1, slice);
    this.#ring.add(this.#ranks + rank, -1, slice);
  }

  /** Requests that were not accepted do not count any more. */
  forgive(): void {
    const ring = this.#ring;
    for (let slice = ring.newest; ring.holds(slice); slice -= 1) {
      for (let rank = 0; rank < this.#ranks; rank += 1) {
        ring.add(rank, ring.within(slice, this.#ranks + rank) - ring.within(slice, rank), slice);
      }
    }
  }
}
