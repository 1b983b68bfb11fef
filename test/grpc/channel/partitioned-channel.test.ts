import { connectivityState, credentials, Metadata, propagate, status } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import {
  createCall,
  type ended,
  fakeScene,
  inFlight,
  listener,
  withPriority,
} from "./partitioned-channel-scene.js";

const three = { partitions: { all: { connections: 3 } } } as const;
const turn = () => new Promise<void>((resolve) => process.nextTick(resolve));

describe("inside a partition", () => {
  it("calls take turns while all connections have as many", () => {
    const { start } = fakeScene(three);
    expect([start(), start(), start(), start(), start(), start()]).toEqual([0, 1, 2, 0, 1, 2]);
  });

  it("a call goes to the connection with the fewest in flight", () => {
    const { start, connections } = fakeScene(three);
    for (let n = 0; n < 6; n += 1) start();
    for (const call of connections[1]?.calls ?? []) call.end();
    expect([start(), start()]).toEqual([1, 1]);
    connections[2]?.calls[0]?.end();
    expect(start()).toBe(2);
  });

  it("a connection that cannot connect comes last, however empty it is", () => {
    const { start, connections } = fakeScene(three);
    const [, second] = connections;
    second?.enter(connectivityState.TRANSIENT_FAILURE);
    expect([start(), start(), start(), start()]).toEqual([0, 2, 0, 2]);
    second?.enter(connectivityState.READY);
    expect([start(), start()]).toEqual([1, 1]);
  });

  it("calls still take turns where none can connect", () => {
    const { start, connections } = fakeScene(three);
    for (const each of connections) each.enter(connectivityState.TRANSIENT_FAILURE);
    const went = [start(), start(), start()];
    for (const { calls } of connections) for (const call of calls) call.end(status.UNAVAILABLE);
    expect([...went, start()]).toEqual([0, 1, 2, 0]);
  });

  it("whatever starts and ends: nobody is fuller than the chosen one, and all counts return to zero", () => {
    const steps = fc.array(fc.oneof(fc.constant("start" as const), fc.nat(50)), { maxLength: 80 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 5 }), (moves, size) => {
        const scene = fakeScene({ partitions: { all: { connections: size } } });
        const running: { at: number; end: () => void }[] = [];
        for (const move of moves) {
          if (move !== "start") {
            running.splice(move % Math.max(running.length, 1), 1)[0]?.end();
            continue;
          }
          const load = scene.connections.map(
            (_, index) => running.filter(({ at }) => at === index).length,
          );
          const at = scene.start();
          expect(load[at]).toBe(Math.min(...load));
          const call = scene.connections[at]?.calls.at(-1);
          running.push({ at, end: () => call?.end() });
          expect(inFlight(scene.channel)).toBe(running.length);
        }
        for (const { end } of running) end();
        expect(inFlight(scene.channel)).toBe(0);
      }),
    );
  });
});

describe("a call", () => {
  it("passes everything on, from the start on", () => {
    const { channel, connections } = fakeScene(three);
    const call = createCall(channel);
    expect(connections.flatMap(({ calls }) => calls)).toEqual([]);
    expect([call.getPeer(), call.getAuthContext(), call.getCallNumber()]).toEqual([
      "dns:orders:8443",
      null,
      0,
    ]);
    call.setCredentials(credentials.createFromMetadataGenerator(() => {}));
    call.start(new Metadata(), listener());
    call.sendMessageWithContext({}, Buffer.from("a"));
    call.startRead();
    call.halfClose();
    const below = connections[0]?.calls[0];
    expect(below?.log).toEqual(["setCredentials", "start", "message a", "startRead", "halfClose"]);
    expect([call.getPeer(), call.getAuthContext(), call.getCallNumber()]).toEqual([
      "10.0.0.1:443",
      {},
      7,
    ]);
  });

  it("keeps what comes before the start", () => {
    const { channel, connections } = fakeScene(three);
    const call = createCall(channel);
    call.startRead();
    call.sendMessageWithContext({}, Buffer.from("a"));
    call.halfClose();
    call.start(new Metadata(), listener());
    expect(connections[0]?.calls[0]?.log).toEqual(["start", "startRead", "message a", "halfClose"]);
  });

  it("gives deadline, host, parent and flags to the connection", () => {
    const { channel, connections } = fakeScene(three);
    channel
      .createCall("/s.S/M", 1e12, "other", null, propagate.DEADLINE)
      .start(new Metadata(), listener());
    expect(connections[0]?.calls[0]?.args).toEqual([
      "/s.S/M",
      1e12,
      "other",
      null,
      propagate.DEADLINE,
    ]);
  });

  it("that is never started counts for nothing", () => {
    const { channel, connections } = fakeScene(three);
    createCall(channel);
    createCall(channel).cancelWithStatus(status.CANCELLED, "not needed");
    expect(inFlight(channel)).toBe(0);
    expect(connections.flatMap(({ calls }) => calls)).toEqual([]);
  });

  it("that was cancelled before its start ends with that status, once, and touches no connection", async () => {
    const { channel, connections } = fakeScene(three);
    const statuses: ReturnType<typeof ended>[] = [];
    const call = createCall(channel);
    call.cancelWithStatus(status.CANCELLED, "first");
    call.cancelWithStatus(status.ABORTED, "second");
    await turn();
    call.start(new Metadata(), listener(statuses));
    expect(statuses).toEqual([]);
    await turn();
    expect(statuses).toMatchObject([{ code: status.CANCELLED, details: "first" }]);
    expect(connections.flatMap(({ calls }) => calls)).toEqual([]);
  });

  it("that starts after the channel was closed ends as closed", async () => {
    const { channel } = fakeScene(three);
    const statuses: ReturnType<typeof ended>[] = [];
    const call = createCall(channel);
    channel.close();
    call.start(new Metadata(), listener(statuses));
    await turn();
    expect(statuses).toMatchObject([{ code: status.UNAVAILABLE }]);
    expect(statuses.map((each) => rejectionOf(each)?.reason)).toEqual(["CLOSED"]);
    expect(inFlight(channel)).toBe(0);
  });

  it("that the connection throws over gives its place back and ends", async () => {
    const { channel, connections } = fakeScene(three);
    for (const each of connections) each.broken = true;
    const statuses: ReturnType<typeof ended>[] = [];
    createCall(channel).start(new Metadata(), listener(statuses));
    await turn();
    expect(statuses).toMatchObject([{ code: status.INTERNAL }]);
    expect(connections[0]?.calls[0]?.log).toEqual([
      "start",
      "cancel INTERNAL Call could not be started: broken",
    ]);
    expect(inFlight(channel)).toBe(0);
  });

  it("that hears two ends leaves its connection once", () => {
    const { channel, connections, start } = fakeScene(three);
    start();
    start();
    connections[0]?.calls[0]?.end();
    connections[0]?.calls[0]?.end(status.CANCELLED);
    expect(inFlight(channel)).toBe(1);
  });

  it("whose listener throws has left its connection", () => {
    const { channel, connections } = fakeScene(three);
    const broken = {
      ...listener(),
      onReceiveStatus: () => {
        throw new Error("the user's own");
      },
    };
    createCall(channel).start(new Metadata(), broken);
    expect(() => connections[0]?.calls[0]?.end()).toThrow("the user's own");
    expect(inFlight(channel)).toBe(0);
  });
});

