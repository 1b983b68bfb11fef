import { credentials } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  type PartitionedChannelOptions,
  resolvePartitionedChannelOptions,
} from "../../../src/grpc/channel/options.js";
import { partitionedChannel } from "../../../src/grpc/channel/partitioned-channel.js";

const insecure = credentials.createInsecure();

function build(options: unknown, target: unknown = "127.0.0.1:1", by: unknown = insecure): void {
  partitionedChannel(
    target as string,
    by as typeof insecure,
    options as PartitionedChannelOptions,
  ).close();
}

describe("the options of a partitioned channel", () => {
  it.each([
    ["partitionedChannel", undefined],
    ["partitionedChannel", []],
    ["partitionedChannel.partition", { partitions: { a: {} }, partition: 1 }],
    ["partitionedChannel.partitions", {}],
    ["partitionedChannel.partitions", { partitions: [{}] }],
    ["number of partitionedChannel.partitions", { partitions: {} }],
    [
      "number of partitionedChannel.partitions",
      {
        partitions: Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`p${n}`, {}])),
        defaultPartition: "p0",
      },
    ],
    ["partitionedChannel.partitions.1", { partitions: { 1: {} } }],
    ["partitionedChannel.partitions.a", { partitions: { a: 3 } }],
    ["partitionedChannel.partitions.a.size", { partitions: { a: { size: 3 } } }],
    ["partitionedChannel.partitions.a.connections", { partitions: { a: { connections: 0 } } }],
    ["partitionedChannel.partitions.a.connections", { partitions: { a: { connections: 1.5 } } }],
    ["partitionedChannel.partitions.a.connections", { partitions: { a: { connections: 101 } } }],
    ["partitionedChannel.partitions.a.connections", { partitions: { a: { connections: NaN } } }],
    ["partitionedChannel.partitions.a.priorities", { partitions: { a: { priorities: "high" } } }],
    ["partitionedChannel.partitions.a.priorities", { partitions: { a: { priorities: [] } } }],
    [
      "partitionedChannel.partitions.a.priorities[1]",
      { partitions: { a: { priorities: ["high", "urgent"] } } },
    ],
    ["partitionedChannel.partitions.a.methods", { partitions: { a: { methods: [] } } }],
    ["partitionedChannel.partitions.a.methods[0]", { partitions: { a: { methods: ["a b"] } } }],
    ["partitionedChannel.partitions.a.methods[0]", { partitions: { a: { methods: ["a/b/c"] } } }],
    ["partitionedChannel.partitions.a.methods[0]", { partitions: { a: { methods: [/x/] } } }],
    ["partitionedChannel.partitionOf", { partitions: { a: {} }, partitionOf: "a" }],
    ["partitionedChannel.onError", { partitions: { a: {} }, onError: 1 }],
    ["partitionedChannel.channelOptions", { partitions: { a: {} }, channelOptions: null }],
    ["partitionedChannel.defaultPartition", { partitions: { a: {} }, defaultPartition: "b" }],
    // Nobody can tell where the rest goes.
    ["partitionedChannel.defaultPartition", { partitions: { a: { priorities: ["high"] } } }],
    [
      "partitionedChannel.defaultPartition",
      { partitions: { a: {}, b: {} }, partitionOf: () => "a" },
    ],
    // Nothing would ever go to b.
    ["partitionedChannel.partitions.b", { partitions: { a: {}, b: {} }, defaultPartition: "a" }],
  ])("refuse nonsense: %s", (option, options) => {
    expect(() => build(options)).toThrow(InvalidOptionError);
    expect(() => build(options)).toThrow(
      expect.objectContaining({ name: "InvalidOptionError", option }),
    );
  });

  it.each([null, 1, ""])("refuse the target %o", (target) => {
    const built = () => build({ partitions: { a: {} } }, target);
    expect(built).toThrow(/^partitionedChannel.target must be/);
  });

  it.each([undefined, {}])("refuse the credentials %o", (by) => {
    const built = () => build({ partitions: { a: {} } }, "127.0.0.1:1", by ?? null);
    expect(built).toThrow(/^partitionedChannel.credentials must be/);
  });

  it.each<[PartitionedChannelOptions, string, number]>([
    [{ partitions: { all: {} } }, "all", 1],
    [{ partitions: { all: { connections: 100 } } }, "all", 100],
    [{ partitions: { a: { priorities: ["high"] }, "b-2.c_d": {} } }, "b-2.c_d", 1],
    [{ partitions: { a: { methods: ["/pkg.Service/Method", "Service"] }, b: {} } }, "b", 1],
    [
      {
        partitions: { a: { priorities: ["high"] }, b: { priorities: ["low"], connections: 2 } },
        defaultPartition: "b",
      },
      "b",
      2,
    ],
    [{ partitions: { a: {}, b: {} }, partitionOf: () => "a", defaultPartition: "b" }, "b", 1],
  ])(
    "allow %o: the rest goes to %s, over so many connections: %i",
    (options, rest, connections) => {
      build(options);
      const { defaultPartition, partitions } = resolvePartitionedChannelOptions(options);
      const plan = partitions.find(({ name }) => name === defaultPartition);
      expect(plan).toMatchObject({ name: rest, connections });
    },
  );
});

describe("the channel options of every connection", () => {
  const optionsOf = (channelOptions: PartitionedChannelOptions["channelOptions"] = {}) =>
    resolvePartitionedChannelOptions({ partitions: { a: {} }, channelOptions }).channelOptions;

  it("keep service configs from DNS away unless told otherwise", () => {
    expect(optionsOf()["grpc.service_config_disable_resolution"]).toBe(1);
    const own = { "grpc.service_config_disable_resolution": 0 };
    expect(optionsOf(own)["grpc.service_config_disable_resolution"]).toBe(0);
  });

  it("let a connection that was lost be tried again soon, unless told otherwise", () => {
    const keys = ["grpc.initial_reconnect_backoff_ms", "grpc.max_reconnect_backoff_ms"] as const;
    expect(keys.map((key) => optionsOf()[key])).toEqual([100, 5_000]);
    expect(keys.map((key) => optionsOf({ [keys[0]]: 700 })[key])).toEqual([700, 5_000]);
  });

  it("never share connections, whatever is asked for", () => {
    const own = { "grpc.use_local_subchannel_pool": 0, "grpc.keepalive_time_ms": 5 };
    expect(optionsOf(own)).toMatchObject({
      "grpc.use_local_subchannel_pool": 1,
      "grpc.keepalive_time_ms": 5,
    });
  });
});
