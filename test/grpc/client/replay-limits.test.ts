import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Metadata, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { callOf, ended, fakeBelow, Hearer, optionsOf, settled } from "./fake-call.js";
import { type Relaunch, relaunching } from "./relaunching-call.js";

/** Each message of the request takes this many bytes on the wire. */
const bytes = 12;
const message = (sequence: number) => ({ payload: Buffer.alloc(bytes - 4), sequence });

function setup(given: Relaunch, eager = true, options = optionsOf("bidi")) {
  const { calls, nextCall } = fakeBelow(eager);
  const { interceptor, calls: made } = relaunching(new VirtualClock(), given);
  interceptor(options, nextCall);
  const [call] = made;
  if (call === undefined) throw new Error("no call was made");
  const above = new Hearer();
  call.start(new Metadata(), above);
  const send = (count: number) => {
    for (let index = 1; index <= count; index++) call.sendMessage(message(index));
  };
  return { calls, call, above, send };
}

const messagesOf = (log: readonly string[]) => log.filter((entry) => entry.startsWith("message"));
const unavailable = () => ended(status.UNAVAILABLE, "not now");

describe("a streamed request that is kept for another attempt", () => {
  it("is measured by what it takes on the wire", () => {
    expect(optionsOf("bidi").method_definition.requestSerialize(message(1))).toHaveLength(bytes);
  });

  it.each([
    ["messages", { maxBufferMessages: 3, maxBufferBytes: 1 << 20 }],
    ["bytes", { maxBufferMessages: 1_000, maxBufferBytes: 3 * bytes }],
  ])("can be sent again up to its limit in %s, and not beyond", async (_unit, limits) => {
    const within = setup({ limits });
    within.send(3);
    expect(within.call.canReplay).toBe(true);
    await settled();
    callOf(within.calls).end(unavailable());
    await settled();
    expect(messagesOf(callOf(within.calls, 1).log)).toHaveLength(3);

    const beyond = setup({ limits });
    beyond.send(4);
    expect(beyond.call.canReplay).toBe(false);
    await settled();
    // The attempt that runs goes on with the whole of it; no other follows.
    expect(messagesOf(callOf(beyond.calls).log)).toHaveLength(4);
    callOf(beyond.calls).end(unavailable());
    expect(beyond.above.heard).toEqual(["status UNAVAILABLE"]);
    expect(beyond.calls).toHaveLength(1);
  });

  it("is kept not at all when the limit is 0", async () => {
    const { calls, call, send, above } = setup({
      limits: { maxBufferMessages: 0, maxBufferBytes: 0 },
    });
    expect(call.canReplay).toBe(true);
    send(1);
    expect(call.canReplay).toBe(false);
    await settled();
    callOf(calls).end(unavailable());
    expect(above.heard).toEqual(["status UNAVAILABLE"]);
  });

  it("leaves the attempt that has sent most of it alone with the rest", async () => {
    const { calls, send, call } = setup(
      { sideBySide: 2, limits: { maxBufferMessages: 3, maxBufferBytes: 1 << 20 } },
      false,
    );
    send(3);
    callOf(calls, 1).written();
    send(1);
    call.halfClose();
    expect(callOf(calls).log.at(-1)).toMatch(/^cancel CANCELLED/);
    for (let written = 0; written < 4; written++) callOf(calls, 1).written();
    expect(messagesOf(callOf(calls, 1).log)).toHaveLength(4);
    expect(callOf(calls, 1).log.at(-1)).toBe("half-close");
    await settled();
  });

  it("goes whole to the next attempt when it outgrows the limit between two, and to no other", async () => {
    const limits = { maxBufferMessages: 2, maxBufferBytes: 1 << 20 };
    const { calls, call, send, above } = setup({ waitMs: 100, attempts: 5, limits });
    send(2);
    await settled();
    callOf(calls).end(unavailable());
    send(2);
    call.halfClose();
    expect(call.canReplay).toBe(false);
    call.again();
    await settled();
    expect(messagesOf(callOf(calls, 1).log)).toHaveLength(4);
    expect(callOf(calls, 1).log.at(-1)).toBe("half-close");
    call.again();
    callOf(calls, 1).end(unavailable());
    expect(above.heard).toEqual(["status UNAVAILABLE"]);
    expect(calls).toHaveLength(2);
  });

  it("does not limit a single request", () => {
    const { calls, nextCall } = fakeBelow();
    const limits = { maxBufferMessages: 0, maxBufferBytes: 0 };
    const { interceptor } = relaunching(new VirtualClock(), { limits });
    const call = interceptor(optionsOf("unary"), nextCall);
    call.start(new Metadata(), new Hearer());
    call.sendMessage(message(1));
    callOf(calls).end(unavailable());
    expect(messagesOf(callOf(calls, 1).log)).toHaveLength(1);
  });

  it("takes a message that cannot be serialised as small: it fails where it is sent", async () => {
    const { calls, call } = setup({ limits: { maxBufferMessages: 5, maxBufferBytes: bytes } });
    call.sendMessage({ payload: "no buffer", sequence: {} });
    expect(call.canReplay).toBe(true);
    await settled();
    expect(messagesOf(callOf(calls).log)).toHaveLength(1);
  });
});

describe("a long request", () => {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");

  const alive = (all: readonly WeakRef<object>[]) =>
    all.filter((each) => each.deref() !== undefined).length;

  /** How many of a thousand messages are still held when all have been sent. */
  async function heldOf(commit: "before" | "under way" | "after" | "never"): Promise<number> {
    const given: WeakRef<object>[] = [];
    const kept: WeakRef<object>[] = [];
    const { method_definition: definition } = optionsOf("bidi");
    // So long that the bytes are kept as they come from here.
    const requestSerialize = (sequence: number) => {
      const serialized = Buffer.alloc(2_048, sequence);
      kept.push(new WeakRef(serialized));
      return serialized;
    };
    const options = { method_definition: { ...definition, requestSerialize } };
    const limits = { maxBufferMessages: 1e6, maxBufferBytes: 1e9 };
    const { calls, call } = setup({ limits }, true, options);
    if (commit === "before") callOf(calls).headers();
    for (let index = 1; index <= 1_000; index++) {
      const each = message(index);
      given.push(new WeakRef(each));
      call.sendMessage(each);
      if (commit === "under way" && index === 500) callOf(calls).headers();
      if (commit === "before" && index % 100 === 0) await settled();
    }
    await settled();
    if (commit === "after") callOf(calls).headers();
    if (typeof collect === "function") collect();
    expect(messagesOf(callOf(calls).log)).toHaveLength(1_000);
    // The caller's own objects are the caller's.
    expect(alive(given)).toBeLessThan(10);
    return alive(kept);
  }

  it.each(["before", "under way", "after"] as const)(
    "is let go of message by message when an attempt is committed %s",
    async (commit) => {
      expect(await heldOf(commit)).toBeLessThan(10);
    },
  );

  it("is kept as long as another attempt may need it", async () => {
    expect(await heldOf("never")).toBe(1_000);
  });
});
