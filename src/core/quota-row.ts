import type { RateLimit } from "./rate-limit.js";
import { type RateRequest, spent } from "./rate-waiter.js";
import { isRefusal } from "./refusal.js";
import { type Entry, isQueued, type OnTurn, type Queued, type Turn } from "./turn.js";

/** One of several rates that a call has to pass, and what it is for that rate. */
export interface QuotaStep extends Pick<RateRequest, "key" | "cost"> {
  readonly limit: RateLimit;
}

/**
 * Asks several rates for one call, in their order. The call goes on when all let it; when one does not, or the call
 * leaves while it waits there, the tokens of those before are given back.
 */
export function enterRow(
  steps: readonly QuotaStep[],
  call: Omit<RateRequest, "key" | "cost">,
): Entry {
  const [only] = steps;
  if (only === undefined) return spent;
  if (steps.length === 1) return only.limit.enter({ ...call, key: only.key, cost: only.cost });
  return new RowPassage(steps, call).enter();
}

class RowPassage implements Queued {
  readonly kind = "queued";
  readonly #steps: readonly QuotaStep[];
  readonly #request: Omit<RateRequest, "key" | "cost">;
  readonly #tell: OnTurn;
  #next = 0;
  #waiting: Queued | undefined;
  #waitedMs = 0;

  constructor(steps: readonly QuotaStep[], call: Omit<RateRequest, "key" | "cost">) {
    this.#steps = steps;
    this.#tell = call.onTurn;
    this.#request = { ...call, onTurn: this.#onTurn };
  }

  enter(): Entry {
    return this.#goOn() ?? this;
  }

  leave(): boolean {
    if (this.#waiting?.leave() !== true) return false;
    this.#waiting = undefined;
    this.#giveBack();
    return true;
  }

  /** The end of it, or undefined while the call waits. */
  #goOn(): Turn | undefined {
    for (;;) {
      const step = this.#steps[this.#next];
      if (step === undefined) return spent;
      const entry = step.limit.enter({ ...this.#request, key: step.key, cost: step.cost });
      if (isQueued(entry)) {
        this.#waiting = entry;
        return undefined;
      }
      const turn = this.#passed(entry);
      if (turn !== undefined) return turn;
    }
  }

  /** What a rate said: undefined to go on to the next. */
  #passed(turn: Turn): Turn | undefined {
    if (!isRefusal(turn)) {
      this.#next += 1;
      return undefined;
    }
    this.#giveBack();
    return turn;
  }

  readonly #onTurn: OnTurn = (turn, waitedMs) => {
    this.#waiting = undefined;
    this.#waitedMs += waitedMs;
    const end = this.#passed(turn) ?? this.#goOn();
    if (end !== undefined) this.#tell(end, this.#waitedMs);
  };

  #giveBack(): void {
    for (const { limit, key, cost } of this.#steps.slice(0, this.#next))
      limit.giveBack({ key, cost });
  }
}
