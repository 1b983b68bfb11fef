import { Metadata, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { callOf, ended, fakeBelow, Hearer, optionsOf, settled, Writes } from "./fake-call.js";
import { PutOffCall } from "./put-off-call.js";

function setup() {
  const { calls, nextCall } = fakeBelow();
  const call = new PutOffCall(optionsOf("bidi"), nextCall);
  const above = new Hearer();
  const writes = new Writes();
  const send = (message: string) => call.sendMessageWithContext(writes.context(), message);
  /** What the call below has been handed, behind its start. */
  const handed = () => callOf(calls).log.slice(1);
  const written = () => callOf(calls).written();
  call.start(new Metadata(), above);
  return { calls, call, above, writes, send, handed, written };
}

describe("the messages of a call whose start is put off", () => {
  it("are handed on one at a time, each after the write callback of the one before", () => {
    const { call, send, handed, written } = setup();
    for (const message of ["a", "b", "c"]) send(message);
    call.go();
    expect(handed()).toEqual(["message a"]);
    written();
    expect(handed()).toEqual(["message a", "message b"]);
    written();
    expect(handed()).toEqual(["message a", "message b", "message c"]);
  });

  it("are each called back when they are written, and only then", () => {
    const { call, writes, send, written } = setup();
    send("a");
    send("b");
    call.go();
    expect(writes.counts).toEqual([0, 0]);
    written();
    expect(writes.counts).toEqual([1, 0]);
    written();
    expect(writes.counts).toEqual([1, 1]);
  });

  it("have the half-close with the last of them, before that is called back", () => {
    const { call, send, handed, written } = setup();
    send("a");
    send("b");
    call.halfClose();
    call.go();
    expect(handed()).toEqual(["message a"]);
    written();
    expect(handed()).toEqual(["message a", "message b", "half-close"]);
    written();
    expect(handed()).toEqual(["message a", "message b", "half-close"]);
  });

  it.each(["before", "after"] as const)(
    "have a half-close at once that comes while the last is out, which was sent %s the start",
    (when) => {
      const { call, send, handed } = setup();
      if (when === "before") send("a");
      call.go();
      if (when === "after") send("a");
      call.halfClose();
      expect(handed()).toEqual(["message a", "half-close"]);
    },
  );

  it("may be none: then the half-close is sent with the start", () => {
    const { calls, call, handed } = setup();
    call.halfClose();
    expect(calls).toEqual([]);
    call.go();
    expect(handed()).toEqual(["half-close"]);
  });

  it("go straight on only while nothing is waiting or out", () => {
    const { call, send, handed, written } = setup();
    send("a");
    call.go();
    send("b");
    expect(handed()).toEqual(["message a"]);
    written();
    send("c");
    expect(handed()).toEqual(["message a", "message b"]);
    written();
    written();
    expect(handed()).toEqual(["message a", "message b", "message c"]);
    send("d");
    expect(handed()).toEqual(["message a", "message b", "message c", "message d"]);
  });

  it("keep their flags", () => {
    const { calls, call, writes, written } = setup();
    call.sendMessageWithContext(writes.context(2), "a");
    call.sendMessageWithContext(writes.context(), "b");
    call.go();
    written();
    expect(callOf(calls).flags).toEqual([2, undefined]);
  });

  it("may be sent inside a write callback, and are handed on once and in order", () => {
    const { call, writes, send, handed, written } = setup();
    call.sendMessageWithContext({ callback: () => send("b") }, "a");
    send("c");
    call.go();
    for (let count = 0; count < 3; count += 1) written();
    expect(handed()).toEqual(["message a", "message c", "message b"]);
    expect(writes.counts).toEqual([1, 1]);
  });

  it("are each called back once, later, when the call ends", async () => {
    const { call, writes, send, handed, written } = setup();
    for (const message of ["a", "b", "c"]) send(message);
    call.go();
    call.endWith(ended(status.ABORTED));
    expect(writes.counts).toEqual([0, 0, 0]);
    await settled();
    expect(writes.counts).toEqual([1, 1, 1]);
    // What is called back after that is no longer told.
    written();
    await settled();
    expect(writes.counts).toEqual([1, 1, 1]);
    expect(handed()).toEqual(["message a", "cancel ABORTED "]);
  });

  it("are not sent after the end, nor is a half-close or a read", async () => {
    const { call, send, handed } = setup();
    call.go();
    call.endWith(ended(status.ABORTED));
    send("a");
    call.halfClose();
    call.startRead();
    await settled();
    expect(handed()).toEqual(["cancel ABORTED "]);
  });

  it("need no callback", async () => {
    const { call, handed, written } = setup();
    call.sendMessageWithContext({}, "a");
    call.sendMessageWithContext({}, "b");
    call.sendMessageWithContext({}, "c");
    call.go();
    written();
    expect(handed()).toEqual(["message a", "message b"]);
    call.endWith(ended(status.ABORTED));
    await settled();
  });

  it.each(["message", "half-close"] as const)(
    "end the call with a status when the call below throws over a %s, wherever that is handed on",
    async (what) => {
      const { calls, call, above, writes, send, written } = setup();
      const broken = () => {
        throw new Error("broken");
      };
      send("a");
      send("b");
      call.halfClose();
      call.go();
      if (what === "message") callOf(calls).sendMessageWithContext = broken;
      else callOf(calls).halfClose = broken;
      expect(written).not.toThrow();
      await settled();
      expect(above.statuses).toMatchObject([
        { code: status.INTERNAL, details: "Call could not be started: broken" },
      ]);
      expect(writes.counts).toEqual([1, 1]);
    },
  );
});
