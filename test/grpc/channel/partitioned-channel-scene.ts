import { connectivityState, Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { systemClock } from "../../../src/core/clock.js";
import {
  type PartitionedChannelOptions,
  resolvePartitionedChannelOptions,
} from "../../../src/grpc/channel/options.js";
import { PartitionedChannel } from "../../../src/grpc/channel/partitioned-channel.js";
import type {
  Channel,
  ChannelCall,
  ClientListener,
  MessageContext,
} from "../../../src/grpc/types.js";

type CreateCallArgs = Parameters<Channel["createCall"]>;

export function ended(code: status, details = ""): StatusObject {
  return { code, details, metadata: new Metadata() };
}

export function withPriority(priority: string): Metadata {
  const metadata = new Metadata();
  metadata.set("x-request-priority", priority);
  return metadata;
}

/** A call of one connection, played by the test. It ends when the test says so, or is cancelled. */
export class FakeChannelCall implements ChannelCall {
  readonly log: string[] = [];
  readonly args: CreateCallArgs;
  readonly #broken: boolean;
  #listener: ClientListener | undefined;

  constructor(args: CreateCallArgs, broken: boolean) {
    this.args = args;
    this.#broken = broken;
  }

  start(_metadata: Metadata, listener: ClientListener): void {
    this.log.push("start");
    this.#listener = listener;
    if (this.#broken) throw new Error("broken");
  }

  sendMessageWithContext(_context: MessageContext, message: Buffer): void {
    this.log.push(`message ${message.toString()}`);
  }

  startRead(): void {
    this.log.push("startRead");
  }

  halfClose(): void {
    this.log.push("halfClose");
  }

  cancelWithStatus(code: status, details: string): void {
    this.log.push(`cancel ${status[code]} ${details}`);
    this.end(code);
  }

  getPeer(): string {
    return "10.0.0.1:443";
  }

  getCallNumber(): number {
    return 7;
  }

  setCredentials(): void {
    this.log.push("setCredentials");
  }

  getAuthContext(): ReturnType<ChannelCall["getAuthContext"]> {
    return {};
  }

  end(code = status.OK): void {
    this.#listener?.onReceiveStatus(ended(code));
  }
}

/** One connection, whose state the test sets. */
export class FakeChannel implements Channel {
  readonly calls: FakeChannelCall[] = [];
  state: connectivityState = connectivityState.IDLE;
  /** How often it was asked to connect. */
  connects = 0;
  closes = 0;
  /** Its calls throw when they are started. */
  broken = false;
  #watchers: { from: connectivityState; callback: (error?: Error) => void }[] = [];

  get watchers(): number {
    return this.#watchers.length;
  }

  enter(state: connectivityState): void {
    this.state = state;
    const due = this.#watchers.filter(({ from }) => from !== state);
    this.#watchers = this.#watchers.filter(({ from }) => from === state);
    for (const { callback } of due) callback();
  }

  close(): void {
    this.closes += 1;
    this.enter(connectivityState.SHUTDOWN);
  }

  getTarget(): string {
    return "dns:orders:8443";
  }

  getConnectivityState(tryToConnect: boolean): connectivityState {
    if (tryToConnect) this.connects += 1;
    return this.state;
  }

  watchConnectivityState(
    from: connectivityState,
    deadline: Date | number,
    callback: (error?: Error) => void,
  ): void {
    if (deadline !== Infinity) throw new Error("a deadline here is a timer that nobody clears");
    this.#watchers.push({ from, callback });
  }

  getChannelzRef(): ReturnType<Channel["getChannelzRef"]> {
    const ref: unknown = { kind: "channel", id: 1, name: this.getTarget() };
    return ref as ReturnType<Channel["getChannelzRef"]>;
  }

  createCall(...args: CreateCallArgs): FakeChannelCall {
    if (this.state === connectivityState.SHUTDOWN) throw new Error("Channel has been shut down");
    const call = new FakeChannelCall(args, this.broken);
    this.calls.push(call);
    return call;
  }
}

export interface FakeScene {
  readonly channel: PartitionedChannel;
  /** The connections in the order of the partitions. */
  readonly connections: readonly FakeChannel[];
  readonly errors: unknown[];
  /** Starts a call, and gives the connection it went to. */
  readonly start: (metadata?: Metadata, method?: string) => number;
}

export function fakeScene(options: PartitionedChannelOptions, clock = systemClock): FakeScene {
  const connections: FakeChannel[] = [];
  const errors: unknown[] = [];
  const open = () => {
    const connection = new FakeChannel();
    connections.push(connection);
    return connection;
  };
  const plan = resolvePartitionedChannelOptions({
    onError: (error) => errors.push(error),
    ...options,
  });
  const channel = new PartitionedChannel(plan, open, clock);
  const start = (metadata = new Metadata(), method = "/shop.v1.Orders/Get") => {
    const before = connections.map(({ calls }) => calls.length);
    createCall(channel, method).start(metadata, listener());
    return connections.findIndex(({ calls }, index) => calls.length !== before[index]);
  };
  return { channel, connections, errors, start };
}

export function createCall(
  channel: PartitionedChannel,
  method = "/shop.v1.Orders/Get",
): ChannelCall {
  return channel.createCall(method, Infinity, undefined, null, undefined);
}

/** A listener that notes the statuses it hears. */
export function listener(statuses: StatusObject[] = []): ClientListener {
  return {
    onReceiveMetadata: () => {},
    onReceiveMessage: () => {},
    onReceiveStatus: (received) => statuses.push(received),
  };
}

/** Calls in flight of all partitions. */
export function inFlight(channel: PartitionedChannel): number {
  return Object.values(channel.snapshot().partitions).reduce((sum, each) => sum + each.inFlight, 0);
}
