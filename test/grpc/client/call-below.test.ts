import { InterceptingCall, type Interceptor, Metadata, type NextCall, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { isLocal, rejectionOf } from "../../../src/grpc/status/rejection.js";
import { callOf, fakeBelow, Hearer, optionsOf, settled, Writes } from "./fake-call.js";
import { PlainCall, PutOffCall } from "./put-off-call.js";

/** A failure of what stands below, as grpc-js or an interceptor of somebody else would throw it. */
function failing(error: unknown): NextCall {
  return () => {
    throw error;
  };
}

describe("a call below that cannot be started", () => {
  it("ends the call with one INTERNAL status when an interceptor throws", async () => {
    const above = new Hearer();
    const call = new PutOffCall(optionsOf("bidi"), failing(new Error("broken")));
    const writes = new Writes();
    call.start(new Metadata(), above);
    call.sendMessageWithContext(writes.context(), "a");
    call.go();
    expect(above.heard).toEqual([]);
    call.sendMessageWithContext(writes.context(), "b");
    call.halfClose();
    await settled();
    expect(above.statuses).toMatchObject([
      { code: status.INTERNAL, details: "Call could not be started: broken" },
    ]);
    expect(writes.counts).toEqual([1, 1]);
    expect(call.releases).toBe(1);
  });

  it("ends the call with the status of a cancellation that comes before that status", async () => {
    const above = new Hearer();
    const call = new PutOffCall(optionsOf(), failing("no error at all"));
    call.start(new Metadata(), above);
    call.go();
    call.cancelWithStatus(status.CANCELLED, "enough");
    await settled();
    expect(above.heard).toEqual(["message null", "status CANCELLED"]);
    expect(call.releases).toBe(1);
  });

  it("ends the call as a local rejection when the channel was closed meanwhile", async () => {
    const above = new Hearer();
    const call = new PutOffCall(optionsOf(), failing(new Error("Channel has been shut down")));
    call.start(new Metadata(), above);
    call.go();
    await settled();
    const [closed] = above.statuses;
    expect(above.heard).toEqual(["message null", "status UNAVAILABLE"]);
    expect(closed && isLocal(closed)).toBe(true);
    expect(closed && rejectionOf(closed)?.reason).toBe("CLOSED");
  });

  it("calls off what an interceptor created below before it threw out of its start", async () => {
    const { calls, nextCall } = fakeBelow();
    const throwing: Interceptor = (options, next) =>
      new InterceptingCall(next(options), {
        start() {
          throw new Error("broken");
        },
      });
    const above = new Hearer();
    const call = new PlainCall(optionsOf(), (options) => throwing(options, nextCall));
    call.start(new Metadata(), above);
    await settled();
    expect(above.heard).toEqual(["message null", "status INTERNAL"]);
    // Left alone it would keep its channel busy, and its deadline timer the process.
    expect(callOf(calls).log.at(-1)).toMatch(/^cancel /);
  });

  it("ends the call with one INTERNAL status when an interceptor throws over a put-off message", async () => {
    const { nextCall } = fakeBelow();
    const throwing: Interceptor = (options, next) =>
      new InterceptingCall(next(options), {
        sendMessage() {
          throw new Error("broken");
        },
      });
    const above = new Hearer();
    const writes = new Writes();
    const call = new PutOffCall(optionsOf(), (options) => throwing(options, nextCall));
    call.start(new Metadata(), above);
    call.sendMessageWithContext(writes.context(), "a");
    // Out of a timer, what it throws would end the process.
    expect(() => call.go()).not.toThrow();
    await settled();
    expect(above.heard).toEqual(["message null", "status INTERNAL"]);
    expect(writes.counts).toEqual([1]);
    expect(call.releases).toBe(1);
  });
});
