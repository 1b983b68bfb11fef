import { connectivityState } from "@grpc/grpc-js";
import type { CancelTask, Clock } from "../../core/clock.js";
import type { Channel } from "../types.js";

interface Watcher {
  readonly from: connectivityState;
  readonly callback: (error?: Error) => void;
  readonly stop: CancelTask;
}

/** The first of these states that a connection is in counts for all, as in the `round_robin` of grpc-js. */
const order = [
  connectivityState.READY,
  connectivityState.CONNECTING,
  connectivityState.TRANSIENT_FAILURE,
  connectivityState.IDLE,
] as const;

/**
 * The common connectivity state of several channels. grpc-js cannot remove a watcher from a channel, so each channel
 * has one watcher without a deadline, from the first call of `watch` on. The deadlines of watchers are kept here.
 */
export class Connectivity {
  readonly #channels: readonly Channel[];
  readonly #clock: Clock;
  readonly #watchers = new Set<Watcher>();
  #watching = false;
  #closed = false;

  constructor(channels: readonly Channel[], clock: Clock) {
    this.#channels = channels;
    this.#clock = clock;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get state(): connectivityState {
    if (this.#closed) return connectivityState.SHUTDOWN;
    const states = new Set(this.#channels.map((channel) => channel.getConnectivityState(false)));
    return order.find((state) => states.has(state)) ?? connectivityState.IDLE;
  }

  /** Lets all channels connect. */
  connect(): void {
    for (const channel of this.#channels) channel.getConnectivityState(true);
  }

  /** Calls back once: when the state is no longer `from`, or with an error when the deadline passes before. */
  watch(from: connectivityState, deadline: Date | number, callback: (error?: Error) => void): void {
    const waitMs = Number(deadline) - this.#clock.wallNow();
    const late = () => {
      this.#watchers.delete(watcher);
      callback(new Error("Deadline passed without connectivity state change"));
    };
    const stop = waitMs === Infinity ? () => {} : this.#clock.schedule(Math.max(waitMs, 0), late);
    const watcher: Watcher = { from, callback, stop };
    this.#watchers.add(watcher);
    if (!this.#watching) {
      this.#watching = true;
      for (const channel of this.#channels) this.#follow(channel);
    }
    // The state may have changed since the caller read it.
    if (this.state !== from) process.nextTick(() => this.#changed());
  }

  close(): void {
    this.#closed = true;
    for (const channel of this.#channels) channel.close();
    this.#changed();
  }

  #follow(channel: Channel): void {
    const state = channel.getConnectivityState(false);
    if (state === connectivityState.SHUTDOWN) return;
    channel.watchConnectivityState(state, Infinity, () => {
      // Before the callbacks, because they may throw.
      this.#follow(channel);
      this.#changed();
    });
  }

  #changed(): void {
    const { state } = this;
    // A copy: a watcher that is added in a callback waits for the next change.
    const due = [...this.#watchers].filter(({ from }) => from !== state);
    for (const watcher of due) {
      if (!this.#watchers.delete(watcher)) continue;
      watcher.stop();
      watcher.callback();
    }
  }
}
