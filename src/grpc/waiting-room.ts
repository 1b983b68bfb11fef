import type { StatusObject } from "@grpc/grpc-js";
import { refusal } from "../core/refusal.js";
import { localRejection } from "./rejection.js";

/** Ends a waiting call with the status it is given. */
export type EndWaiting = (closed: StatusObject) => void;

/**
 * The calls that wait for something: for a turn in a queue, for the next attempt. Closing the room ends
 * each of them with UNAVAILABLE (reason `CLOSED`), so that nothing runs after the weir is closed and no
 * caller is left without an answer.
 */
export class WaitingRoom {
  readonly #calls = new Set<EndWaiting>();
  #closed = false;

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls that wait now. */
  get size(): number {
    return this.#calls.size;
  }

  enter(end: EndWaiting): void {
    this.#calls.add(end);
  }

  leave(end: EndWaiting): void {
    this.#calls.delete(end);
  }

  close(): void {
    this.#closed = true;
    for (const end of this.#calls) end(closedStatus());
    this.#calls.clear();
  }
}

/** The status of a call that was made or waited when the weir was closed. */
export function closedStatus(): StatusObject {
  return localRejection(refusal("CLOSED", "The weir is closed"));
}
