import { status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { callOf, ended, failing, kinds, settled } from "./fake-call.js";
import { setup, single, streamed, unavailable } from "./replay-scene.js";

const superseded = /^cancel CANCELLED /;

describe.each(kinds)("attempts side by side of a %s call", (kind) => {
  it("each send the whole request, and the caller is called back by the first that wrote", () => {
    const { calls, writes, send, start } = setup(kind, { sideBySide: 2 }, false);
    start();
    send("a");
    send("b");
    callOf(calls, 1).written();
    expect(writes.counts).toEqual([1, 0]);
    callOf(calls, 0).written();
    expect(writes.counts).toEqual([1, 0]);
    callOf(calls, 0).written();
    callOf(calls, 1).written();
    expect(writes.counts).toEqual([1, 1]);
    for (const call of calls) {
      expect(call.log.filter((entry) => entry.startsWith("message"))).toEqual([
        "message a",
        "message b",
      ]);
    }
  });

  it("are cancelled when another has answered, and nothing of them reaches the caller", async () => {
    const { calls, above, call, start } = setup(kind, { sideBySide: 3 });
    start();
    call.startRead();
    const [first, winner, third] = [callOf(calls), callOf(calls, 1), callOf(calls, 2)];
    first.headers();
    const leaderIsCommitted = !call.canReplay;
    const [answers, loser] = leaderIsCommitted ? [first, winner] : [winner, first];
    answers.headers();
    answers.message("x");
    expect(loser.log.at(-1)).toMatch(superseded);
    expect(third.log.at(-1)).toMatch(superseded);
    loser.message("not this");
    third.headers();
    third.message("nor this");
    third.end(ended(status.OK));
    answers.end(ended(status.OK));
    await settled();
    expect(above.heard.filter((event) => event !== "headers")).toEqual(["message x", "status OK"]);
  });

  it("end the call only when the last of them has failed", () => {
    const { calls, above, start } = setup(kind, { sideBySide: 2, attempts: 2 });
    start();
    callOf(calls).end(unavailable());
    expect(above.heard).toEqual([]);
    callOf(calls, 1).end(ended(status.ABORTED));
    expect(above.heard).toEqual(failing(kind, status.ABORTED));
  });

  it("are all cancelled with the call", async () => {
    const { calls, above, call, start } = setup(kind, { sideBySide: 3 });
    start();
    call.cancelWithStatus(status.CANCELLED, "enough");
    await settled();
    for (const each of calls) expect(each.log.at(-1)).toBe("cancel CANCELLED enough");
    expect(above.heard).toEqual(failing(kind, status.CANCELLED));
  });

  it("carry numbers of their own", () => {
    const { calls, call, start } = setup(kind, { sideBySide: 3 });
    start();
    const previous = calls.map((each) => each.metadata.get("grpc-previous-rpc-attempts"));
    expect(previous).toEqual([[], ["1"], ["2"]]);
    expect(call.attempts.map(({ number, cause }) => [number, cause])).toEqual([
      [1, "first"],
      [2, "hedge"],
      [3, "hedge"],
    ]);
  });
});

describe.each(streamed)("attempts side by side of a %s call", (kind) => {
  it("are decided by the first headers", () => {
    const { calls, above, call, start } = setup(kind, { sideBySide: 2 });
    start();
    callOf(calls, 1).headers();
    expect(callOf(calls).log.at(-1)).toMatch(superseded);
    expect(above.heard).toEqual(["headers"]);
    call.again("hedge");
    expect(calls).toHaveLength(2);
  });
});

describe.each(single)("attempts side by side of a %s call", (kind) => {
  it("are decided by the first message, and only its headers are shown", () => {
    const { calls, above, start } = setup(kind, { sideBySide: 2 });
    start();
    callOf(calls).headers();
    callOf(calls, 1).headers();
    expect(above.heard).toEqual([]);
    callOf(calls, 1).message("x");
    callOf(calls, 1).end(ended(status.OK));
    expect(above.heard).toEqual(["headers", "message x", "status OK"]);
  });
});

describe("an attempt that has lost", () => {
  it("sends no more, and its writes give no leave to the caller", async () => {
    const { calls, writes, send, start } = setup("bidi", { sideBySide: 2 }, false);
    start();
    send("a");
    send("b");
    const [loser, winner] = [callOf(calls), callOf(calls, 1)];
    winner.headers();
    const sent = loser.log.length;
    loser.written();
    loser.written();
    // Only the attempt that the caller sees may ask for the next message.
    expect(writes.counts).toEqual([0, 0]);
    expect(loser.log).toHaveLength(sent);
    winner.written();
    expect(writes.counts).toEqual([1, 0]);
    expect(winner.log).toContain("message b");
    await settled();
  });
});
