import { type ClientOptions, connectivityState, propagate, status } from "@grpc/grpc-js";
import type { CancelTask, Clock } from "../../core/clock.js";
import type { Channel, ChannelCall, ParentCall } from "../../grpc/types.js";
import type { Attempt, CallChannel, Pick } from "./attempt.js";
import { InMemoryCall } from "./call.js";
import type { Connection } from "./connection.js";
import type { InMemoryNetwork } from "./network.js";
import type { InMemoryServer } from "./server.js";

interface Watcher {
  readonly from: connectivityState;
  readonly callback: (error?: Error) => void;
  readonly cancelTimer: CancelTask;
}

let lastCallNumber = 0;

/** A channel with one address, for a real client of grpc-js. It behaves like one with the policy pick_first. */
export class InMemoryChannel implements Channel, CallChannel<InMemoryCall> {
  readonly network: InMemoryNetwork;
  readonly clock: Clock;
  readonly userAgent: string;
  readonly retriesEnabled: boolean;
  readonly limits: CallChannel<InMemoryCall>["limits"];
  bufferedBytes = 0;
  readonly #server: InMemoryServer;
  readonly #connector: Connector;
  readonly #waitingForName = new Set<InMemoryCall>();
  readonly #waitingForPick = new Set<Attempt>();
  readonly #watchers = new Set<Watcher>();
  #state: connectivityState = connectivityState.IDLE;
  #resolution: "none" | "running" | "done" = "none";
  #calls = 0;

  constructor(server: InMemoryServer, network: InMemoryNetwork, options: ClientOptions) {
    this.#server = server;
    this.network = network;
    this.clock = network.clock;
    const agents = [
      options["grpc.primary_user_agent"],
      "grpc-node-js/in-memory",
      options["grpc.secondary_user_agent"],
    ];
    this.userAgent = agents.filter((part) => part !== undefined).join(" ");
    this.retriesEnabled = options["grpc.enable_retries"] !== 0;
    this.limits = {
      send: options["grpc.max_send_message_length"] ?? -1,
      receive: options["grpc.max_receive_message_length"] ?? 4 * 1024 * 1024,
      callBuffer: options["grpc.per_rpc_retry_buffer_size"] ?? 1024 * 1024,
      channelBuffer: options["grpc.retry_buffer_size"] ?? 16 * 1024 * 1024,
    };
    this.#connector = new Connector(server, network, options, (state) => this.#enter(state));
  }

  /** Calls that were made and have not ended. */
  get calls(): number {
    return this.#calls;
  }

  get resolved(): boolean {
    return this.#resolution === "done" && this.#state !== connectivityState.SHUTDOWN;
  }

  get connection(): Connection | undefined {
    return this.#connector.connection;
  }

