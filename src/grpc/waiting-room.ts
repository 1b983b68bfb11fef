import { connectivityState, type StatusObject } from "@grpc/grpc-js";
import { refusal } from "../core/refusal.js";
import type { ChannelWatch } from "./channel-watch.js";
import { channelClosedStatus } from "./local-status.js";
import { localRejection } from "./rejection.js";

/** Ends a waiting call with the status it is given. */
export type EndWaiting = (closed: StatusObject) => void;

/**
 * The calls that wait for something: for a turn in a queue, for the next attempt, for a fallback. Closing the room, or
 * the channel of a call, ends them with UNAVAILABLE (reason `CLOSED`): nothing runs after the weir is closed, nothing
 * waits for a channel that is gone, and no caller is left without an answer.
 */
export class WaitingRoom {
  /** With what takes each away from its channel. */
  readonly #calls = new Map<EndWaiting, (() => void) | undefined>();
  #closed = false;

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls that wait now. */
  get size(): number {
    return this.#calls.size;
  }

  /** What a call ends with that is made or would wait now; `undefined` while the weir and its channel are open. */
  closing(connection?: ChannelWatch): StatusObject | undefined {
    if (this.#closed) return closedStatus();
    return connection?.closed === true ? channelClosedStatus() : undefined;
  }

  /** Where everything is closed already, `end` is called at once. */
  enter(end: EndWaiting, connection?: ChannelWatch): void {
    const closed = this.closing(connection);
    if (closed !== undefined) {
      end(closed);
      return;
    }
    this.#calls.set(
      end,
      connection?.subscribe((state) => {
        if (state !== connectivityState.SHUTDOWN) return;
        this.leave(end);
        end(channelClosedStatus());
      }),
    );
  }

  leave(end: EndWaiting): void {
    this.#calls.get(end)?.();
    this.#calls.delete(end);
  }

  close(): void {
    this.#closed = true;
    for (const end of this.#calls.keys()) {
      this.leave(end);
      end(closedStatus());
    }
  }
}

/** The status of a call that was made or waited when the weir was closed. */
function closedStatus(): StatusObject {
  return localRejection(refusal("CLOSED", "The weir is closed"));
}
