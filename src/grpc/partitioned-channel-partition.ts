import { connectivityState } from "@grpc/grpc-js";
import type { Channel } from "./partitioned-channel-call.js";

/** Numbers of one connection. */
export interface ChannelConnectionSnapshot {
  readonly state: keyof typeof connectivityState;
  /** Calls that have started and not ended. */
  readonly inFlight: number;
  /** Calls since the channel was made. */
  readonly started: number;
}

/** Numbers of one partition: the sums, and those of its connections. */
export interface ChannelPartitionSnapshot {
  readonly inFlight: number;
  readonly started: number;
  readonly connections: readonly ChannelConnectionSnapshot[];
}

/** One connection of a partition: a channel that shares its connection with no other. */
export class Lane {
  readonly channel: Channel;
  #inFlight = 0;
  #started = 0;
  /** When it was last chosen, counted in choices. */
  #turn = 0;

  constructor(channel: Channel) {
    this.channel = channel;
  }

  enter(): void {
    this.#inFlight += 1;
    this.#started += 1;
  }

  leave(): void {
    this.#inFlight -= 1;
  }

  take(turn: number): void {
    this.#turn = turn;
  }

  /** Whether the next call rather goes here. */
  isBetterThan(other: Lane): boolean {
    const failing = this.#failing();
    if (failing !== other.#failing()) return !failing;
    if (this.#inFlight !== other.#inFlight) return this.#inFlight < other.#inFlight;
    return this.#turn < other.#turn;
  }

  snapshot(): ChannelConnectionSnapshot {
    const name = connectivityState[this.channel.getConnectivityState(false)];
    const state = name as ChannelConnectionSnapshot["state"];
    return { state, inFlight: this.#inFlight, started: this.#started };
  }

  #failing(): boolean {
    return this.channel.getConnectivityState(false) === connectivityState.TRANSIENT_FAILURE;
  }
}

/** The connections that the calls of one class share. */
export class Partition {
  readonly lanes: readonly [Lane, ...Lane[]];
  #turns = 0;

  constructor(connections: number, open: () => Channel) {
    const first = new Lane(open());
    this.lanes = [first, ...Array.from({ length: connections - 1 }, () => new Lane(open()))];
  }

  /**
   * The connection with the fewest calls in flight; among equals, the one whose turn it is. One that cannot connect
   * comes last: its calls fail at once, so that it always has the fewest and would draw all others in.
   */
  pick(): Lane {
    const lane = this.lanes.reduce((best, each) => (each.isBetterThan(best) ? each : best));
    this.#turns += 1;
    lane.take(this.#turns);
    return lane;
  }

  snapshot(): ChannelPartitionSnapshot {
    const connections = this.lanes.map((lane) => lane.snapshot());
    return {
      inFlight: connections.reduce((sum, { inFlight }) => sum + inFlight, 0),
      started: connections.reduce((sum, { started }) => sum + started, 0),
      connections,
    };
  }
}
