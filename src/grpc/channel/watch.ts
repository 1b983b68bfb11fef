import { type CallProperties, connectivityState } from "@grpc/grpc-js";

/** The channel of a client. The type of that name in grpc-js is the class only. */
export type Channel = CallProperties<unknown, unknown>["channel"];

/** Receives each change of a channel's connectivity state. grpc-js calls it during the change, so it must not throw. */
export type ConnectivityListener = (
  state: connectivityState,
  previous: connectivityState | undefined,
) => void;

const watches = new WeakMap<Channel, ChannelWatch>();

/** After so many callbacks in a row without a change, a channel is watched no longer. */
const maxSpuriousCallbacks = 16;

/**
 * Watches a channel: its connectivity state, how often it failed to connect, and whether it was closed. All calls of
 * the channel share one watch, because grpc-js cannot remove a watcher: it stays until the next change. The watch has
 * no timer. It keeps neither the process running nor a channel in memory.
 *
 * It never asks a channel to connect: grpc-js reopens a closed channel that is asked.
 */
export class ChannelWatch {
  /** The target as the channel writes it. */
  readonly target: string;
  readonly #channel: Channel;
  readonly #listeners = new Set<ConnectivityListener>();
  /** The last known state; `undefined` where the channel does not report it. */
  #state: connectivityState | undefined;
  #closed = false;
  #failures = 0;
  #spurious = 0;

  private constructor(channel: Channel) {
    this.#channel = channel;
    this.target = channel.getTarget();
    this.#state = this.#read();
    if (this.#state === connectivityState.TRANSIENT_FAILURE) this.#failures = 1;
    this.#arm();
  }

  /** The watch of a channel, made at the first call. */
  static of(channel: Channel): ChannelWatch {
    const present = watches.get(channel);
    if (present !== undefined) return present;
    const watch = new ChannelWatch(channel);
    watches.set(channel, watch);
    return watch;
  }

  /** The state now. SHUTDOWN once the channel was closed, even if grpc-js reopens it. */
  get state(): connectivityState | undefined {
    if (this.#closed) return connectivityState.SHUTDOWN;
    // Read from the channel, because some channels cannot be watched.
    const state = this.#read();
    if (state === connectivityState.SHUTDOWN) this.#changed();
    return state;
  }

  /**
   * Whether the channel was closed. grpc-js reopens a closed channel whose name is resolved late; that does not count.
   */
  get closed(): boolean {
    return this.state === connectivityState.SHUTDOWN;
  }

  /**
   * How often the channel went into TRANSIENT_FAILURE. While the number stays the same, all calls without a connection
   * fail by the same event, because grpc-js ends them with the error of the last connect. Several failed connects in a
   * row count as one where the load balancer stays in the state between them, as `pick_first` does.
   */
  get failures(): number {
    return this.#failures;
  }

  /**
   * Calls `listener` at every change from now on; closing is the last one. It is not called with the present state, and
   * not at all if the channel is closed.
   *
   * @returns Removes the listener.
   */
  subscribe(listener: ConnectivityListener): () => void {
    const listeners = this.#listeners;
    if (!this.closed) listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  #read(): connectivityState | undefined {
    try {
      return this.#channel.getConnectivityState(false);
    } catch {
      return undefined;
    }
  }

  #arm(): void {
    const state = this.#state;
    if (state === undefined) return;
    if (state === connectivityState.SHUTDOWN) {
      this.#closed = true;
      return;
    }
    let arming = true;
    try {
      // Without a deadline: that would be a timer that keeps the process running.
      this.#channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => {
        if (!arming) this.#changed();
      });
    } catch {
      // The channel was closed in between, or cannot be watched.
      if (this.#read() === connectivityState.SHUTDOWN) this.#closed = true;
    }
    arming = false;
  }

  #changed(): void {
    if (this.#closed) return;
    const previous = this.#state;
    const state = this.#read();
    this.#state = state;
    this.#spurious = state === previous ? this.#spurious + 1 : 0;
    // Before the listeners, because they may read the state or close the channel.
    if (this.#spurious < maxSpuriousCallbacks) this.#arm();
    if (state === undefined || state === previous) return;
    if (state === connectivityState.TRANSIENT_FAILURE) this.#failures += 1;
    // A copy: a listener that is added during the loop waits for the next change.
    const due = [...this.#listeners];
    for (const listener of due) {
      // A listener before it may have closed the channel. All listeners have been called for that already.
      if (this.#state !== state) return;
      if (!this.#listeners.has(listener)) continue;
      if (this.#closed) this.#listeners.delete(listener);
      listener(state, previous);
    }
  }
}