describe("a call with a parent", () => {
  type Parent = Parameters<ReturnType<typeof fakeScene>["channel"]["createCall"]>[3];

  function startWith(flags: number | undefined, cancelled: readonly [boolean, boolean]): string[] {
    const { channel, connections } = fakeScene(three);
    const parent = { cancelled: cancelled[0] };
    const given = parent as unknown as Parent;
    const call = channel.createCall("/s.S/M", Infinity, undefined, given, flags);
    [, parent.cancelled] = cancelled;
    call.start(new Metadata(), listener());
    return connections[0]?.calls[0]?.log ?? [];
  }
  const cancelled = ["start", "cancel CANCELLED Cancelled by parent call"];

  it("is cancelled with a parent that was cancelled between its creation and its start", () => {
    expect(startWith(undefined, [false, true])).toEqual(cancelled);
    expect(startWith(propagate.CANCELLATION, [false, true])).toEqual(cancelled);
  });

  it("goes on where it is not to hear of that, where the parent lives, or had ended before", () => {
    expect(startWith(propagate.DEADLINE, [false, true])).toEqual(["start"]);
    expect(startWith(undefined, [false, false])).toEqual(["start"]);
    expect(startWith(undefined, [true, true])).toEqual(["start"]);
  });
});

describe("the channel", () => {
  it("has the numbers of each partition and connection", () => {
    const { channel, start, connections } = fakeScene({
      partitions: { urgent: { priorities: ["high"], connections: 2 }, rest: {} },
    });
    connections[1]?.enter(connectivityState.READY);
    for (let n = 0; n < 3; n += 1) start(withPriority("high"));
    start();
    connections[0]?.calls[0]?.end();
    expect(channel.snapshot()).toEqual({
      partitions: {
        urgent: {
          inFlight: 2,
          started: 3,
          connections: [
            { state: "IDLE", inFlight: 1, started: 2 },
            { state: "READY", inFlight: 1, started: 1 },
          ],
        },
        rest: {
          inFlight: 1,
          started: 1,
          connections: [{ state: "IDLE", inFlight: 1, started: 1 }],
        },
      },
    });
  });

  it("has one target and a reference for channelz", () => {
    const { channel } = fakeScene(three);
    expect(channel.getTarget()).toBe("dns:orders:8443");
    expect(channel.getChannelzRef()).toMatchObject({ kind: "channel" });
  });

  it("refuses what grpc-js refuses, in its words", () => {
    const { channel } = fakeScene(three);
    const create = (method: unknown, deadline: unknown) =>
      channel.createCall(method as string, deadline as number, undefined, null, undefined);
    expect(() => create(1, Infinity)).toThrow(TypeError);
    expect(() => create("/s.S/M", "500")).toThrow("deadline must be a number or Date");
    channel.close();
    expect(() => create("/s.S/M", Infinity)).toThrow("Channel has been shut down");
  });

  it("closes each connection once, and leaves calls on them to end", () => {
    const { channel, connections, start } = fakeScene(three);
    start();
    channel.close();
    channel.close();
    expect(connections.map(({ closes }) => closes)).toEqual([1, 1, 1]);
    expect(inFlight(channel)).toBe(1);
    connections[0]?.calls[0]?.end();
    expect(inFlight(channel)).toBe(0);
  });
});
