import { type CallProperties, connectivityState } from "@grpc/grpc-js";

/** The channel of a client. grpc-js exports the class of that name only. */
export type Channel = CallProperties<unknown, unknown>["channel"];

/** Told of each change of a channel's connectivity state, from inside grpc-js's own change: it must not throw. */
export type ConnectivityListener = (
  state: connectivityState,
  previous: connectivityState | undefined,
) => void;

const watches = new WeakMap<Channel, ChannelWatch>();

/** A channel that calls back this often without having changed is not watched any longer. */
const maxSpuriousCallbacks = 16;

/**
 * The one watch of a channel: how it is connected, how often it failed to connect, and that it was closed. All calls
 * of the channel share it, because grpc-js has no way to take a watcher away again: one that waits for the next change
 * stays until there is one. It has no timer and holds neither the process nor a channel that nobody else holds.
 *
 * It only looks. It never asks a channel to connect: grpc-js revives a closed one that is asked.
 */
export class ChannelWatch {
  /** The target as the channel writes it. */
  readonly target: string;
  readonly #channel: Channel;
  readonly #listeners = new Set<ConnectivityListener>();
  /** As last seen; `undefined` where the channel does not say. */
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

  /** The watch of a channel, begun when it is asked for first. */
  static of(channel: Channel): ChannelWatch {
    const present = watches.get(channel);
    if (present !== undefined) return present;
    const watch = new ChannelWatch(channel);
    watches.set(channel, watch);
    return watch;
  }

  /** SHUTDOWN from the moment of closing on, whatever grpc-js makes of the channel afterwards. */
  get state(): connectivityState | undefined {
    if (this.#closed) return connectivityState.SHUTDOWN;
    // Read anew: a channel that cannot be watched still answers this.
    const state = this.#read();
    if (state === connectivityState.SHUTDOWN) this.#changed();
    return state;
  }

  /** The channel was closed. It stays so, even where a name that resolves late revives the channel itself. */
  get closed(): boolean {
    return this.state === connectivityState.SHUTDOWN;
  }

  /**
   * How often the channel went into TRANSIENT_FAILURE. All calls that find no connection while the number stays the
   * same heard of one event: grpc-js repeats the error of the last attempt to connect until there is a connection.
   * Attempts that fail one after the other are told apart only if the balancer leaves the state between them;
   * `pick_first` does not.
   */
  get failures(): number {
    return this.#failures;
  }

  /**
   * Has `listener` told of every change from now on; closing is the last one. Nothing is told of the present state, and
   * nothing at all on a closed channel. The result takes the listener away again and holds no channel.
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
      // Without a deadline, which would be a timer that holds the process.
      this.#channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => {
        if (!arming) this.#changed();
      });
    } catch {
      // Closed since it was read, or a channel of somebody's that cannot be watched.
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
    // Before anybody is told, who may look or close.
    if (this.#spurious < maxSpuriousCallbacks) this.#arm();
    if (state === undefined || state === previous) return;
    if (state === connectivityState.TRANSIENT_FAILURE) this.#failures += 1;
    // Those that are there now: one that is added meanwhile waits for the next change.
    const due = [...this.#listeners];
    for (const listener of due) {
      // A listener before it may have closed the channel; everybody has been told of that by now.
      if (this.#state !== state) return;
      if (!this.#listeners.has(listener)) continue;
      if (this.#closed) this.#listeners.delete(listener);
      listener(state, previous);
    }
  }
}
