import { connectivityState } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { ChannelWatch } from "../../../src/grpc/channel/watch.js";
import { FakeChannel, fakeScene } from "./partitioned-channel-scene.js";

const { IDLE, CONNECTING, READY, TRANSIENT_FAILURE, SHUTDOWN } = connectivityState;

function setup(channel = new FakeChannel()) {
  const watch = ChannelWatch.of(channel);
  const heard: string[] = [];
  const hear = (name = "") =>
    watch.subscribe((state) => heard.push(`${name}${connectivityState[state]}`));
  return { channel, watch, heard, hear };
}

describe("the watch of a channel", () => {
  it("is one, and leaves one watcher on the channel however many listen or have listened", () => {
    const { channel, watch, hear } = setup();
    expect(ChannelWatch.of(channel)).toBe(watch);
    for (let times = 0; times < 100; times++) hear()();
    hear();
    channel.enter(CONNECTING);
    channel.enter(READY);
    expect(channel.watchers).toBe(1);
  });

  it("tells who listens of each change, and nobody who has been taken away", () => {
    const { channel, heard, hear } = setup();
    const stop = hear("a ");
    hear("b ");
    channel.enter(CONNECTING);
    stop();
    stop();
    channel.enter(READY);
    expect(heard).toEqual(["a CONNECTING", "b CONNECTING", "b READY"]);
  });

  it("does not tell one that another took away in the same change", () => {
    const { channel, watch, heard } = setup();
    let stop = () => {};
    watch.subscribe(() => stop());
    stop = watch.subscribe((state) => heard.push(connectivityState[state]));
    channel.enter(CONNECTING);
    expect(heard).toEqual([]);
  });

  it("never asks the channel to connect, idle or closed", () => {
    const { channel, watch } = setup();
    for (const state of [READY, IDLE, SHUTDOWN]) {
      channel.enter(state);
      expect(watch.state).toBe(state);
    }
    expect(channel.connects).toBe(0);
  });

  it("gives failures of the connection a running number", () => {
    const { channel, watch } = setup();
    const seen: number[] = [];
    watch.subscribe(() => seen.push(watch.failures));
    for (const state of [CONNECTING, TRANSIENT_FAILURE, CONNECTING, TRANSIENT_FAILURE, READY]) {
      channel.enter(state);
    }
    expect(seen).toEqual([0, 1, 1, 2, 2]);
  });

  it("has a number for a failure that was there before it", () => {
    const channel = new FakeChannel();
    channel.enter(TRANSIENT_FAILURE);
    expect(setup(channel).watch.failures).toBe(1);
  });
});

describe("a channel that is closed", () => {
  it("tells who listens, once, and stays closed when the channel is revived", () => {
    const { channel, watch, heard, hear } = setup();
    hear();
    channel.close();
    channel.enter(CONNECTING);
    channel.enter(READY);
    expect(heard).toEqual(["SHUTDOWN"]);
    expect(watch.closed).toBe(true);
    expect(watch.state).toBe(SHUTDOWN);
    expect(channel.watchers).toBe(0);
  });

  it("tells all of it when one that hears of another change closes it", () => {
    const { channel, watch, heard, hear } = setup();
    const stop = watch.subscribe(() => {
      stop();
      channel.close();
    });
    hear();
    channel.enter(CONNECTING);
    expect(heard).toEqual(["SHUTDOWN"]);
  });

  it("is known as closed where it was so before, and takes no listener", () => {
    const channel = new FakeChannel();
    channel.close();
    const { watch, heard, hear } = setup(channel);
    hear();
    channel.enter(IDLE);
    expect(watch.closed).toBe(true);
    expect(heard).toEqual([]);
  });

  it("is known as closed where it cannot be watched", () => {
    class Unwatchable extends FakeChannel {
      override watchConnectivityState(): void {
        throw new Error("not here");
      }
    }
    const { channel, watch } = setup(new Unwatchable());
    expect(watch.closed).toBe(false);
    channel.enter(READY);
    expect(watch.state).toBe(READY);
    channel.close();
    expect(watch.closed).toBe(true);
    channel.enter(IDLE);
    expect(watch.closed).toBe(true);
  });
});

describe("a channel of somebody's own", () => {
  it("that calls back at once is not watched in a loop", () => {
    class Eager extends FakeChannel {
      override watchConnectivityState(
        _from: connectivityState,
        _deadline: Date | number,
        callback: (error?: Error) => void,
      ): void {
        callback();
      }
    }
    expect(setup(new Eager()).watch.state).toBe(IDLE);
  });

  it("that calls back again and again without a change is left alone in the end", async () => {
    let callbacks = 0;
    class Noisy extends FakeChannel {
      override watchConnectivityState(
        _from: connectivityState,
        _deadline: Date | number,
        callback: (error?: Error) => void,
      ): void {
        queueMicrotask(() => {
          callbacks += 1;
          callback();
        });
      }
    }
    setup(new Noisy());
    await new Promise<void>((resolve) => setImmediate(resolve));
    expect(callbacks).toBeLessThan(50);
  });

  it("that throws when it is asked for its state is neither open nor closed", () => {
    class Silent extends FakeChannel {
      override getConnectivityState(): connectivityState {
        throw new Error("not here");
      }
    }
    const { watch } = setup(new Silent());
    expect(watch.state).toBeUndefined();
    expect(watch.closed).toBe(false);
  });

  it("may be a partitioned one: closing it is told, and it is watched once", () => {
    const { channel, connections } = fakeScene({
      partitions: { a: { priorities: ["high"] }, b: {} },
    });
    const watch = ChannelWatch.of(channel);
    const heard: string[] = [];
    watch.subscribe((state) => heard.push(connectivityState[state]));
    connections[0]?.enter(CONNECTING);
    connections[0]?.enter(READY);
    channel.close();
    expect(heard).toEqual(["CONNECTING", "READY", "SHUTDOWN"]);
    expect(connections.map(({ watchers }) => watchers)).toEqual([0, 0]);
  });
});
