import assert from "node:assert/strict";
import { status } from "@grpc/grpc-js";
import type { CallKind } from "../../../grpc/types.js";
import {
  allKinds,
  assertMessages,
  type Message,
  message,
  messages,
  streamsRequests,
  streamsResponses,
} from "../message.js";
import { answering } from "../peer.js";
import type { CaseSpec, Scene } from "../scene.js";

/** The messages that a call of this kind can carry: all, or the first one. */
const requestsOf = (kind: CallKind, all: readonly Message[]) =>
  streamsRequests(kind) ? all : all.slice(0, 1);
const responsesOf = (kind: CallKind, all: readonly Message[]) =>
  streamsResponses(kind) ? all : all.slice(0, 1);

/** Makes a call that carries these messages both ways and ends with OK. */
async function carry(scene: Scene, all: readonly Message[]): Promise<void> {
  const requests = requestsOf(scene.kind, all);
  const responses = responsesOf(scene.kind, all);
  scene.serve(answering(...responses));
  const caller = scene.call({ requests });
  const { code, details } = await scene.ended(caller);
  assert.equal(code, status.OK, details);
  assertMessages((await scene.peer()).requests, requests, "at the handler");
  assertMessages(caller.messages, responses, "at the client");
}

/** Calls carry all of their messages, in order. */
export const messageCases: readonly CaseSpec[] = [
  {
    name: "carries messages both ways and ends with OK",
    kinds: allKinds,
    run: (scene) => carry(scene, messages(3)),
  },
  {
    name: "carries empty messages",
    kinds: allKinds,
    // All fields have their defaults, so a message has no bytes on the wire.
    run: (scene) => carry(scene, [message(0, 0), message(0, 0)]),
  },
  {
    name: "carries messages of 1 MiB",
    kinds: allKinds,
    run: (scene) => carry(scene, messages(2, 2 ** 20)),
  },
  {
    name: "carries 500 messages in order",
    kinds: ["client-stream", "server-stream", "bidi"],
    run: (scene) => carry(scene, messages(500)),
  },
  {
    name: "carries each answer before the next request",
    kinds: ["bidi"],
    async run(scene) {
      scene.serve(async (peer) => {
        for (const each of messages(5)) {
          await peer.received(each.sequence);
          await peer.send(each);
        }
        await peer.halfClosed();
        peer.finish();
      });
      const caller = scene.call({ requests: [], halfClose: false });
      for (const each of messages(5)) {
        void caller.write(each);
        await scene.until(caller.received(each.sequence), `answer ${each.sequence}`);
      }
      caller.halfClose();
      await scene.endsWith(caller, status.OK);
      assertMessages(caller.messages, messages(5), "at the client");
    },
  },
  {
    name: "keeps one call after another whole",
    kinds: allKinds,
    async run(scene) {
      scene.serve(async (peer) => {
        await peer.halfClosed();
        await peer.send(peer.requests[0] ?? message(0));
        peer.finish();
      });
      for (const each of messages(3)) {
        const caller = scene.call({ requests: [each] });
        await scene.endsWith(caller, status.OK);
        assertMessages(caller.messages, [each], "at the client");
      }
    },
  },
  {
    name: "keeps ten calls at once apart",
    kinds: allKinds,
    async run(scene) {
      // The handlers answer in the reverse order.
      scene.serve(async (peer) => {
        await peer.halfClosed();
        const [request = message(0)] = peer.requests;
        await scene.wait(3 * (11 - request.sequence));
        await peer.send(request);
        peer.finish();
      });
      const sent = messages(10);
      const callers = sent.map((each) => scene.call({ requests: [each] }));
      for (const [index, caller] of callers.entries()) {
        await scene.endsWith(caller, status.OK);
        assertMessages(caller.messages, sent.slice(index, index + 1), "at the client");
      }
    },
  },
];
