import { Metadata, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { callOf, ended, fakeBelow, Hearer, optionsOf, settled, Writes } from "./fake-call.js";
import { PlainCall, PutOffCall } from "./put-off-call.js";

function setup(eager = false) {
  const below = fakeBelow(eager);
  const call = new PutOffCall(optionsOf("bidi"), below.nextCall);
  const above = new Hearer();
  const writes = new Writes();
  const send = (message: string) => call.sendMessageWithContext(writes.context(), message);
  return { ...below, call, above, writes, send };
}

describe("a call that is passed on at once", () => {
  it("hands everything down and everything up, as it comes", () => {
    const { calls, nextCall } = fakeBelow();
    const call = new PlainCall(optionsOf("bidi"), nextCall);
    const above = new Hearer();
    const metadata = new Metadata();
    call.start(metadata, above);
    const below = callOf(calls);
    call.sendMessage("a");
    call.startRead();
    call.halfClose();
    expect(below.log).toEqual(["start", "message a", "read", "half-close"]);
    expect(below.metadata).toBe(metadata);
    below.headers();
    below.message("x");
    below.end(ended(status.OK));
    expect(above.heard).toEqual(["headers", "message x", "status OK"]);
  });

  it("hands the write callback and the flags of a message down untouched", () => {
    const { calls, nextCall } = fakeBelow();
    const call = new PlainCall(optionsOf("bidi"), nextCall);
    const writes = new Writes();
    call.start(new Metadata(), new Hearer());
    call.sendMessageWithContext(writes.context(2), "a");
    expect(callOf(calls).flags).toEqual([2]);
    expect(writes.counts).toEqual([0]);
    callOf(calls).written();
    expect(writes.counts).toEqual([1]);
  });

  it("tells nothing after the status", () => {
    const { calls, call, above } = setup();
    call.start(new Metadata(), above);
    call.go();
    const below = callOf(calls);
    below.end(ended(status.OK));
    below.headers();
    below.message("late");
    below.end(ended(status.INTERNAL), true);
    expect(above.heard).toEqual(["status OK"]);
    expect(call.releases).toBe(1);
  });

  it("sends nothing after the status, and calls later writes back", async () => {
    const { calls, call, above, writes, send } = setup();
    call.start(new Metadata(), above);
    call.go();
    callOf(calls).end(ended(status.OK));
    send("late");
    call.halfClose();
    call.startRead();
    await settled();
    expect(callOf(calls).log).toEqual(["start"]);
    expect(writes.counts).toEqual([1]);
    // A cancellation may be news to the wire even then, and is no second end.
    call.cancelWithStatus(status.CANCELLED, "late");
    await settled();
    expect(callOf(calls).log).toEqual(["start", "cancel CANCELLED late"]);
    expect(above.heard).toEqual(["status OK"]);
    expect(call.releases).toBe(1);
  });
});

describe("a call whose start is put off", () => {
  it("creates nothing below until it starts", async () => {
    const { calls, call, above, send } = setup();
    call.start(new Metadata(), above);
    send("a");
    call.halfClose();
    call.startRead();
    await settled();
    expect(calls).toEqual([]);
  });

  it("creates nothing below when it is never started", async () => {
    const { calls, call, send } = setup();
    send("a");
    call.halfClose();
    call.cancelWithStatus(status.CANCELLED, "enough");
    await settled();
    expect(calls).toEqual([]);
  });

  it("starts once, however often it is told to", () => {
    const { calls, call, above } = setup();
    call.start(new Metadata(), above);
    call.go();
    call.go();
    expect(callOf(calls).log).toEqual(["start"]);
    expect(calls).toHaveLength(1);
  });

  it("sends all messages in order and the half-close with the last", async () => {
    const { calls, call, above, writes, send } = setup(true);
    call.start(new Metadata(), above);
    for (const message of ["a", "b", "c"]) send(message);
    call.halfClose();
    call.go();
    await settled();
    expect(callOf(calls).log).toEqual([
      "start",
      "message a",
      "message b",
      "message c",
      "half-close",
    ]);
    expect(writes.counts).toEqual([1, 1, 1]);
  });

  it("keeps later messages behind those that were put off", async () => {
    const { calls, call, above, send } = setup();
    call.start(new Metadata(), above);
    send("a");
    send("b");
    call.go();
    send("c");
    expect(callOf(calls).log).toEqual(["start", "message a"]);
    callOf(calls).written();
    callOf(calls).written();
    callOf(calls).written();
    expect(callOf(calls).log).toEqual(["start", "message a", "message b", "message c"]);
    send("d");
    call.halfClose();
    expect(callOf(calls).log.slice(4)).toEqual(["message d", "half-close"]);
  });

  it("does not lose a read that was asked for before the start", () => {
    const { calls, call, above } = setup();
    call.startRead();
    call.start(new Metadata(), above);
    call.startRead();
    call.go();
    // One credit, as grpc-js counts them.
    expect(callOf(calls).log).toEqual(["start", "read"]);
  });

  it("asks for no read that nobody wanted", () => {
    const { calls, call, above } = setup();
    call.start(new Metadata(), above);
    call.go();
    expect(callOf(calls).log).toEqual(["start"]);
  });

  it("ends with exactly one status when it is cancelled meanwhile, and starts nothing later", async () => {
    const { calls, call, above, writes, send } = setup();
    call.start(new Metadata(), above);
    send("a");
    send("b");
    call.cancelWithStatus(status.CANCELLED, "enough");
    expect(above.heard).toEqual([]);
    call.cancelWithStatus(status.ABORTED, "twice");
    await settled();
    call.go();
    await settled();
    expect(above.statuses).toMatchObject([{ code: status.CANCELLED, details: "enough" }]);
    expect(calls).toEqual([]);
    expect(writes.counts).toEqual([1, 1]);
    expect(call.releases).toBe(1);
  });

  it("ends with exactly one status when it was cancelled before its start", async () => {
    const { calls, call, above, writes, send } = setup();
    send("a");
    call.cancelWithStatus(status.CANCELLED, "enough");
    call.cancelWithStatus(status.ABORTED, "twice");
    await settled();
    call.start(new Metadata(), above);
    call.go();
    await settled();
    expect(above.statuses).toMatchObject([{ code: status.CANCELLED, details: "enough" }]);
    expect(call.begun).toBe(false);
    expect(calls).toEqual([]);
    expect(writes.counts).toEqual([1]);
    expect(call.releases).toBe(1);
  });

  it("knows no peer before it starts, and the one below afterwards", () => {
    const { call, above } = setup();
    expect(call.getPeer()).toBe("unknown");
    expect(call.getAuthContext()).toBeNull();
    call.start(new Metadata(), above);
    call.go();
    expect(call.getPeer()).toBe("10.0.0.1:443");
    expect(call.getAuthContext()).toBeNull();
  });
});

describe("a call that is ended with a status of its own", () => {
  it("tells that status once, later, and calls the call below off", async () => {
    const { calls, call, above, writes, send } = setup();
    call.start(new Metadata(), above);
    for (const message of ["a", "b"]) send(message);
    call.go();
    call.endWith(ended(status.DEADLINE_EXCEEDED, "over"));
    call.endWith(ended(status.INTERNAL, "twice"));
    expect(above.heard).toEqual([]);
    await settled();
    expect(above.statuses).toMatchObject([{ code: status.DEADLINE_EXCEEDED, details: "over" }]);
    expect(callOf(calls).log).toEqual(["start", "message a", "cancel DEADLINE_EXCEEDED over"]);
    expect(writes.counts).toEqual([1, 1]);
    expect(call.releases).toBe(1);
  });

  it("lets nothing of the call below through any more", async () => {
    const { calls, call, above } = setup();
    call.start(new Metadata(), above);
    call.go();
    call.endWith(ended(status.ABORTED));
    callOf(calls).headers();
    callOf(calls).message("x");
    callOf(calls).end(ended(status.OK));
    await settled();
    expect(above.heard).toEqual(["status ABORTED"]);
  });

  it("cancels the call below, also when the status of its own is OK", async () => {
    const { calls, call, above } = setup();
    call.start(new Metadata(), above);
    call.go();
    call.endWith(ended(status.OK));
    await settled();
    expect(callOf(calls).log).toEqual(["start", "cancel CANCELLED "]);
    expect(above.heard).toEqual(["status OK"]);
  });
});
