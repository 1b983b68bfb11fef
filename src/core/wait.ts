import type { PolicyName } from "./decision.js";

/**
 * What a call waited for:
 *
 * - `queue`: its turn in the queue of a policy.
 * - `backoff`: the time between a failed attempt and the next one.
 * - `connection`: a connection of its channel.
 * - `event_loop`: on a server, the event loop, which was busy with other work.
 */
export type WaitKind = "queue" | "backoff" | "connection" | "event_loop";

/** A time in which a call stood still. */
export interface Wait {
  readonly kind: WaitKind;
  /** The policy that made it wait; absent where none did. */
  readonly policy?: PolicyName;
  /** This and the next are in milliseconds of the monotonic clock. */
  readonly startedAtMs: number;
  readonly endedAtMs: number;
}

/** Is told of the waits of one call. */
export interface WaitObserver {
  /** Somebody records them. Nothing is read or made for waits while this is false. */
  readonly recording: boolean;
  /** A wait is over: the call goes on, or has ended while it waited. */
  waited(wait: Wait): void;
}
