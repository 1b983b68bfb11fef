import { status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { callOf, ended, settled } from "./fake-call.js";
import { setup, single, streamed, unavailable } from "./replay-scene.js";

describe.each(streamed)("the response of a %s call", (kind) => {
  it("is committed by its headers: what fails after that is final", () => {
    const { calls, above, call, start } = setup(kind);
    start();
    callOf(calls).headers();
    expect(above.heard).toEqual(["headers"]);
    expect(call.canReplay).toBe(false);
    call.again();
    callOf(calls).end(unavailable());
    expect(above.heard).toEqual(["headers", "status UNAVAILABLE"]);
    expect(calls).toHaveLength(1);
  });

  it("gives each attempt one read at its start, and never two before a message", () => {
    const { calls, call, start } = setup(kind);
    const reads = (index: number) =>
      callOf(calls, index).log.filter((entry) => entry === "read").length;
    start();
    call.startRead();
    call.startRead();
    expect(reads(0)).toBe(1);
    callOf(calls).end(unavailable());
    expect(reads(1)).toBe(1);
    callOf(calls, 1).headers();
    call.startRead();
    expect(reads(1)).toBe(1);
    callOf(calls, 1).message("x");
    expect(reads(1)).toBe(1);
    call.startRead();
    expect(reads(1)).toBe(2);
  });

  it("holds a message until the caller asks, and shows it later, before the status", async () => {
    const { calls, above, call, start } = setup(kind);
    start();
    callOf(calls).headers();
    callOf(calls).message("x");
    callOf(calls).end(ended(status.OK));
    await settled();
    expect(above.heard).toEqual(["headers"]);
    call.startRead();
    expect(above.heard).toEqual(["headers"]);
    await settled();
    expect(above.heard).toEqual(["headers", "message x", "status OK"]);
  });

  it("loses no message whose OK comes between the caller's wish and the message", async () => {
    const { calls, above, call, start } = setup(kind);
    start();
    callOf(calls).headers();
    callOf(calls).message("x");
    // Both in one tick: an OK that grpc-js has put in the queue before the caller asked.
    call.startRead();
    callOf(calls).end(ended(status.OK));
    await settled();
    expect(above.heard).toEqual(["headers", "message x", "status OK"]);
  });

  it("tells an error at once, as grpc-js does, and an unread message no more", async () => {
    const { calls, above, call, start } = setup(kind);
    start();
    callOf(calls).headers();
    callOf(calls).message("x");
    callOf(calls).end(ended(status.ABORTED));
    expect(above.heard).toEqual(["headers", "status ABORTED"]);
    call.startRead();
    await settled();
    expect(above.heard).toEqual(["headers", "status ABORTED"]);
  });

  it("shows no message to a caller who asks for it and cancels at once", async () => {
    const { calls, above, call, start } = setup(kind);
    start();
    callOf(calls).headers();
    callOf(calls).message("x");
    call.startRead();
    call.cancelWithStatus(status.CANCELLED, "enough");
    await settled();
    expect(above.heard).toEqual(["headers", "status CANCELLED"]);
  });

  it("shows nothing more to a caller who cancels inside an event", async () => {
    for (const event of ["headers", "message"] as const) {
      const { calls, above, call, start } = setup(kind);
      above.on[event] = () => call.cancelWithStatus(status.CANCELLED, "enough");
      start();
      call.startRead();
      callOf(calls).headers();
      callOf(calls).message("x");
      callOf(calls).end(ended(status.OK));
      await settled();
      const seen = event === "headers" ? ["headers"] : ["headers", "message x"];
      expect(above.heard).toEqual([...seen, "status CANCELLED"]);
    }
  });
});

describe.each(single)("the response of a %s call", (kind) => {
  it("keeps its headers back until its message, so that a failure behind them is retried", () => {
    const { calls, above, start } = setup(kind);
    start();
    callOf(calls).headers();
    expect(above.heard).toEqual([]);
    callOf(calls).end(unavailable());
    expect(calls).toHaveLength(2);
    callOf(calls, 1).headers();
    callOf(calls, 1).message("x");
    callOf(calls, 1).end(ended(status.OK));
    expect(above.heard).toEqual(["headers", "message x", "status OK"]);
  });

  it("shows the headers of the attempt that it ends with", () => {
    const { calls, above, start } = setup(kind, { attempts: 1 });
    start();
    callOf(calls).headers();
    callOf(calls).end(unavailable());
    expect(above.heard).toEqual(["headers", "message null", "status UNAVAILABLE"]);
  });

  it("shows headers with an OK that has no message", () => {
    const { calls, above, start } = setup(kind);
    start();
    callOf(calls).headers();
    callOf(calls).end(ended(status.OK));
    expect(above.heard).toEqual(["headers", "message null", "status OK"]);
  });

  it("tells one status to a caller who cancels when the headers are shown with an error", async () => {
    const { calls, above, call, start } = setup(kind, { attempts: 1 });
    above.on.headers = () => call.cancelWithStatus(status.CANCELLED, "enough");
    start();
    callOf(calls).headers();
    callOf(calls).end(unavailable());
    await settled();
    expect(above.heard).toEqual(["headers", "message null", "status CANCELLED"]);
  });
});
