import type { Permit } from "./permit.js";
import type { Refusal } from "./refusal.js";

/** How the wait of a call ends, unless the call leaves first. */
export type Turn = Permit | Refusal;

/**
 * Told the turn of a call that had to wait, and how many milliseconds it waited. It runs once at
 * most, and never before the `enter` that queued the call has returned. The receiver settles the permit.
 *
 * It should not throw. If it does, the permit is settled as `ignored`, nobody else's turn suffers,
 * and the error goes to the policy's reporter.
 */
export type OnTurn = (turn: Turn, waitedMs: number) => void;

/** A call that waits for its turn. */
export interface Queued {
  readonly kind: "queued";
  /** For a person: where it waits, if there is more than one such place. */
  readonly detail?: string | undefined;
  /** Gives the place up: no turn follows. False when the turn has come already. */
  leave(): boolean;
}

/**
 * The answer to a call that asks to enter: a permit (go on, and settle it), a refusal, or a place in
 * the queue whose turn comes through {@link OnTurn}. An answer that is no place is final: no turn follows it.
 */
export type Entry = Permit | Refusal | Queued;

export function isQueued(entry: Entry): entry is Queued {
  return "kind" in entry && entry.kind === "queued";
}
