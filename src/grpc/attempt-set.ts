import type { status as Status } from "@grpc/grpc-js";
import type { ReplayAttempt } from "./replay-attempt.js";

/** The attempts of one call: those that run, and the one that the caller sees once it is decided. */
export class AttemptSet {
  #live: readonly ReplayAttempt[] = [];
  #latest: ReplayAttempt | undefined;
  #committed: ReplayAttempt | undefined;

  /** Attempts that run. */
  get live(): readonly ReplayAttempt[] {
    return this.#live;
  }

  get committed(): ReplayAttempt | undefined {
    return this.#committed;
  }

  /** The one to ask about the peer: the committed, or the youngest. */
  get telling(): ReplayAttempt | undefined {
    return this.#committed ?? this.#latest;
  }

  /** The one that has sent most of the request. */
  get furthest(): ReplayAttempt | undefined {
    let furthest: ReplayAttempt | undefined;
    for (const attempt of this.#live) {
      if (furthest === undefined || attempt.cursor > furthest.cursor) furthest = attempt;
    }
    return furthest;
  }

  add(attempt: ReplayAttempt): void {
    this.#live = [...this.#live, attempt];
    this.#latest = attempt;
  }

  remove(attempt: ReplayAttempt): void {
    this.#live = this.#live.filter((other) => other !== attempt);
  }

  /** The caller sees this one from now on. */
  commit(attempt: ReplayAttempt): void {
    this.#committed = attempt;
  }

  /** The committed attempt has failed, and another is going to continue its response. */
  reopen(): void {
    this.#committed = undefined;
  }

  cancelAll(code: Status, details: string): void {
    for (const attempt of this.#live) attempt.cancel(code, details);
  }

  pump(): void {
    for (const attempt of this.#live) attempt.pump();
  }
}
