import assert from "node:assert/strict";
import { status } from "@grpc/grpc-js";
import {
  allKinds,
  assertMessages,
  message,
  messages,
  requestStreams,
  responseStreams,
} from "../message.js";
import { answering } from "../peer.js";
import type { CaseSpec } from "../scene.js";

/** A caller may cancel at any time, and gets CANCELLED once. */
export const cancelCases: readonly CaseSpec[] = [
  {
    name: "is cancelled in the tick that made it",
    kinds: allKinds,
    handled: false,
    writesCalledBack: false,
    async run(scene) {
      const caller = scene.call();
      caller.cancel();
      await scene.endsWith(caller, status.CANCELLED);
    },
  },
  {
    name: "is cancelled before it has reached the server",
    kinds: allKinds,
    handled: false,
    writesCalledBack: false,
    async run(scene) {
      const caller = scene.call();
      await Promise.resolve();
      caller.cancel();
      await scene.endsWith(caller, status.CANCELLED);
    },
  },
  {
    name: "is cancelled while the handler has not answered",
    kinds: allKinds,
    async run(scene) {
      const caller = scene.call();
      const peer = await scene.peer();
      caller.cancel();
      await scene.endsWith(caller, status.CANCELLED);
      await scene.until(peer.cancelled(), "the end of the call at the handler");
    },
  },
  {
    name: "is cancelled while the client is writing",
    kinds: requestStreams,
    async run(scene) {
      const caller = scene.call({ requests: messages(2), halfClose: false });
      const peer = await scene.peer();
      await scene.until(peer.received(2), "the requests");
      caller.cancel();
      await scene.endsWith(caller, status.CANCELLED);
      await scene.until(peer.cancelled(), "the end of the call at the handler");
      assertMessages(peer.requests, messages(2), "at the handler");
    },
  },
  {
    name: "is cancelled between responses",
    kinds: responseStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        for (const each of messages(2)) await peer.send(each);
      });
      const caller = scene.call();
      await scene.until(caller.received(2), "the responses");
      caller.cancel();
      await scene.endsWith(caller, status.CANCELLED);
      assertMessages(caller.messages, messages(2), "at the client");
    },
  },
  {
    name: "is cancelled while the server is sending",
    kinds: responseStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        let ended = false;
        void peer.cancelled().then(() => {
          ended = true;
        });
        for (let sequence = 1; !ended; sequence += 1) {
          void peer.send(message(sequence));
          await scene.wait(1);
        }
      });
      const caller = scene.call();
      await scene.until(caller.received(3), "the responses");
      caller.cancel();
      await scene.endsWith(caller, status.CANCELLED);
      const { length } = caller.messages;
      await scene.pass(5);
      assert.equal(caller.messages.length, length, "responses came after the end");
    },
  },
  {
    name: "is cancelled once, however often the caller cancels",
    kinds: allKinds,
    async run(scene) {
      const caller = scene.call();
      await scene.peer();
      caller.cancel();
      caller.cancel();
      await scene.endsWith(caller, status.CANCELLED);
      caller.cancel();
    },
  },
  {
    name: "takes no harm from an answer after its cancellation",
    kinds: allKinds,
    async run(scene) {
      const caller = scene.call();
      const peer = await scene.peer();
      caller.cancel();
      await scene.endsWith(caller, status.CANCELLED);
      await scene.until(peer.cancelled(), "the end of the call at the handler");
      void peer.send(message(1));
      peer.finish();
      await scene.pass(5);
      assertMessages(caller.messages, [], "at the client");
    },
  },
  {
    name: "is not changed by a cancellation after its end",
    kinds: allKinds,
    async run(scene) {
      scene.serve(answering(message(1)));
      const caller = scene.call();
      await scene.endsWith(caller, status.OK);
      caller.cancel();
      await scene.pass(5);
      assert.equal(caller.statuses.length, 1);
    },
  },
];
