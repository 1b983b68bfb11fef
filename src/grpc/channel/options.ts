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

/** What a call tells of itself when its partition is chosen. */
export interface PlacedCall {
  /** `/pkg.Service/Method`. */
  readonly method: string;
  /** Of the metadata; `normal` where it names none, or nonsense. */
  readonly priority: Priority;
  /** As it goes to the server. To be read, not to be changed. */
  readonly metadata: Metadata;
}

/** One partition of a channel: its size, and which calls are its own. */
export interface ChannelPartitionOptions {
  /**
   * HTTP/2 connections of this partition, a whole number from 1 to 100. Each is opened when it is first needed.
   * Under a balancer such as `round_robin` each stands for one to every address. @defaultValue 1
   */
  readonly connections?: number;
  /** Takes calls of these priorities only. @defaultValue calls of any priority */
  readonly priorities?: readonly Priority[];
  /**
   * Takes calls of these methods (`pkg.Service/Method`) or services (`pkg.Service`) only.
   * @defaultValue calls of any method
   */
  readonly methods?: readonly string[];
}

export interface PartitionedChannelOptions<Name extends string = string> {
  /**
   * The partitions by name, from 1 to 100. A call goes to the first, in the order written, whose `priorities` and
   * `methods` both fit. A name starts with a letter.
   */
  readonly partitions: Readonly<Record<Name, ChannelPartitionOptions>>;
  /**
   * Names the partition of a call; `undefined` leaves it to the rules of the partitions. It runs for each attempt.
   * If it throws or names none that there is, that is reported, and the rules decide.
   */
  readonly partitionOf?: (call: PlacedCall) => NoInfer<Name> | undefined;
  /** Takes the calls that no rule fits. @defaultValue the one partition without `priorities` and `methods` */
  readonly defaultPartition?: NoInfer<Name>;
  /**
   * Channel options of every connection. `grpc.use_local_subchannel_pool` is always 1, and service configs from DNS
   * are off unless you say otherwise: a retry policy in one would multiply the attempts. A connection that is lost is
   * tried again after 100 ms, and at last every 5 s, unless you say otherwise. @defaultValue none
   */
  readonly channelOptions?: ChannelOptions;
  /** Hears of what `partitionOf` throws. @defaultValue a process warning */
  readonly onError?: ReportError;
}

/** One partition as it is to be made. */
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
  // Any key will do: which options a channel knows is for grpc-js to say.
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
      // Out of the pool of the process, all partitions would be given the same connection.
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
  // A name like a number would change the order: JavaScript puts such keys first.
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
  // Nothing could ever lead to it.
  const idle = open.find(({ name }) => name !== chosen);
  if (idle !== undefined && partitionOf === undefined) {
    const rule = "given priorities or methods: without partitionOf, no call would come to it";
    throw new InvalidOptionError(`${prefix}.partitions.${idle.name}`, rule, undefined);
  }
  return chosen;
}

const initialKey = "grpc.initial_reconnect_backoff_ms";
const maxKey = "grpc.max_reconnect_backoff_ms";

/** The wait after the first failed attempt to connect, and the longest; grpc-js lets it grow by 1.6 each time. */
const initialMs = 100;
const maxMs = 5_000;

/**
 * How soon a channel connects again: grpc-js would wait a second at first and up to two minutes later. What the
 * options say themselves stays as it is, and a default that would contradict it gives way.
 */
export function reconnectBackoff(own: ChannelOptions): ChannelOptions {
  const { [initialKey]: ownInitialMs, [maxKey]: ownMaxMs } = own;
  return {
    [initialKey]: ownInitialMs ?? Math.min(initialMs, ownMaxMs ?? initialMs),
    [maxKey]: ownMaxMs ?? Math.max(maxMs, ownInitialMs ?? maxMs),
  };
}
