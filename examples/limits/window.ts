/** What the calls of one window say. */
export interface WindowSummary {
  /** The mean time of its calls, in milliseconds. */
  readonly meanMs: number;
  /** The most calls that ran at once. */
  readonly maxInFlight: number;
}

/** Gathers calls for some time, so that a limit goes by many of them. */
export class Window {
  readonly #ms: number;
  readonly #fewest: number;
  #sinceMs: number | undefined;
  #calls = 0;
  #sumMs = 0;
  #maxInFlight = 0;

  /** @param fewest A window stays open until so many calls have ended. */
  constructor(ms: number, fewest: number) {
    this.#ms = ms;
    this.#fewest = fewest;
  }

  /** A call has ended. Answers the summary of the window that it closes, if it does. */
  record(nowMs: number, tookMs: number, inFlight: number): WindowSummary | undefined {
    this.#sinceMs ??= nowMs;
    this.#calls += 1;
    this.#sumMs += tookMs;
    this.#maxInFlight = Math.max(this.#maxInFlight, inFlight);
    if (nowMs - this.#sinceMs < this.#ms || this.#calls < this.#fewest) return undefined;
    const seen = { meanMs: this.#sumMs / this.#calls, maxInFlight: this.#maxInFlight };
    this.#sinceMs = nowMs;
    this.#calls = 0;
    this.#sumMs = 0;
    this.#maxInFlight = 0;
    return seen;
  }
}
