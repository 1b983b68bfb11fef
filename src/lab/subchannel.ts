import { connectivityState } from "@grpc/grpc-js";
import type { CancelTask } from "../core/clock.js";
import type { Connection, Network } from "./network.js";
import type { LabProcess } from "./process.js";

/** The wait between attempts to connect, in milliseconds. */
export interface ReconnectBackoff {
  readonly initialMs: number;
  readonly maxMs: number;
}

/** As in grpc-js. */
const multiplier = 1.6;
const jitter = 0.2;

const waitsForNothing: CancelTask = () => {};

/**
 * The connection of a channel to one address. It connects when it is told to, and waits after a failure, as grpc-js does:
 * the wait counts from the beginning of the attempt.
 */
export class Subchannel {
  readonly address: string;
  readonly #network: Network;
  readonly #process: LabProcess;
  readonly #backoff: ReconnectBackoff;
  readonly #onChange: (subchannel: Subchannel, was: connectivityState) => void;
  #state: connectivityState = connectivityState.IDLE;
  #connection: Connection | undefined;
  #nextMs: number;
  #waiting = false;
  #stopWaiting: CancelTask = waitsForNothing;
  #closed = false;

  constructor(
    network: Network,
    process: LabProcess,
    address: string,
    backoff: ReconnectBackoff,
    onChange: (subchannel: Subchannel, was: connectivityState) => void,
  ) {
    this.#network = network;
    this.#process = process;
    this.address = address;
    this.#backoff = backoff;
    this.#nextMs = backoff.initialMs;
    this.#onChange = onChange;
  }

  get state(): connectivityState {
    return this.#state;
  }

  /** The connection while the state is READY. */
  get connection(): Connection | undefined {
    return this.#connection;
  }

  /** Connects, unless it does already, is connected, or waits after a failure. */
  connect(): void {
    if (this.#state !== connectivityState.IDLE || this.#closed) return;
    this.#startWaiting();
    this.#enter(connectivityState.CONNECTING);
    this.#network.connect(
      this.#process,
      this.address,
      (connection) => this.#connected(connection),
      () => this.#lost(),
    );
  }

  close(): void {
    this.#closed = true;
    this.#stopWaiting();
    this.#state = connectivityState.SHUTDOWN;
  }

  #connected(connection: Connection | undefined): void {
    if (this.#closed) return;
    if (connection === undefined) {
      this.#enter(connectivityState.TRANSIENT_FAILURE);
      if (!this.#waiting) this.#enter(connectivityState.IDLE);
      return;
    }
    this.#stopWaiting();
    // It holds the timer, which would stay as long as the connection.
    this.#stopWaiting = waitsForNothing;
    this.#waiting = false;
    this.#nextMs = this.#backoff.initialMs;
    this.#connection = connection;
    this.#enter(connectivityState.READY);
  }

  #lost(): void {
    if (this.#connection === undefined || this.#closed) return;
    this.#connection = undefined;
    this.#enter(connectivityState.IDLE);
  }

  #startWaiting(): void {
    this.#waiting = true;
    this.#stopWaiting = this.#process.schedule(this.#nextMs, () => {
      this.#waiting = false;
      if (this.#state === connectivityState.TRANSIENT_FAILURE) this.#enter(connectivityState.IDLE);
    });
    const nextMs = Math.min(this.#nextMs * multiplier, this.#backoff.maxMs);
    this.#nextMs = nextMs * (1 - jitter + this.#process.random() * 2 * jitter);
  }

  #enter(state: connectivityState): void {
    const was = this.#state;
    this.#state = state;
    this.#onChange(this, was);
  }
}
