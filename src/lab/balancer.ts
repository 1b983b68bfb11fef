import { connectivityState } from "@grpc/grpc-js";
import type { Connection } from "./network.js";
import type { Subchannel } from "./subchannel.js";

/** What a balancer answers to a call that wants a connection. */
export type Pick =
  | { readonly kind: "ready"; readonly connection: Connection }
  | { readonly kind: "queue" }
  | { readonly kind: "failed"; readonly details: string };

/** Chooses the connection of each call. */
export interface Balancer {
  readonly state: connectivityState;
  /** Leaves the state IDLE. */
  connect(): void;
  pick(): Pick;
  /** The state of a subchannel has changed. */
  changed(subchannel: Subchannel, was: connectivityState): void;
}

const queued: Pick = { kind: "queue" };

function failure(subchannel: Subchannel | undefined): Pick {
  const error = `Error: connect ECONNREFUSED ${subchannel?.address ?? "unknown"}`;
  const details = `No connection established. Last error: ${error}. Resolution note: `;
  return { kind: "failed", details };
}

/**
 * `pick_first`: one connection, to the first address that answers. From the moment that all addresses have failed, calls
 * fail until one answers. A connection that ends is replaced when the next call needs one.
 */
export class PickFirst implements Balancer {
  readonly #subchannels: readonly Subchannel[];
  #state: connectivityState = connectivityState.IDLE;
  #current: Subchannel | undefined;
  /** The one that connects, by its number. */
  #trying = 0;
  #lastFailed: Subchannel | undefined;

  constructor(subchannels: readonly Subchannel[]) {
    this.#subchannels = subchannels;
  }

  get state(): connectivityState {
    return this.#state;
  }

  connect(): void {
    if (this.#state !== connectivityState.IDLE) return;
    this.#state = connectivityState.CONNECTING;
    this.#trying = 0;
    this.#subchannels[0]?.connect();
  }

  pick(): Pick {
    const connection = this.#current?.connection;
    if (connection !== undefined) return { kind: "ready", connection };
    if (this.#state === connectivityState.TRANSIENT_FAILURE) return failure(this.#lastFailed);
    this.connect();
    return queued;
  }

  changed(subchannel: Subchannel): void {
    switch (subchannel.state) {
      case connectivityState.READY:
        this.#current = subchannel;
        this.#state = connectivityState.READY;
        return;
      case connectivityState.TRANSIENT_FAILURE:
        this.#lastFailed = subchannel;
        if (subchannel === this.#subchannels[this.#trying]) this.#tryNext();
        return;
      case connectivityState.IDLE:
        if (subchannel === this.#current) {
          this.#current = undefined;
          this.#state = connectivityState.IDLE;
        } else if (this.#state === connectivityState.TRANSIENT_FAILURE) {
          // Its wait is over.
          subchannel.connect();
        }
        return;
      case connectivityState.CONNECTING:
      case connectivityState.SHUTDOWN:
        return;
      default:
        subchannel.state satisfies never;
    }
  }

  #tryNext(): void {
    this.#trying += 1;
    for (; this.#trying < this.#subchannels.length; this.#trying += 1) {
      const next = this.#subchannels[this.#trying];
      if (next?.state !== connectivityState.IDLE) continue;
      next.connect();
      return;
    }
    this.#state = connectivityState.TRANSIENT_FAILURE;
  }
}

/** `round_robin`: a connection to every address, and calls go to those that are ready, in turn. */
export class RoundRobin implements Balancer {
  readonly #subchannels: readonly Subchannel[];
  #started = false;
  /** Those that are ready, in the order of the addresses; `undefined` after a change, until somebody asks. */
  #ready: readonly Subchannel[] | undefined = [];
  #readyCount = 0;
  #failedCount = 0;
  #next = 0;
  #lastFailed: Subchannel | undefined;
  /** All addresses have failed, and none is ready since. */
  #failing = false;

  constructor(subchannels: readonly Subchannel[]) {
    this.#subchannels = subchannels;
  }

  get state(): connectivityState {
    if (!this.#started) return connectivityState.IDLE;
    if (this.#readyCount > 0) return connectivityState.READY;
    return this.#failing ? connectivityState.TRANSIENT_FAILURE : connectivityState.CONNECTING;
  }

  connect(): void {
    if (this.#started) return;
    this.#started = true;
    for (const each of this.#subchannels) each.connect();
  }

  pick(): Pick {
    this.#ready ??= this.#subchannels.filter(({ state }) => state === connectivityState.READY);
    const chosen = this.#ready[this.#next % this.#ready.length]?.connection;
    if (chosen !== undefined) {
      this.#next += 1;
      return { kind: "ready", connection: chosen };
    }
    if (this.#failing) return failure(this.#lastFailed);
    this.connect();
    return queued;
  }

  changed(subchannel: Subchannel, was: connectivityState): void {
    const { state } = subchannel;
    this.#ready = undefined;
    this.#readyCount += change(connectivityState.READY, was, state);
    this.#failedCount += change(connectivityState.TRANSIENT_FAILURE, was, state);
    if (state === connectivityState.TRANSIENT_FAILURE) this.#lastFailed = subchannel;
    if (this.#readyCount > 0) this.#failing = false;
    else if (this.#failedCount === this.#subchannels.length) this.#failing = true;
    // A lost connection is replaced at once, and after a failure when its wait is over.
    if (state === connectivityState.IDLE) subchannel.connect();
  }
}

/** By how much the number of subchannels in a state has changed. */
function change(
  counted: connectivityState,
  was: connectivityState,
  state: connectivityState,
): number {
  return Number(state === counted) - Number(was === counted);
}
