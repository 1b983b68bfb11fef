import assert from "node:assert/strict";
import { Metadata, status } from "@grpc/grpc-js";
import { allKinds, message, responseStreams } from "../message.js";
import { answering } from "../peer.js";
import type { CaseSpec } from "../scene.js";

// Bytes that text cannot carry, and a length that base64 has to pad.
const binary = Buffer.from([0, 1, 127, 128, 200, 255, 10]);

function tagged(tag: string): Metadata {
  const metadata = new Metadata();
  metadata.add("x-weir-tag", tag);
  metadata.add("x-weir-list", "one");
  metadata.add("x-weir-list", "two");
  metadata.add("x-weir-bytes-bin", binary);
  return metadata;
}

function assertTagged(metadata: Metadata | undefined, tag: string, where: string): void {
  assert.deepEqual(metadata?.get("x-weir-tag"), [tag], where);
  assert.equal(metadata?.get("x-weir-list").join(", "), "one, two", where);
  assert.deepEqual(metadata?.get("x-weir-bytes-bin"), [binary], where);
}

/** Metadata arrives at the other side, and changes no object of the caller or the handler. */
export const metadataCases: readonly CaseSpec[] = [
  {
    name: "carries the caller's metadata to the handler and leaves it as it was",
    kinds: allKinds,
    async run(scene) {
      scene.serve(answering(message(1)));
      const metadata = tagged("request");
      // Two calls with the same object: if the first one added to it, the second one would send that too.
      for (const index of [0, 1]) {
        const caller = scene.call({ metadata });
        await scene.endsWith(caller, status.OK);
        assertTagged((await scene.peer(index)).metadata, "request", "at the handler");
        assert.deepEqual(metadata.toJSON(), tagged("request").toJSON(), "the caller's own object");
      }
    },
  },
  {
    name: "carries headers and trailers back and leaves the handler's metadata as it was",
    kinds: allKinds,
    async run(scene) {
      const headers = tagged("headers");
      const trailers = tagged("trailers");
      scene.serve(async (peer) => {
        peer.sendHeaders(headers);
        await peer.halfClosed();
        await peer.send(message(1));
        peer.finish(trailers);
      });
      const caller = scene.call();
      const ended = await scene.ended(caller);
      assert.equal(ended.code, status.OK, ended.details);
      assertTagged(caller.headers[0], "headers", "headers at the client");
      assertTagged(ended.metadata, "trailers", "trailers at the client");
      assert.deepEqual(headers.toJSON(), tagged("headers").toJSON(), "the handler's headers");
      assert.deepEqual(trailers.toJSON(), tagged("trailers").toJSON(), "the handler's trailers");
    },
  },
  {
    name: "gives the client headers that come before the first message",
    // Not for single responses: a policy that may have to retry keeps the headers until the response is there.
    kinds: responseStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        peer.sendHeaders(tagged("headers"));
        await scene.wait(10);
        await peer.halfClosed();
        await peer.send(message(1));
        peer.finish();
      });
      const caller = scene.call({ halfClose: false });
      await scene.until(caller.answered(), "the headers");
      assertTagged(caller.headers[0], "headers", "headers at the client");
      assert.equal(caller.messages.length, 0, "the headers waited for a message");
      caller.halfClose();
      await scene.endsWith(caller, status.OK);
    },
  },
];
