import type { AdmissionPoolOptions } from "./admission-options.js";
import { fixedLimit, type Limit } from "./limit.js";
import { wholeNumber } from "./options.js";
import type { Outcome } from "./permit.js";
import type { TurnBudget } from "./turn-budget.js";

/** The slots that calls run in: how many there are now, and how many are taken. */
export class Slots {
  readonly #options: Pick<AdmissionPoolOptions, "maxConcurrent" | "criticalHeadroom">;
  readonly #turn: TurnBudget | undefined;
  #limit: Limit;
  #taken = 0;

  constructor(
    options: Pick<AdmissionPoolOptions, "maxConcurrent" | "criticalHeadroom">,
    limit: Limit,
    turn: TurnBudget | undefined,
  ) {
    this.#options = options;
    this.#limit = limit;
    this.#turn = turn;
  }

  get taken(): number {
    return this.#taken;
  }

  get count(): number {
    return Math.min(this.#limit.current, this.#options.maxConcurrent);
  }

  /** There is one for a call; for critical ones there are some more. */
  isFree(critical: boolean): boolean {
    const count = Math.min(this.count, this.#limit.ramp ?? Number.POSITIVE_INFINITY);
    const there = critical ? this.#withHeadroom(count) : count;
    return this.#taken < there && (this.#turn === undefined || this.#turn.hasRoom);
  }

  /** So many calls come through in some time, at best. A queue that is longer keeps some waiting in vain. */
  atBestIn(ms: number): number {
    return this.#turn?.atBestIn(ms) ?? Number.POSITIVE_INFINITY;
  }

  take(): void {
    this.#taken += 1;
    this.#turn?.began();
  }

  giveBack(): void {
    this.#taken -= 1;
  }

  /** A handler has held the event loop for so long. */
  ran(tookMs: number): void {
    this.#turn?.ran(tookMs);
  }

  /** What a limit that learns is told. A call that its caller gave up says nothing about how long such calls take. */
  record(nowMs: number, tookMs: number, inFlight: number, outcome: Outcome): void {
    if (outcome !== "ignored") this.#limit.record(nowMs, tookMs, inFlight, outcome);
  }

  /** Throws `InvalidOptionError` below 1. */
  resize(limit: number): void {
    this.#limit = fixedLimit(wholeNumber("limit", limit, 1));
  }

  #withHeadroom(count: number): number {
    // 70 × 0.1 is a hair above 7 in binary, and a hair is not an eighth call.
    const headroom = Math.ceil(count * this.#options.criticalHeadroom - 1e-9);
    return Math.min(count + headroom, this.#options.maxConcurrent);
  }
}
