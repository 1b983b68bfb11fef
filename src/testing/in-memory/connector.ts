import { type ClientOptions, connectivityState } from "@grpc/grpc-js";
import type { CancelTask } from "../../core/clock.js";
import type { Connection } from "./connection.js";
import type { InMemoryNetwork } from "./network.js";
import type { InMemoryServer } from "./server.js";

/** Defaults of grpc-js for the wait between attempts to connect. */
const backoff = { initialMs: 1_000, maxMs: 120_000, multiplier: 1.6, jitter: 0.2 };

/**
 * Connects, and reconnects with backoff. As in pick_first, a first failure makes the channel fail
 * its calls at once until an attempt succeeds; a connection that breaks is replaced on demand.
 */
export class Connector {
  readonly #server: InMemoryServer;
  readonly #network: InMemoryNetwork;
  readonly #enter: (state: connectivityState) => void;
  readonly #initialMs: number;
  readonly #maxMs: number;
  #nextMs: number;
  #backoffRunning = false;
  #cancelBackoff: CancelTask = () => {};
  #connecting = false;
  #failed = false;
  #closed = false;
  #connection: Connection | undefined;

  constructor(
    server: InMemoryServer,
    network: InMemoryNetwork,
    options: ClientOptions,
    enter: (state: connectivityState) => void,
  ) {
    this.#server = server;
    this.#network = network;
    this.#enter = enter;
    this.#initialMs = options["grpc.initial_reconnect_backoff_ms"] || backoff.initialMs;
    this.#maxMs = options["grpc.max_reconnect_backoff_ms"] || backoff.maxMs;
    this.#nextMs = this.#initialMs;
  }

  get connection(): Connection | undefined {
    return this.#connection;
  }

  /** Details of the status of a call that is made after an attempt failed. */
  get failure(): string {
    const error = `Error: connect ECONNREFUSED ${this.#server.address}`;
    return `No connection established. Last error: ${error}. Resolution note: `;
  }

  connect(): void {
    if (this.#connecting || this.#closed || this.#connection !== undefined) return;
    this.#connecting = true;
    if (!this.#failed) this.#enter(connectivityState.CONNECTING);
    this.#startBackoff();
    // Once it has failed nobody waits for it: it must not keep a program, or a test, alive.
    const ref = !this.#failed;
    this.#server.connect(this.#network, ref, (connection) => this.#connected(connection));
  }

  close(): void {
    this.#closed = true;
    this.#cancelBackoff();
  }

  #connected(connection: Connection | undefined): void {
    this.#connecting = false;
    if (this.#closed) return;
    if (connection?.usable !== true) {
      this.#failed = true;
      this.#enter(connectivityState.TRANSIENT_FAILURE);
      if (!this.#backoffRunning) process.nextTick(() => this.connect());
      return;
    }
    this.#failed = false;
    this.#cancelBackoff();
    this.#backoffRunning = false;
    this.#nextMs = this.#initialMs;
    this.#connection = connection;
    connection.onLost(() => {
      this.#connection = undefined;
      if (!this.#closed) this.#enter(connectivityState.IDLE);
    });
    this.#enter(connectivityState.READY);
  }

  #startBackoff(): void {
    this.#backoffRunning = true;
    const elapsed = () => {
      this.#backoffRunning = false;
      if (this.#failed && !this.#connecting) this.connect();
    };
    this.#cancelBackoff = this.#network.after(this.#nextMs, elapsed, false);
    const nextMs = Math.min(this.#nextMs * backoff.multiplier, this.#maxMs);
    const spread = nextMs * backoff.jitter;
    this.#nextMs = nextMs - spread + this.#network.random() * 2 * spread;
  }
}
