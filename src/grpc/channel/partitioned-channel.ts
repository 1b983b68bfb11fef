import {
  ChannelCredentials,
  Channel as Connection,
  connectivityState,
  type Metadata,
} from "@grpc/grpc-js";
import { type Clock, systemClock } from "../../core/clock.js";
import { InvalidOptionError, shown } from "../../core/options.js";
import type { Priority } from "../../core/priority.js";
import { ask, keyText } from "../../core/user-code.js";
import { readPriority } from "../metadata.js";
import { type Channel, type ChannelCall, serviceOf } from "../types.js";
import {
  type ChannelPartitionSnapshot,
  Partition,
  type PartitionConnection,
  PartitionedCall,
} from "./call.js";
import { Connectivity } from "./connectivity.js";
import {
  type ChannelPlan,
  type PartitionedChannelOptions,
  type PartitionPlan,
  resolvePartitionedChannelOptions,
} from "./options.js";

/**
 * The numbers of a partitioned channel at one moment, by partition.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/connection-bulkhead.md
 */
export interface PartitionedChannelSnapshot<Name extends string = string> {
  readonly partitions: Readonly<Record<Name, ChannelPartitionSnapshot>>;
}

type CreateCallArgs = Parameters<Channel["createCall"]>;

/**
 * A channel that uses different connections for different classes of calls. Give it to a client as `channelOverride`;
 * to the client it is one channel to one target.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/connection-bulkhead.md
 */
export class PartitionedChannel<Name extends string = string> implements Channel {
  readonly #partitions: ReadonlyMap<string, Partition>;
  readonly #first: Channel;
  readonly #partitionOf: PartitionOf;
  readonly #connectivity: Connectivity;
  readonly #choose: (method: string, metadata: Metadata) => PartitionConnection;

  /** Made with `partitionedChannel`. */
  constructor(plan: ChannelPlan, open: () => Channel, clock: Clock) {
    this.#partitionOf = partitionBy(plan);
    const partitions = plan.partitions.map(
      ({ name, connections }) => [name, new Partition(connections, open)] as const,
    );
    this.#partitions = new Map(partitions);
    this.#first = this.#named(plan.defaultPartition).connections[0].channel;
    const channels = partitions.flatMap(([, { connections }]) =>
      connections.map(({ channel }) => channel),
    );
    this.#connectivity = new Connectivity(channels, clock);
    this.#choose = (method, metadata) => this.#connectionOf(method, metadata);
  }

  /** The target as grpc-js writes it: `dns:orders:8443`. */
  getTarget(): string {
    return this.#first.getTarget();
  }

  /**
   * READY if any connection is; else CONNECTING, TRANSIENT_FAILURE or IDLE, if any is.
   *
   * @param tryToConnect Lets all idle connections connect, unless one is ready.
   */
  getConnectivityState(tryToConnect: boolean): connectivityState {
    const { state, closed } = this.#connectivity;
    if (tryToConnect && !closed && state !== connectivityState.READY) this.#connectivity.connect();
    return state;
  }

  watchConnectivityState(
    currentState: connectivityState,
    deadline: Date | number,
    callback: (error?: Error) => void,
  ): void {
    this.#mustBeOpen();
    this.#connectivity.watch(currentState, deadline, callback);
  }

  /** The reference of one connection, because only channels of grpc-js can register with channelz. */
  getChannelzRef(): ReturnType<Channel["getChannelzRef"]> {
    return this.#first.getChannelzRef();
  }

  createCall(...args: CreateCallArgs): ChannelCall {
    const [method, deadline, host, parent, propagateFlags] = args;
    if (typeof method !== "string") {
      throw new TypeError("Channel#createCall: method must be a string");
    }
    if (!(typeof deadline === "number" || deadline instanceof Date)) {
      throw new TypeError("Channel#createCall: deadline must be a number or Date");
    }
    this.#mustBeOpen();
    const choose = this.#choose;
    const target = this.getTarget();
    return new PartitionedCall({ method, deadline, host, parent, propagateFlags, target, choose });
  }

