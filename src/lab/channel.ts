import { type ClientOptions, connectivityState } from "@grpc/grpc-js";
import type { CancelTask } from "../core/clock.js";
import type { Channel, ChannelCall, ParentCall } from "../grpc/types.js";
import { type Balancer, type Pick, PickFirst, RoundRobin } from "./balancer.js";
import { type CallChannel, LabCall, type WaitingCall } from "./call.js";
import type { ClientCosts } from "./costs.js";
import type { Network } from "./network.js";
import type { LabProcess } from "./process.js";
import { RetryingCall, type RetryPolicy, RetryThrottle } from "./retry-policy.js";
import { Subchannel } from "./subchannel.js";

export interface ChannelSetup {
  readonly network: Network;
  readonly process: LabProcess;
  /** The addresses that the name of the target resolves to, in this order. */
  readonly addresses: readonly string[];
  readonly balancing: "pick_first" | "round_robin";
  readonly costs: ClientCosts;
  /** Options of grpc-js. Those for the wait between attempts to connect are obeyed. */
  readonly options: ClientOptions;
  /** Retries by the channel, as from a service config. */
  readonly retryPolicy?: RetryPolicy | undefined;
  /** The methods that answer with a stream of messages, as `lab.Service/Method`. @defaultValue none */
  readonly streams?: ReadonlySet<string> | undefined;
  /** How long it takes to resolve the name, in milliseconds. Nothing connects before. @defaultValue 0 */
  readonly resolveMs?: number | undefined;
}

interface Watcher {
  readonly from: connectivityState;
  readonly callback: (error?: Error) => void;
  readonly cancelTimer: CancelTask;
}

/** A channel of grpc-js, as clients and policies see it, in the lab. */
export class LabChannel implements Channel, CallChannel {
  readonly process: LabProcess;
  readonly costs: ClientCosts;
  /** Why call credentials cannot get a token now; `undefined` while they can. */
  tokenFailure: string | undefined;
  readonly #subchannels: readonly Subchannel[];
  readonly #balancer: Balancer;
  readonly #target: string;
  readonly #retryPolicy: RetryPolicy | undefined;
  readonly #throttle: RetryThrottle | undefined;
  readonly #streams: ReadonlySet<string> | undefined;
  readonly #resolveMs: number;
  /** Whether it is known where the target is. */
  #resolution: "none" | "pending" | "done";
  readonly #watchers = new Set<Watcher>();
  readonly #waiting = new Set<WaitingCall>();
  #told: connectivityState = connectivityState.IDLE;
  #closed = false;
  #calls = 0;

  constructor(setup: ChannelSetup) {
    const { network, process, addresses, options } = setup;
    this.process = process;
    this.costs = setup.costs;
    this.#target = `dns:${addresses.length === 1 ? addresses[0] : "lab"}`;
    const backoff = {
      initialMs: options["grpc.initial_reconnect_backoff_ms"] || 1_000,
      maxMs: options["grpc.max_reconnect_backoff_ms"] || 120_000,
    };
    this.#subchannels = addresses.map(
      (address) => new Subchannel(network, process, address, backoff, this.#changed),
    );
    this.#balancer =
      setup.balancing === "pick_first"
        ? new PickFirst(this.#subchannels)
        : new RoundRobin(this.#subchannels);
    this.#retryPolicy = setup.retryPolicy;
    this.#throttle = setup.retryPolicy && new RetryThrottle(setup.retryPolicy);
    this.#streams = setup.streams;
    this.#resolveMs = setup.resolveMs ?? 0;
    this.#resolution = this.#resolveMs > 0 ? "none" : "done";
  }

  createCall(
    path: string,
    deadline: Date | number,
    host: string | null | undefined,
    _parent: ParentCall,
    _propagateFlags: number | null | undefined,
  ): ChannelCall {
    if (this.#closed) throw new Error("Channel has been shut down");
    this.#calls += 1;
    const setup = {
      channel: this,
      path,
      deadline,
      host: host ?? "lab",
      number: this.#calls,
      streaming: this.#streams?.has(path.slice(1)) ?? false,
    };
    return this.#retryPolicy === undefined || this.#throttle === undefined
      ? new LabCall(setup)
      : new RetryingCall(setup, this.#retryPolicy, this.#throttle);
  }

  pick(): Pick {
    if (this.#closed) return { kind: "failed", details: "Channel closed before call started" };
    if (this.#resolution === "done") return this.#balancer.pick();
    this.#connect();
    return { kind: "queue" };
  }

  wait(call: WaitingCall): void {
    this.#waiting.add(call);
  }

  waitNoLonger(call: WaitingCall): void {
    this.#waiting.delete(call);
  }

  close(): void {
    this.#closed = true;
    for (const each of this.#subchannels) each.close();
    this.#tellState();
    this.#pickAgain();
  }

  getTarget(): string {
    return this.#target;
  }

  getConnectivityState(tryToConnect: boolean): connectivityState {
    const state = this.#state;
    if (tryToConnect && !this.#closed) this.#connect();
    return state;
  }

  watchConnectivityState(
    from: connectivityState,
    deadline: Date | number,
    callback: (error?: Error) => void,
  ): void {
    if (this.#closed) throw new Error("Channel has been shut down");
    const leftMs = Number(deadline) - this.process.wallNow();
    const late = () => {
      this.#watchers.delete(watcher);
      callback(new Error("Deadline passed without connectivity state change"));
    };
    const endless = leftMs === Number.POSITIVE_INFINITY;
    const cancelTimer = endless ? () => {} : this.process.schedule(leftMs, late);
    const watcher: Watcher = { from, callback, cancelTimer };
    this.#watchers.add(watcher);
  }

  getChannelzRef(): never {
    throw new Error("there is no channelz in the lab");
  }

  readonly #changed = (subchannel: Subchannel, was: connectivityState): void => {
    this.#balancer.changed(subchannel, was);
    this.#tellState();
    const { state } = this.#balancer;
    if (state === connectivityState.READY || state === connectivityState.TRANSIENT_FAILURE) {
      this.#pickAgain();
    }
  };

  get #state(): connectivityState {
    if (this.#closed) return connectivityState.SHUTDOWN;
    return this.#resolution === "pending" ? connectivityState.CONNECTING : this.#balancer.state;
  }

  #connect(): void {
    if (this.#resolution === "done") this.#balancer.connect();
    if (this.#resolution !== "none") return;
    this.#resolution = "pending";
    this.process.schedule(this.#resolveMs, () => {
      this.#resolution = "done";
      if (this.#closed) return;
      this.#balancer.connect();
      this.#tellState();
    });
    this.#tellState();
  }

  #tellState(): void {
    const state = this.getConnectivityState(false);
    if (state === this.#told) return;
    this.#told = state;
    for (const watcher of this.#watchers) {
      if (watcher.from === state) continue;
      this.#watchers.delete(watcher);
      watcher.cancelTimer();
      watcher.callback();
    }
  }

  #pickAgain(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const call of waiting) call.pickAgain();
  }
}