  createCall(
    path: string,
    deadline: Date | number,
    host: string | null | undefined,
    parent: ParentCall,
    propagateFlags: number | null | undefined,
  ): ChannelCall {
    if (!(typeof deadline === "number" || deadline instanceof Date)) {
      throw new TypeError("Channel#createCall: deadline must be a number or Date");
    }
    if (this.#state === connectivityState.SHUTDOWN) throw new Error("Channel has been shut down");
    this.#calls += 1;
    lastCallNumber += 1;
    return new InMemoryCall({
      channel: this,
      path,
      host: host ?? this.#server.address,
      deadline,
      parent,
      propagateFlags: propagateFlags ?? propagate.DEFAULTS,
      callNumber: lastCallNumber,
    });
  }

  callEnded(): void {
    this.#calls -= 1;
  }

  queueForName(call: InMemoryCall): void {
    this.#waitingForName.add(call);
    this.#exitIdle();
  }

  pick(): Pick {
    if (this.#state === connectivityState.READY) return { kind: "ready" };
    if (this.#state === connectivityState.TRANSIENT_FAILURE) {
      return { kind: "failed", details: this.#connector.failure };
    }
    if (this.#state === connectivityState.SHUTDOWN) {
      return { kind: "failed", details: "Channel closed before call started" };
    }
    this.#exitIdle();
    return { kind: "queue" };
  }

  queueForPick(attempt: Attempt): void {
    this.#waitingForPick.add(attempt);
  }

  leavePickQueue(attempt: Attempt): void {
    this.#waitingForPick.delete(attempt);
  }

  close(): void {
    this.#connector.close();
    this.#enter(connectivityState.SHUTDOWN);
    const waiting = [...this.#waitingForName, ...this.#waitingForPick];
    this.#waitingForName.clear();
    this.#waitingForPick.clear();
    for (const call of waiting) {
      call.cancelWithStatus(status.UNAVAILABLE, "Channel closed before call started");
    }
  }

  getTarget(): string {
    return `dns:${this.#server.address}`;
  }

  getConnectivityState(tryToConnect: boolean): connectivityState {
    const state = this.#state;
    if (tryToConnect) this.#exitIdle();
    return state;
  }

  watchConnectivityState(
    from: connectivityState,
    deadline: Date | number,
    callback: (error?: Error) => void,
  ): void {
    if (this.#state === connectivityState.SHUTDOWN) throw new Error("Channel has been shut down");
    const late = () => {
      this.#watchers.delete(watcher);
      callback(new Error("Deadline passed without connectivity state change"));
    };
    const timeoutMs = Number(deadline) - this.clock.wallNow();
    const endless = timeoutMs === Number.POSITIVE_INFINITY;
    const cancelTimer = endless ? () => {} : this.clock.schedule(timeoutMs, late);
    const watcher: Watcher = { from, callback, cancelTimer };
    this.#watchers.add(watcher);
  }

  getChannelzRef(): ReturnType<Channel["getChannelzRef"]> {
    // grpc-js does not export the enum of kinds.
    const ref: unknown = { kind: "channel", id: 0, name: this.getTarget() };
    return ref as ReturnType<Channel["getChannelzRef"]>;
  }

  #exitIdle(): void {
    if (this.#state !== connectivityState.IDLE) return;
    if (this.#resolution === "done") {
      this.#connector.connect();
    } else if (this.#resolution === "none") {
      this.#resolution = "running";
      this.network.after(0, () => {
        if (this.#state === connectivityState.SHUTDOWN) return;
        this.#resolution = "done";
        this.#connector.connect();
        const waiting = [...this.#waitingForName];
        this.#waitingForName.clear();
        for (const call of waiting) call.resolve();
      });
    }
  }

  #enter(state: connectivityState): void {
    if (this.#state === state || this.#state === connectivityState.SHUTDOWN) return;
    this.#state = state;
    for (const watcher of this.#watchers) {
      if (watcher.from === state) continue;
      this.#watchers.delete(watcher);
      watcher.cancelTimer();
      watcher.callback();
    }
    if (state !== connectivityState.READY && state !== connectivityState.TRANSIENT_FAILURE) return;
    const waiting = [...this.#waitingForPick];
    this.#waitingForPick.clear();
    for (const attempt of waiting) attempt.pick();
  }
}

/** The defaults of grpc-js for the backoff between attempts to connect. */
const backoff = { initialMs: 1_000, maxMs: 120_000, multiplier: 1.6, jitter: 0.2 };

/**
 * Connects, and reconnects with backoff. As with pick_first, calls fail at once from a failed attempt to connect until
 * one succeeds. A connection that breaks is replaced when the next call needs one.
 */
class Connector {
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

  /** The details of the status of calls after a failed attempt to connect. */
  get failure(): string {
    const error = `Error: connect ECONNREFUSED ${this.#server.address}`;
    return `No connection established. Last error: ${error}. Resolution note: `;
  }

  connect(): void {
    if (this.#connecting || this.#closed || this.#connection !== undefined) return;
    this.#connecting = true;
    if (!this.#failed) this.#enter(connectivityState.CONNECTING);
    this.#startBackoff();
    // After a failure no call waits for the connection, so the attempt must not keep the process alive.
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
