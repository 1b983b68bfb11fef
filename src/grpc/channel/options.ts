import type { ChannelOptions, Metadata } from "@grpc/grpc-js";
import {
  InvalidOptionError,
  oneOf,
  optionalFunction,
  readOptions,
  wholeNumber,
} from "../../core/options.js";
import { type Priority, priorities } from "../../core/priority.js";
import type { ReportError } from "../../core/user-code.js";
import { environmentOf } from "../environment.js";

/**
 * What `partitionOf` sees of a call.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/connection-bulkhead.md
 */
export interface PlacedCall {
  /** `/pkg.Service/Method`. */
  readonly method: string;
  /** The priority in the metadata; `normal` where they have none, or an invalid one. */
  readonly priority: Priority;
  /** The metadata as they are sent to the server. Do not change them. */
  readonly metadata: Metadata;
}

/**
 * One partition of a channel: its size, and which calls use it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/connection-bulkhead.md
 */
export interface ChannelPartitionOptions {
  /**
   * HTTP/2 connections of this partition, a whole number from 1 to 100. Each is opened when it is first needed. With a
   * load balancer such as `round_robin`, this is the number of connections to every address. @defaultValue 1
   */
  readonly connections?: number;
  /** Only calls of these priorities use it. @defaultValue calls of any priority */
  readonly priorities?: readonly Priority[];
  /**
   * Only calls of these methods (`pkg.Service/Method`) or services (`pkg.Service`) use it.
   * @defaultValue calls of any method
   */
  readonly methods?: readonly string[];
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/connection-bulkhead.md */
export interface PartitionedChannelOptions<Name extends string = string> {
  /**
   * The partitions by name, from 1 to 100. A call uses the first of them whose `priorities` and `methods` both fit. A
   * name starts with a letter.
   */
  readonly partitions: Readonly<Record<Name, ChannelPartitionOptions>>;
  /**
   * Returns the name of a call's partition, or `undefined` to let `priorities` and `methods` decide. It runs for each
   * attempt. If it throws or returns another name, that is reported, and `priorities` and `methods` decide.
   */
  readonly partitionOf?: (call: PlacedCall) => NoInfer<Name> | undefined;
  /** The partition of calls that no other fits. @defaultValue the one partition without `priorities` and `methods` */
  readonly defaultPartition?: NoInfer<Name>;
  /**
   * Channel options of every connection. These differ from the defaults of grpc-js:
   *
   * - `grpc.use_local_subchannel_pool` is always 1, because each partition needs a connection of its own;
   * - service configs from DNS are off unless you switch them on, because a retry policy in one multiplies the
   *   attempts;
   * - a lost connection is tried again after 100 ms, and at most every 5 s, unless you set other times.
   *
   * @defaultValue none
   */
  readonly channelOptions?: ChannelOptions;
  /** Notified of what `partitionOf` throws. @defaultValue emits a process warning */
  readonly onError?: ReportError;
}

/** The resolved options of one partition. */
export interface PartitionPlan {
  readonly name: string;
  readonly connections: number;
  readonly priorities: ReadonlySet<string> | undefined;
  readonly methods: ReadonlySet<string> | undefined;
}

export interface ChannelPlan {
  readonly partitions: readonly PartitionPlan[];
  readonly defaultPartition: string;
  readonly partitionOf: PartitionedChannelOptions["partitionOf"];
  readonly channelOptions: ChannelOptions;
  readonly report: ReportError;
}

const prefix = "partitionedChannel";
const most = 100;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolvePartitionedChannelOptions(given: PartitionedChannelOptions): ChannelPlan {
  const options = readOptions(prefix, given, [
    "partitions",
    "partitionOf",
    "defaultPartition",
    "channelOptions",
    "onError",
  ]);
  const { partitionOf, onError, channelOptions: channels = {} } = options;
  optionalFunction(`${prefix}.partitionOf`, partitionOf);
  // With any key: grpc-js decides which options a channel has.
  const channelOptions = readOptions(`${prefix}.channelOptions`, channels);
  const partitions = readOptions(`${prefix}.partitions`, options.partitions);
  const plans = Object.entries(partitions).map(([name, own]) => planOf(name, own));
  wholeNumber(`number of ${prefix}.partitions`, plans.length, 1, most);
  return {
    partitions: plans,
    defaultPartition: defaultOf(plans, options),
    partitionOf,
    channelOptions: {
      "grpc.service_config_disable_resolution": 1,
      ...channelOptions,
      ...reconnectBackoff(channelOptions),
      // From the pool of the process, all partitions would get the same connection.
      "grpc.use_local_subchannel_pool": 1,
    },
    report: environmentOf(
      { clock: undefined, random: undefined, onDecision: undefined, onError },
      prefix,
    ).report,
  };
}

function planOf(name: string, given: ChannelPartitionOptions): PartitionPlan {
  const option = `${prefix}.partitions.${name}`;
  // JavaScript moves keys that are numbers to the front of an object, and the order matters.
  if (!/^[A-Za-z][\w.-]*$/.test(name)) {
    throw new InvalidOptionError(option, "named by a letter and then letters, digits, _ . -", name);
  }
  const own = readOptions(option, given, ["connections", "priorities", "methods"]);
  const { connections = 1 } = own;
  return {
    name,
    connections: wholeNumber(`${option}.connections`, connections, 1, most),
    priorities: setOf(`${option}.priorities`, own.priorities, (entry, at) =>
      oneOf(at, entry, priorities),
    ),
    methods: setOf(`${option}.methods`, own.methods, methodName),
  };
}

function setOf<T>(
  option: string,
  list: readonly T[] | undefined,
  read: (entry: T, option: string) => string,
): ReadonlySet<string> | undefined {
  if (list === undefined) return undefined;
  if (!Array.isArray(list) || list.length === 0) {
    throw new InvalidOptionError(option, "a list of at least one, or absent", list);
  }
  return new Set(list.map((entry: T, index) => read(entry, `${option}[${index}]`)));
}

function methodName(entry: string, option: string): string {
  if (typeof entry !== "string" || !/^\/?[\w.]+(\/\w+)?$/.test(entry)) {
    throw new InvalidOptionError(option, "pkg.Service/Method or pkg.Service", entry);
  }
  return entry.replace(/^\//, "");
}

function defaultOf(
  plans: readonly PartitionPlan[],
  { defaultPartition, partitionOf }: PartitionedChannelOptions,
): string {
  const names = plans.map(({ name }) => name);
  const open = plans.filter((plan) => plan.priorities === undefined && plan.methods === undefined);
  const option = `${prefix}.defaultPartition`;
  const chosen = defaultPartition ?? (open.length === 1 ? open[0]?.name : undefined);
  if (chosen === undefined) {
    const rule = "named, unless there is one partition without priorities and methods";
    throw new InvalidOptionError(option, rule, defaultPartition);
  }
  oneOf(option, chosen, names);
  // No call could use such a partition.
  const idle = open.find(({ name }) => name !== chosen);
  if (idle !== undefined && partitionOf === undefined) {
    const rule = "given priorities or methods: without partitionOf, no call would come to it";
    throw new InvalidOptionError(`${prefix}.partitions.${idle.name}`, rule, undefined);
  }
  return chosen;
}

const initialKey = "grpc.initial_reconnect_backoff_ms";
const maxKey = "grpc.max_reconnect_backoff_ms";

/**
 * The wait after the first failed connect, and the longest wait, in milliseconds. grpc-js multiplies it by 1.6 each
 * time.
 */
const initialMs = 100;
const maxMs = 5_000;

/**
 * Channel options that let a channel reconnect sooner: grpc-js waits a second at first, and up to two minutes later.
 * Options of the user's own stay, and the other default is adapted to them.
 */
export function reconnectBackoff(own: ChannelOptions): ChannelOptions {
  const { [initialKey]: ownInitialMs, [maxKey]: ownMaxMs } = own;
  return {
    [initialKey]: ownInitialMs ?? Math.min(initialMs, ownMaxMs ?? initialMs),
    [maxKey]: ownMaxMs ?? Math.max(maxMs, ownInitialMs ?? maxMs),
  };
}
