import { describe, expect, it } from "vitest";
import { WriteQueue } from "../../../src/grpc/client/forwarding-call.js";
import { FakeCall, optionsOf, settled, Writes } from "./fake-call.js";

function setup() {
  const queue = new WriteQueue(optionsOf().method_definition);
  const call = new FakeCall();
  const writes = new Writes();
  const thrown: unknown[] = [];
  const push = (message: string) => queue.push(writes.context(), message);
  const open = () => queue.open(call, (error) => thrown.push(error));
  return { queue, call, writes, thrown, push, open };
}

describe("a write queue", () => {
  it("hands on one message at a time, each after the write callback of the one before", () => {
    const { call, push, open } = setup();
    for (const message of ["a", "b", "c"]) push(message);
    open();
    expect(call.log).toEqual(["message a"]);
    call.written();
    expect(call.log).toEqual(["message a", "message b"]);
    call.written();
    expect(call.log).toEqual(["message a", "message b", "message c"]);
  });

  it("calls each write back when it is written, and only then", () => {
    const { call, writes, push, open } = setup();
    push("a");
    push("b");
    open();
    expect(writes.counts).toEqual([0, 0]);
    call.written();
    expect(writes.counts).toEqual([1, 0]);
    call.written();
    expect(writes.counts).toEqual([1, 1]);
  });

  it("sends the half-close with the last message, before that is called back", () => {
    const { queue, call, push, open } = setup();
    push("a");
    push("b");
    queue.halfClose();
    open();
    expect(call.log).toEqual(["message a"]);
    call.written();
    expect(call.log).toEqual(["message a", "message b", "half-close"]);
    call.written();
    expect(call.log).toEqual(["message a", "message b", "half-close"]);
  });

  it("sends a half-close that comes while the last message is out at once", () => {
    const { queue, call, push, open } = setup();
    open();
    push("a");
    queue.halfClose();
    expect(call.log).toEqual(["message a", "half-close"]);
  });

  it("sends the half-close of a request without messages when it is opened", () => {
    const { queue, call, open } = setup();
    queue.halfClose();
    expect(call.log).toEqual([]);
    open();
    expect(call.log).toEqual(["half-close"]);
  });

  it("is idle only while it is open and nothing is waiting or out", () => {
    const { queue, call, push, open } = setup();
    expect(queue.idle).toBe(false);
    open();
    expect(queue.idle).toBe(true);
    push("a");
    expect(queue.idle).toBe(false);
    push("b");
    call.written();
    expect(queue.idle).toBe(false);
    call.written();
    expect(queue.idle).toBe(true);
  });

  it("passes on the flags of a message", () => {
    const { queue, call, writes, open } = setup();
    queue.push(writes.context(2), "a");
    open();
    expect(call.flags).toEqual([2]);
  });

  it("hands on what is pushed inside a write callback, once and in order", () => {
    const { queue, call, writes, push, open } = setup();
    open();
    queue.push({ callback: () => push("b") }, "a");
    push("c");
    call.written();
    call.written();
    call.written();
    expect(call.log).toEqual(["message a", "message c", "message b"]);
    expect(writes.counts).toEqual([1, 1]);
  });

  it("calls every write back once, later, when it is abandoned", async () => {
    const { queue, call, writes, push, open } = setup();
    for (const message of ["a", "b", "c"]) push(message);
    open();
    queue.abandon();
    expect(writes.counts).toEqual([0, 0, 0]);
    await settled();
    expect(writes.counts).toEqual([1, 1, 1]);
    // What is called back after that is no longer told.
    call.written();
    await settled();
    expect(writes.counts).toEqual([1, 1, 1]);
    expect(call.log).toEqual(["message a"]);
  });

  it("sends nothing after it was abandoned", async () => {
    const { queue, call, push, open } = setup();
    open();
    queue.abandon();
    push("a");
    queue.halfClose();
    await settled();
    expect(call.log).toEqual([]);
  });

  it("takes messages that want no callback", async () => {
    const { queue, call, open } = setup();
    queue.push({}, "a");
    queue.push({}, "b");
    open();
    call.written();
    expect(call.log).toEqual(["message a", "message b"]);
    queue.abandon();
    await settled();
  });

  it.each(["message", "half-close"] as const)(
    "tells what the call throws over a %s, wherever that is handed on",
    async (what) => {
      const { queue, call, writes, thrown, push, open } = setup();
      const broken = new Error("broken");
      const fail = () => {
        throw broken;
      };
      open();
      push("a");
      push("b");
      queue.halfClose();
      if (what === "message") call.sendMessageWithContext = fail;
      else call.halfClose = fail;
      expect(() => call.written()).not.toThrow();
      expect(thrown[0]).toBe(broken);
      queue.abandon();
      await settled();
      expect(writes.counts).toEqual([1, 1]);
    },
  );
});
