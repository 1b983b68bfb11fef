import type { Ending } from "./permit.js";

/** Of more events than that, those heard of first are forgotten: as many servers tell their last error in turn. */
const mostNames = 16;

/**
 * How long a failed connect is told from memory: until the next attempt to connect, by the backoff that grpc-js has
 * unless it is told otherwise (1 s, 1.6 times as long each time up to 2 minutes, and a fifth longer by chance). Nothing
 * that it shows tells one attempt from the next. With a shorter backoff some attempts are taken for one.
 */
const memory = { firstMs: 1_200, factor: 1.6, mostMs: 144_000 } as const;

/** The event of calls that gave up while the channel was connecting: one attempt to connect may take very long. */
export const connecting = "connecting";

/** Names that have been heard of, so that an event is evidence once, however many calls hear of it. */
export class HeardEvents {
  /** By name, until when the same words are about the same event. */
  readonly #heard = new Map<string, { untilMs: number; forMs: number }>();

  /** True when the end of a call tells of an event that is known already. Notes one that is not. */
  isKnown(ending: Pick<Ending, "event"> | undefined, nowMs: number): boolean {
    const name = ending?.event;
    if (name === undefined) return false;
    const present = this.#heard.get(name);
    if (present !== undefined && nowMs < present.untilMs) return true;
    // Whoever waited for a connection has heard of the end of that attempt now.
    this.#heard.delete(connecting);
    if (present !== undefined) {
      present.forMs = Math.min(present.forMs * memory.factor, memory.mostMs);
      present.untilMs = nowMs + present.forMs;
      return false;
    }
    this.#makeRoom();
    const forMs = name === connecting ? Number.POSITIVE_INFINITY : memory.firstMs;
    this.#heard.set(name, { untilMs: nowMs + forMs, forMs });
    return false;
  }

  /** A call was served, so whatever fails from now on is another event. */
  forget(): void {
    if (this.#heard.size > 0) this.#heard.clear();
  }

  #makeRoom(): void {
    if (this.#heard.size < mostNames) return;
    for (const first of this.#heard.keys()) {
      this.#heard.delete(first);
      return;
    }
  }
}
