import { connectivityState, credentials, Metadata, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { resolvePartitionedChannelOptions } from "../../../src/grpc/channel/options.js";
import { PartitionedChannel } from "../../../src/grpc/channel/partitioned-channel.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { InMemoryChannel } from "../../../src/testing/in-memory/channel.js";
import { InMemoryNetwork } from "../../../src/testing/in-memory/network.js";
import { InMemoryServer } from "../../../src/testing/in-memory/server.js";
import { createWeir } from "../../../src/weir.js";
import { inFlight, withPriority } from "../../grpc/channel/partitioned-channel-scene.js";
import { type HandlerCall, handlers, kinds, startCall } from "../../scene.js";

/** A client over a partitioned channel whose connections are in memory, under virtual time. */
function setup(
  before: (call: HandlerCall, answer: () => void) => void = (_call, answer) => answer(),
) {
  const clock = new VirtualClock();
  const network = new InMemoryNetwork(clock, seededRandom(1), {});
  const server = new InMemoryServer("127.0.0.1:40001", network, {
    service: ConformanceServiceService,
    implementation: handlers(before),
  });
  const plan = resolvePartitionedChannelOptions({
    partitions: { urgent: { priorities: ["high"], connections: 2 }, rest: {} },
  });
  const channel = new PartitionedChannel(
    plan,
    () => new InMemoryChannel(server, network, {}),
    clock,
  );
  const weir = createWeir({ clock, random: seededRandom(2) });
  const client = new ConformanceServiceClient(channel.getTarget(), credentials.createInsecure(), {
    ...weir.client({ retry: { backoff: { baseMs: 10 } } }),
    channelOverride: channel,
  });
  return { clock, server, channel, client, weir };
}

describe.each(kinds)("a %s call", (kind) => {
  it("is answered, in its partition", async () => {
    const { clock, channel, client } = setup();
    const { ended } = startCall(client, kind, {}, withPriority("high"));
    const end = await clock.until(ended);
    expect(end.code).toBe(status.OK);
    expect(end.received.length).toBeGreaterThan(0);
    const { urgent, rest } = channel.snapshot().partitions;
    expect([urgent?.started, rest?.started, inFlight(channel)]).toEqual([1, 0, 0]);
  });

  it("hears of the server's error, and is counted out", async () => {
    const { clock, channel, client } = setup(({ fail }) =>
      fail({ code: status.NOT_FOUND, details: "no such order" }),
    );
    const { ended } = startCall(client, kind, {}, new Metadata());
    const end = await clock.until(ended);
    expect(end).toMatchObject({ code: status.NOT_FOUND, details: "no such order" });
    expect(inFlight(channel)).toBe(0);
  });

  it("can be cancelled, at once and under way", async () => {
    const { clock, channel, client } = setup(() => {});
    for (const waitMs of [0, 50]) {
      const { ended, cancel } = startCall(client, kind, {}, new Metadata());
      if (waitMs > 0) await clock.pass(waitMs);
      cancel();
      expect((await clock.until(ended)).code).toBe(status.CANCELLED);
    }
    await clock.pass(100);
    expect(inFlight(channel)).toBe(0);
  });

  it("ends by its deadline", async () => {
    const { clock, channel, client } = setup(() => {});
    const options = { deadline: clock.wallNow() + 200 };
    const { ended } = startCall(client, kind, options, new Metadata());
    await clock.pass(100);
    expect(inFlight(channel)).toBe(1);
    expect((await clock.until(ended)).code).toBe(status.DEADLINE_EXCEEDED);
    await clock.pass(1_000);
    expect(inFlight(channel)).toBe(0);
  });

  it("ends with the server", async () => {
    const { clock, server, channel, client } = setup(() => {});
    const { ended } = startCall(
      client,
      kind,
      { deadline: clock.wallNow() + 60_000 },
      new Metadata(),
    );
    await clock.pass(50);
    server.crash();
    expect((await clock.until(ended, 70_000)).code).toBe(status.UNAVAILABLE);
    expect(inFlight(channel)).toBe(0);
  });
});

it("attempts of one call are made in its partition, and policies see one target", async () => {
  let failures = 2;
  const { clock, channel, client, weir } = setup(({ fail }, answer) => {
    failures -= 1;
    if (failures >= 0) fail({ code: status.UNAVAILABLE, details: "not now" });
    else answer();
  });
  const { ended } = startCall(client, "unary", weir.with({}, { priority: "high" }), new Metadata());
  expect((await clock.until(ended)).code).toBe(status.OK);
  const { urgent, rest } = channel.snapshot().partitions;
  expect(urgent?.connections.map(({ started }) => started)).toEqual([2, 1]);
  expect(rest?.started).toBe(0);
  expect(JSON.stringify(weir.policy("breaker").snapshot())).toContain(channel.getTarget());
});

it("waitForReady of a client opens every connection, and waits for the first", async () => {
  const { clock, channel, client } = setup();
  const ready = new Promise<Error | undefined>((resolve) => {
    client.waitForReady(clock.wallNow() + 1_000, resolve);
  });
  expect(await clock.until(ready)).toBeUndefined();
  await clock.pass(10);
  const states = Object.values(channel.snapshot().partitions).flatMap(({ connections }) =>
    connections.map(({ state }) => state),
  );
  expect(states).toEqual(["READY", "READY", "READY"]);
});

it("a client that is closed refuses new calls, and its channel is shut down", () => {
  const { channel, client } = setup();
  client.close();
  expect(channel.getConnectivityState(false)).toBe(connectivityState.SHUTDOWN);
});
