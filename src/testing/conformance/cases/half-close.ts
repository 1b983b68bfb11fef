import assert from "node:assert/strict";
import { status } from "@grpc/grpc-js";
import {
  assertMessages,
  message,
  messages,
  requestStreams,
  responseStreams,
  streamsResponses,
} from "../message.js";
import { answering } from "../peer.js";
import type { CaseSpec } from "../scene.js";

/** The two directions of a call end independently of each other, in any order. */
export const halfCloseCases: readonly CaseSpec[] = [
  {
    name: "ends when the server answers before the client half-closes",
    kinds: requestStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        await peer.received(1);
        await peer.send(message(7));
        peer.finish();
      });
      const caller = scene.call({ halfClose: false });
      await scene.endsWith(caller, status.OK);
      assertMessages(caller.messages, [message(7)], "at the client");
      caller.halfClose();
    },
  },
  {
    name: "ends when the server answers without reading a message",
    kinds: requestStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        await peer.send(message(7));
        peer.finish();
      });
      const caller = scene.call({ requests: [], halfClose: false });
      await scene.endsWith(caller, status.OK);
      assertMessages(caller.messages, [message(7)], "at the client");
      caller.halfClose();
    },
  },
  {
    name: "takes no harm from messages written after the server has answered",
    kinds: requestStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        await peer.send(message(7));
        peer.finish();
      });
      const caller = scene.call({ requests: [], halfClose: false });
      await scene.endsWith(caller, status.OK);
      for (const each of messages(3)) void caller.write(each);
      caller.halfClose();
      await scene.pass(5);
      assert.equal((await scene.peer()).requests.length, 0);
    },
  },
  {
    name: "waits for a client that half-closes late",
    kinds: requestStreams,
    async run(scene) {
      const sent = messages(3);
      scene.serve(async (peer) => {
        for (const each of streamsResponses(scene.kind) ? sent : []) {
          await peer.received(each.sequence);
          await peer.send(each);
        }
        await peer.halfClosed();
        if (!streamsResponses(scene.kind)) await peer.send(message(1));
        peer.finish();
      });
      const caller = scene.call({ requests: sent, halfClose: false });
      const peer = await scene.peer();
      await scene.until(peer.received(3), "the requests");
      await scene.pass(20);
      assert.deepEqual(caller.statuses, [], "the call ended before the client half-closed");
      caller.halfClose();
      await scene.endsWith(caller, status.OK);
      assertMessages(peer.requests, sent, "at the handler");
    },
  },
  {
    name: "tells the handler of a half-close without a message",
    kinds: requestStreams,
    async run(scene) {
      scene.serve(answering(message(7)));
      const caller = scene.call({ requests: [] });
      await scene.endsWith(caller, status.OK);
      assertMessages((await scene.peer()).requests, [], "at the handler");
      assertMessages(caller.messages, [message(7)], "at the client");
    },
  },
  {
    name: "ends with OK without a response message",
    kinds: responseStreams,
    async run(scene) {
      scene.serve(answering());
      const caller = scene.call();
      await scene.endsWith(caller, status.OK);
      assertMessages(caller.messages, [], "at the client");
    },
  },
];
