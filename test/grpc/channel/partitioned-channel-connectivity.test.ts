import { connectivityState } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { fakeScene } from "./partitioned-channel-scene.js";

const { IDLE, CONNECTING, READY, TRANSIENT_FAILURE, SHUTDOWN } = connectivityState;
const two = { partitions: { a: { priorities: ["high"] }, b: {} } } as const;

function setup() {
  const clock = new VirtualClock();
  const scene = fakeScene(two, clock);
  const heard: (Error | undefined)[] = [];
  const watch = (from: connectivityState, deadline = Infinity) =>
    scene.channel.watchConnectivityState(from, deadline, (error) => heard.push(error));
  return { ...scene, clock, heard, watch };
}

describe("the state of the channel", () => {
  it.each([
    [[IDLE, IDLE], IDLE],
    [[IDLE, TRANSIENT_FAILURE], TRANSIENT_FAILURE],
    [[CONNECTING, TRANSIENT_FAILURE], CONNECTING],
    [[CONNECTING, READY], READY],
    [[TRANSIENT_FAILURE, READY], READY],
  ])("of connections in %o is %o", (states, expected) => {
    const { channel, connections } = setup();
    for (const [index, state] of states.entries()) connections[index]?.enter(state);
    expect(channel.getConnectivityState(false)).toBe(expected);
  });

  it("is SHUTDOWN once it is closed, and nothing connects any more", () => {
    const { channel, connections } = setup();
    channel.close();
    expect(channel.getConnectivityState(true)).toBe(SHUTDOWN);
    expect(connections.map(({ connects }) => connects)).toEqual([0, 0]);
  });

  it("lets all connections connect on demand, unless one is ready", () => {
    const { channel, connections } = setup();
    channel.getConnectivityState(false);
    expect(channel.getConnectivityState(true)).toBe(IDLE);
    expect(connections.map(({ connects }) => connects)).toEqual([1, 1]);
    connections[0]?.enter(READY);
    channel.getConnectivityState(true);
    expect(connections.map(({ connects }) => connects)).toEqual([1, 1]);
  });
});

describe("who watches the state", () => {
  it("hears once of the first change, of whichever connection", () => {
    const { connections, heard, watch } = setup();
    watch(IDLE);
    connections[1]?.enter(CONNECTING);
    connections[1]?.enter(READY);
    expect(heard).toEqual([undefined]);
  });

  it("does not hear of what changes nothing for the whole", () => {
    const { connections, heard, watch } = setup();
    connections[0]?.enter(READY);
    watch(READY);
    connections[1]?.enter(CONNECTING);
    connections[1]?.enter(READY);
    connections[0]?.enter(IDLE);
    expect(heard).toEqual([]);
    connections[1]?.enter(IDLE);
    expect(heard).toEqual([undefined]);
  });

  it("hears at once where the state is another already", async () => {
    const { connections, heard, watch } = setup();
    connections[0]?.enter(READY);
    watch(IDLE);
    expect(heard).toEqual([]);
    await new Promise<void>((resolve) => process.nextTick(resolve));
    expect(heard).toEqual([undefined]);
  });

  it.each([
    ["a number", (clock: VirtualClock) => clock.wallNow() + 1_000],
    ["a date", (clock: VirtualClock) => new Date(clock.wallNow() + 1_000) as unknown as number],
  ])("hears of an error when a deadline passes that is %s", async (_what, deadline) => {
    const { clock, connections, heard, watch } = setup();
    watch(IDLE, deadline(clock));
    await clock.pass(999);
    expect(heard).toEqual([]);
    await clock.pass(1);
    expect(heard.map(String)).toEqual(["Error: Deadline passed without connectivity state change"]);
    connections[0]?.enter(READY);
    expect(heard).toHaveLength(1);
  });

  it("hears nothing more from a timer once the state has changed", async () => {
    const { clock, connections, heard, watch } = setup();
    watch(IDLE, clock.wallNow() + 1_000);
    connections[0]?.enter(CONNECTING);
    await clock.pass(5_000);
    expect(heard).toEqual([undefined]);
  });

  it("hears of the close, and cannot watch after it", () => {
    const { channel, heard, watch } = setup();
    watch(IDLE);
    channel.close();
    expect(heard).toEqual([undefined]);
    expect(() => watch(SHUTDOWN)).toThrow("Channel has been shut down");
  });

  it("costs each connection one watcher, however many there are", () => {
    const { connections, watch } = setup();
    expect(connections.map(({ watchers }) => watchers)).toEqual([0, 0]);
    for (let n = 0; n < 100; n += 1) watch(IDLE);
    expect(connections.map(({ watchers }) => watchers)).toEqual([1, 1]);
    connections[0]?.enter(CONNECTING);
    connections[0]?.enter(READY);
    expect(connections.map(({ watchers }) => watchers)).toEqual([1, 1]);
  });

  it("may throw, and the next change is still heard", () => {
    const { channel, connections, heard, watch } = setup();
    channel.watchConnectivityState(IDLE, Infinity, () => {
      throw new Error("the user's own");
    });
    expect(() => connections[0]?.enter(CONNECTING)).toThrow("the user's own");
    watch(CONNECTING);
    connections[0]?.enter(READY);
    expect(heard).toEqual([undefined]);
  });

  it("may watch again from inside, for the next change", () => {
    const { channel, connections } = setup();
    const states: string[] = [];
    const follow = () => {
      const state = channel.getConnectivityState(false);
      states.push(connectivityState[state]);
      channel.watchConnectivityState(state, Infinity, follow);
    };
    follow();
    connections[0]?.enter(CONNECTING);
    connections[0]?.enter(READY);
    connections[0]?.enter(TRANSIENT_FAILURE);
    expect(states).toEqual(["IDLE", "CONNECTING", "READY", "TRANSIENT_FAILURE"]);
  });
});
