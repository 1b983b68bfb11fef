import type { Ending } from "./permit.js";

/** How many events are kept; the oldest is forgotten first. Behind one target, this many servers may fail in turn. */
const mostNames = 16;

/**
 * How long grpc-js repeats the error of a failed connect: until its next attempt to connect. Nothing in the error tells one
 * attempt from the next, so this follows the default connection backoff of grpc-js (1 s, growing by 1.6 up to 2 minutes, and
 * up to a fifth longer at random). With a shorter backoff, several attempts count as one event.
 */
const memory = { firstMs: 1_200, factor: 1.6, mostMs: 144_000 } as const;

/** The event of calls that gave up while the channel was connecting. One attempt to connect may take very long. */
export const connecting = "connecting";

/** The events that are known already, so that each counts once, however many calls it ends. See `Ending.event`. */
export class SeenEvents {
  /** By name: until when the same name means the same event. */
  readonly #seen = new Map<string, { untilMs: number; forMs: number }>();

  /** True when the call was ended by an event that is known already. Notes the event when it is new. */
  isKnown(ending: Pick<Ending, "event"> | undefined, nowMs: number): boolean {
    const name = ending?.event;
    if (name === undefined) return false;
    const present = this.#seen.get(name);
    if (present !== undefined && nowMs < present.untilMs) return true;
    // The attempt to connect that calls were waiting for has ended.
    this.#seen.delete(connecting);
    if (present !== undefined) {
      present.forMs = Math.min(present.forMs * memory.factor, memory.mostMs);
      present.untilMs = nowMs + present.forMs;
      return false;
    }
    this.#makeRoom();
    const forMs = name === connecting ? Number.POSITIVE_INFINITY : memory.firstMs;
    this.#seen.set(name, { untilMs: nowMs + forMs, forMs });
    return false;
  }

  /** A call was served, so a failure from now on is a new event. */
  forget(): void {
    if (this.#seen.size > 0) this.#seen.clear();
  }

  #makeRoom(): void {
    if (this.#seen.size < mostNames) return;
    for (const first of this.#seen.keys()) {
      this.#seen.delete(first);
      return;
    }
  }
}
