import { type ClientOptions, connectivityState, propagate, status } from "@grpc/grpc-js";
import type { CancelTask, Clock } from "../../core/clock.js";
import type { Attempt, CallChannel, Pick } from "./attempt.js";
import { type Call, type Channel, InMemoryCall, type ParentCall } from "./call.js";
import type { Connection } from "./connection.js";
import { Connector } from "./connector.js";
import type { InMemoryNetwork } from "./network.js";
import type { InMemoryServer } from "./server.js";

interface Watcher {
  readonly from: connectivityState;
  readonly callback: (error?: Error) => void;
  readonly cancelTimer: CancelTask;
}

let lastCallNumber = 0;

/** A channel with one address and the manners of pick_first, for a real grpc-js client. */
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

  /** Calls that were created and have not ended. */
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
  ): Call {
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
    // The enum of kinds is not exported.
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
