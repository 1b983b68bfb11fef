import { InterceptingCall, Metadata, type NextCall, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import {
  callOf,
  ended,
  failing,
  fakeBelow,
  Hearer,
  kinds,
  optionsOf,
  settled,
  Writes,
} from "./fake-call.js";
import { relaunching } from "./relaunching-call.js";
import { setup, unavailable } from "./replay-scene.js";

describe.each(kinds)("a replayable call of kind %s", (kind) => {
  it("sends each attempt the whole request, in order, and the half-close with the last message", async () => {
    const { calls, above, send, call, start } = setup(kind);
    start();
    for (const message of ["a", "b", "c"]) send(message);
    call.halfClose();
    await settled();
    callOf(calls).end(unavailable());
    await settled();
    const sent = ["message a", "message b", "message c", "half-close"];
    for (const attempt of [callOf(calls), callOf(calls, 1)]) {
      expect(attempt.log.filter((entry) => /^(message|half)/.test(entry))).toEqual(sent);
    }
    callOf(calls, 1).headers();
    callOf(calls, 1).message("x");
    call.startRead();
    callOf(calls, 1).end(ended(status.OK));
    await settled();
    expect(above.heard).toEqual(["headers", "message x", "status OK"]);
  });

  it("gives each attempt a clone of the metadata, and tells later ones how many came before", () => {
    const { calls, start } = setup(kind);
    const metadata = new Metadata();
    metadata.set("k", "v");
    start(metadata);
    callOf(calls).metadata.set("k", "changed below");
    callOf(calls).metadata.set("grpc-previous-rpc-attempts", "77");
    callOf(calls).end(unavailable());
    callOf(calls, 1).end(unavailable());
    const previous = calls.map((each) => each.metadata.get("grpc-previous-rpc-attempts"));
    expect(previous).toEqual([["77"], ["1"], ["2"]]);
    expect(calls.map((each) => each.metadata.get("k"))).toEqual([["changed below"], ["v"], ["v"]]);
    expect(metadata.getMap()).toEqual({ k: "v" });
  });

  it("calls each write back once, however many attempts send the message", async () => {
    const { calls, writes, send, start } = setup(kind);
    start();
    send("a");
    send("b");
    await settled();
    callOf(calls).end(unavailable());
    await settled();
    expect(callOf(calls, 1).log).toContain("message b");
    expect(writes.counts).toEqual([1, 1]);
  });

  it("waits with a message for the write before it", () => {
    const { calls, writes, send, start } = setup(kind, {}, false);
    start();
    send("a");
    send("b");
    expect(callOf(calls).log).not.toContain("message b");
    expect(writes.counts).toEqual([0, 0]);
    callOf(calls).written();
    expect(callOf(calls).log).toContain("message b");
    expect(writes.counts).toEqual([1, 0]);
  });

  it("shows the status of the last attempt once, and starts no attempt after the end", () => {
    const { calls, above, call, start } = setup(kind, { attempts: 2 });
    start();
    callOf(calls).end(unavailable());
    callOf(calls, 1).end(ended(status.ABORTED, "at last"));
    expect(above.statuses).toMatchObject([{ code: status.ABORTED, details: "at last" }]);
    call.again();
    expect(calls).toHaveLength(2);
    callOf(calls, 1).end(ended(status.OK));
    expect(above.heard).toEqual(failing(kind, status.ABORTED));
  });

  it("ends once when it is cancelled, calls its writes back and its attempt off", async () => {
    const { calls, above, call, writes, send, start } = setup(kind, {}, false);
    start();
    for (const message of ["a", "b", "c"]) send(message);
    call.cancelWithStatus(status.CANCELLED, "enough");
    call.cancelWithStatus(status.ABORTED, "twice");
    expect(above.heard).toEqual([]);
    send("late");
    await settled();
    expect(above.statuses).toMatchObject([{ code: status.CANCELLED, details: "enough" }]);
    expect(callOf(calls).log.at(-1)).toBe("cancel CANCELLED enough");
    expect(writes.counts).toEqual([1, 1, 1, 1]);
    call.again();
    expect(calls).toHaveLength(1);
  });

  it("ends once when it was cancelled before its start, and makes no attempt", async () => {
    const { calls, above, call, writes, send, start } = setup(kind);
    send("a");
    call.cancelWithStatus(status.CANCELLED, "enough");
    start();
    call.again();
    await settled();
    expect(above.statuses).toMatchObject([{ code: status.CANCELLED, details: "enough" }]);
    expect(calls).toEqual([]);
    expect(writes.counts).toEqual([1]);
  });

  it("ends once with a status of its own", async () => {
    const { calls, above, call, start } = setup(kind);
    start();
    call.endWith(ended(status.DEADLINE_EXCEEDED, "over"));
    callOf(calls).headers();
    callOf(calls).message("x");
    callOf(calls).end(ended(status.OK));
    await settled();
    expect(above.heard).toEqual(failing(kind, status.DEADLINE_EXCEEDED));
    expect(callOf(calls).log.at(-1)).toBe("cancel DEADLINE_EXCEEDED over");
  });

  it("does not take the null of a failed single response for an answer", () => {
    const { calls, above, start } = setup(kind);
    start();
    callOf(calls).message(null);
    callOf(calls).end(unavailable());
    expect(above.heard).toEqual([]);
    expect(calls).toHaveLength(2);
  });

  it("goes on to the next attempt when one cannot be started", async () => {
    const { interceptor } = relaunching(new VirtualClock());
    const { calls, nextCall } = fakeBelow(true);
    let failures = 1;
    const below: NextCall = (options) => {
      failures -= 1;
      if (failures >= 0) throw new Error("broken");
      return nextCall(options);
    };
    const call = interceptor(optionsOf(kind), below);
    const above = new Hearer();
    call.start(new Metadata(), above);
    call.sendMessage("a");
    await settled();
    callOf(calls).headers();
    callOf(calls).message("x");
    call.startRead();
    callOf(calls).end(ended(status.OK));
    await settled();
    expect(callOf(calls).log).toContain("message a");
    expect(above.heard).toEqual(["headers", "message x", "status OK"]);
  });

  it("ends with a status when an interceptor throws over a message of a later attempt", async () => {
    const below = fakeBelow(true);
    const { interceptor } = relaunching(new VirtualClock(), { attempts: 2 });
    const call = interceptor(optionsOf(kind), (options) => {
      const next = below.nextCall(options);
      if (below.calls.length === 1) return next;
      return new InterceptingCall(next, {
        sendMessage() {
          throw new Error("broken");
        },
      });
    });
    const above = new Hearer();
    const writes = new Writes();
    call.start(new Metadata(), above);
    call.sendMessageWithContext(writes.context(), "a");
    await settled();
    // A later attempt starts in a timer or in the status of the one before: it would end the process.
    expect(() => callOf(below.calls).end(unavailable())).not.toThrow();
    await settled();
    expect(above.heard).toEqual(failing(kind, status.INTERNAL));
    expect(writes.counts).toEqual([1]);
    expect(callOf(below.calls, 1).log.at(-1)).toMatch(/^cancel /);
  });
});
