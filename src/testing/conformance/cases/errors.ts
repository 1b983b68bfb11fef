import assert from "node:assert/strict";
import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import {
  allKinds,
  assertMessages,
  messages,
  requestStreams,
  responseStreams,
  streamsRequests,
} from "../message.js";
import type { CaseSpec } from "../scene.js";

// A code that is not retried and does not count for circuit breakers.
const code = status.FAILED_PRECONDITION;
const details = "the lock is shut: höher geht's nicht";
const binary = Buffer.from([0, 255, 10, 13]);

/** An error of a handler, with trailing metadata. */
function failure(): { code: number; details: string; metadata: Metadata } {
  const metadata = new Metadata();
  metadata.set("x-lock", "shut");
  metadata.set("x-lock-bin", binary);
  return { code, details, metadata };
}

function assertFailure(ended: StatusObject): void {
  assert.equal(ended.code, code);
  assert.equal(ended.details, details);
  assert.deepEqual(ended.metadata.get("x-lock"), ["shut"], "trailing metadata of the error");
  assert.deepEqual(ended.metadata.get("x-lock-bin"), [binary], "trailing metadata of the error");
}

/** Errors arrive as the handler made them, and the crash of a server ends calls with an error. */
export const errorCases: readonly CaseSpec[] = [
  {
    name: "passes on an error that is all of the answer",
    kinds: allKinds,
    async run(scene) {
      scene.serve(async (peer) => {
        await peer.halfClosed();
        peer.fail(failure());
      });
      const caller = scene.call();
      assertFailure(await scene.ended(caller));
      assert.equal(caller.headers.length, 0, "headers came that the server did not send");
    },
  },
  {
    name: "passes on an error that comes before the client half-closes",
    kinds: requestStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        await peer.received(1);
        peer.fail(failure());
      });
      const caller = scene.call({ halfClose: false });
      assertFailure(await scene.ended(caller));
      caller.halfClose();
    },
  },
  {
    name: "passes on an error after headers",
    kinds: allKinds,
    async run(scene) {
      scene.serve(async (peer) => {
        await peer.halfClosed();
        const headers = new Metadata();
        headers.set("x-level", "high");
        peer.sendHeaders(headers);
        peer.fail(failure());
      });
      const caller = scene.call();
      assertFailure(await scene.ended(caller));
      assert.deepEqual(caller.headers[0]?.get("x-level"), ["high"]);
    },
  },
  {
    name: "passes on an error after messages",
    kinds: responseStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        await peer.halfClosed();
        for (const each of messages(3)) await peer.send(each);
      });
      const caller = scene.call();
      // An error overtakes unread messages, so the case waits for them first.
      await scene.until(caller.received(3), "the messages");
      (await scene.peer()).fail(failure());
      assertFailure(await scene.ended(caller));
      assertMessages(caller.messages, messages(3), "at the client");
    },
  },
  {
    name: "ends with UNKNOWN when the handler throws",
    kinds: allKinds,
    async run(scene) {
      scene.serve(() => {
        throw new Error("thrown by the handler of a conformance case");
      });
      const caller = scene.call();
      await scene.endsWith(caller, status.UNKNOWN);
    },
  },
  {
    name: "ends with an error when the server is gone before it answers",
    kinds: allKinds,
    async run(scene) {
      const caller = scene.call({ halfClose: !streamsRequests(scene.kind) });
      const peer = await scene.peer();
      if (streamsRequests(scene.kind)) await scene.until(peer.received(1), "the request");
      await scene.link.crash();
      assert.notEqual((await scene.ended(caller)).code, status.OK);
    },
  },
  {
    name: "ends with an error when the server is gone between messages",
    kinds: responseStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        for (const each of messages(2)) await peer.send(each);
      });
      const caller = scene.call();
      await scene.until(caller.received(2), "the messages");
      await scene.link.crash();
      assert.notEqual((await scene.ended(caller)).code, status.OK);
      assertMessages(caller.messages, messages(2), "at the client");
    },
  },
  {
    name: "ends with an error when the server was gone before the call",
    kinds: allKinds,
    handled: false,
    async run(scene) {
      await scene.link.crash();
      const caller = scene.call();
      assert.notEqual((await scene.ended(caller)).code, status.OK);
    },
  },
];
