/** A call that may be looked at before it ends. It is itself its place in the row. */
export interface UnderWay {
  readonly sinceMs: number;
  /** How long it takes says something. */
  readonly timed: boolean;
  /** How many events the breaker knew of when the call began. */
  readonly knownEvents: number;
  /** The row it stands in, and its neighbours there. */
  row: InFlight | undefined;
  older: UnderWay | undefined;
  newer: UnderWay | undefined;
}

/**
 * The calls under way, in the order in which they began, to find those that take too long without
 * looking at the others. Each operation takes constant time.
 */
export class InFlight {
  readonly #limitMs: number;
  #oldest: UnderWay | undefined;
  #newest: UnderWay | undefined;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  enter(call: UnderWay): void {
    call.row = this;
    call.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = call;
    else this.#newest.newer = call;
    this.#newest = call;
  }

  /** False when it does not stand here: `takeOverdue` had it. */
  leave(call: UnderWay): boolean {
    if (call.row !== this) return false;
    const { older, newer } = call;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    call.row = undefined;
    call.older = undefined;
    call.newer = undefined;
    return true;
  }

  /** Takes out the oldest call, if it is under way for the limit or longer. */
  takeOverdue(nowMs: number): UnderWay | undefined {
    const oldest = this.#oldest;
    if (oldest === undefined || nowMs - oldest.sinceMs < this.#limitMs) return undefined;
    this.leave(oldest);
    return oldest;
  }
}
