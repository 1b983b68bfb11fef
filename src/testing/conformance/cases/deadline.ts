import assert from "node:assert/strict";
import { status } from "@grpc/grpc-js";
import type { Caller } from "../caller.js";
import {
  allKinds,
  assertMessages,
  message,
  messages,
  requestStreams,
  responseStreams,
} from "../message.js";
import { answering } from "../peer.js";
import type { CaseSpec, Scene } from "../scene.js";

/** In milliseconds. Long enough for a call to reach its handler on a busy machine. */
const shortMs = 500;
/** In milliseconds. Timers and clocks round, so a call may end a little earlier than its deadline, but not this much. */
const earlyMs = 20;

/** Asserts that the call ends with DEADLINE_EXCEEDED, and not before the deadline. */
async function assertExceeded(scene: Scene, caller: Caller, deadline: number): Promise<void> {
  await scene.endsWith(caller, status.DEADLINE_EXCEEDED);
  const earlyBy = deadline - scene.clock.wallNow();
  assert.ok(earlyBy < earlyMs, `ended ${earlyBy} ms before the deadline`);
}

/** A deadline ends calls that have not ended, and no others. */
export const deadlineCases: readonly CaseSpec[] = [
  {
    name: "exceeds a deadline that is already past",
    kinds: allKinds,
    handled: false,
    writesCalledBack: false,
    async run(scene) {
      const caller = scene.call({ deadline: scene.deadlineIn(-1_000) });
      await scene.endsWith(caller, status.DEADLINE_EXCEEDED);
    },
  },
  {
    name: "exceeds its deadline while the handler has not answered",
    kinds: allKinds,
    async run(scene) {
      const deadline = scene.deadlineIn(shortMs);
      const caller = scene.call({ deadline });
      const peer = await scene.peer();
      await assertExceeded(scene, caller, deadline);
      await scene.until(peer.cancelled(), "the end of the call at the handler");
    },
  },
  {
    name: "exceeds its deadline while the client is writing",
    kinds: requestStreams,
    async run(scene) {
      const deadline = scene.deadlineIn(shortMs);
      const caller = scene.call({ requests: messages(2), halfClose: false, deadline });
      const peer = await scene.peer();
      await scene.until(peer.received(2), "the requests");
      await assertExceeded(scene, caller, deadline);
      assertMessages(peer.requests, messages(2), "at the handler");
    },
  },
  {
    name: "exceeds its deadline between responses",
    kinds: responseStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        for (const each of messages(2)) await peer.send(each);
      });
      const deadline = scene.deadlineIn(shortMs);
      const caller = scene.call({ deadline });
      await assertExceeded(scene, caller, deadline);
      assertMessages(caller.messages, messages(2), "at the client");
    },
  },
  {
    name: "is not changed by a deadline that passes after its end",
    kinds: allKinds,
    async run(scene) {
      scene.serve(answering(message(1)));
      const caller = scene.call({ deadline: scene.deadlineIn(shortMs) });
      await scene.endsWith(caller, status.OK);
      await scene.pass(shortMs + earlyMs);
      assert.equal(caller.statuses.length, 1);
    },
  },
  {
    name: "tells the handler of a far deadline and leaves no timer behind",
    kinds: allKinds,
    async run(scene) {
      scene.serve(answering(message(1)));
      const deadline = scene.deadlineIn(60_000);
      const caller = scene.call({ deadline });
      const { code, details } = await scene.ended(caller);
      assert.equal(code, status.OK, details);
      const told = (await scene.peer()).deadline();
      // A policy may take some of the time. It may add none, apart from the time of the network and rounding.
      assert.ok(Math.abs(deadline - told) < 5_000, `the handler got ${told}, not ${deadline}`);
    },
  },
];