  /** Closes all connections. Calls that run are left to end, as with any channel. */
  close(): void {
    if (!this.#connectivity.closed) this.#connectivity.close();
  }

  snapshot(): PartitionedChannelSnapshot<Name> {
    const numbers = [...this.#partitions].map(
      ([name, partition]) => [name, partition.snapshot()] as const,
    );
    // The partitions were made from an object with these names.
    const partitions = Object.fromEntries(numbers) as Record<Name, ChannelPartitionSnapshot>;
    return { partitions };
  }

  #connectionOf(method: string, metadata: Metadata): PartitionConnection {
    this.#mustBeOpen();
    return this.#named(this.#partitionOf(method, metadata)).pick();
  }

  #named(name: string): Partition {
    const partition = this.#partitions.get(name);
    // `resolvePartitionedChannelOptions` and `partitionBy` return known names only.
    if (partition === undefined) throw new Error(`There is no partition ${name}`);
    return partition;
  }

  #mustBeOpen(): void {
    // The text of grpc-js.
    if (this.#connectivity.closed) throw new Error("Channel has been shut down");
  }
}

/**
 * A bulkhead of connections: different classes of calls use different HTTP/2 connections, so that one class cannot use
 * up what the calls of a connection share: its streams, its flow-control window and its socket.
 *
 * Give it to a client as `channelOverride`, with the client's own target and credentials. Give the channel options
 * here: a client with a `channelOverride` ignores its own.
 *
 * It does not limit how many calls run at once; a bulkhead does.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/connection-bulkhead.md
 */
export function partitionedChannel<Name extends string>(
  target: string,
  credentials: ChannelCredentials,
  options: PartitionedChannelOptions<Name>,
): PartitionedChannel<Name> {
  if (typeof target !== "string" || target === "") {
    throw new InvalidOptionError("partitionedChannel.target", "a target", target);
  }
  if (!(credentials instanceof ChannelCredentials)) {
    throw new InvalidOptionError(
      "partitionedChannel.credentials",
      "channel credentials",
      credentials,
    );
  }
  const plan = resolvePartitionedChannelOptions(options);
  const open = () => new Connection(target, credentials, plan.channelOptions);
  return new PartitionedChannel(plan, open, systemClock);
}

/** Chooses the partition of a call by name. */
export type PartitionOf = (method: string, metadata: Metadata) => string;

/** By the user's function, else by the first rule that fits, else the default. */
function partitionBy(plan: ChannelPlan): PartitionOf {
  const { partitions, partitionOf, defaultPartition, report } = plan;
  const ruled = partitions.filter(
    (each) => each.priorities !== undefined || each.methods !== undefined,
  );
  const byRule = (method: string, priority: Priority) =>
    ruled.find((each) => fits(each, method, priority))?.name ?? defaultPartition;
  if (partitionOf === undefined) {
    return (method, metadata) => byRule(method, priorityOf(metadata));
  }
  const names = new Set(partitions.map(({ name }) => name));
  const known = (answer: unknown): string | undefined => {
    const named = keyText(answer);
    if (named === undefined || names.has(named)) return named;
    const text = `There is no partition ${shown(named)}, only ${[...names].join(", ")}`;
    throw new TypeError(text);
  };
  return (method, metadata) => {
    const priority = priorityOf(metadata);
    const question = () => partitionOf({ method, priority, metadata });
    return ask(question, known, undefined, report, "partitionOf") ?? byRule(method, priority);
  };
}

function fits({ priorities, methods }: PartitionPlan, path: string, priority: Priority): boolean {
  if (priorities?.has(priority) === false) return false;
  if (methods === undefined) return true;
  return methods.has(path.replace(/^\//, "")) || methods.has(serviceOf(path));
}

function priorityOf(metadata: Metadata): Priority {
  const read = readPriority(metadata);
  return read === "absent" || read === "invalid" ? "normal" : read;
}
