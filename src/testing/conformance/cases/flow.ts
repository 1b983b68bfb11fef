import assert from "node:assert/strict";
import { Metadata, status } from "@grpc/grpc-js";
import type { Caller } from "../caller.js";
import { assertMessages, message, messages, requestStreams, responseStreams } from "../message.js";
import { answering, type Peer } from "../peer.js";
import type { CaseSpec, Scene } from "../scene.js";

const chunkBytes = 64 * 1024;
/**
 * A writer must be held back before it has written this much to a reader that does not read. It is far above all
 * windows and buffers.
 */
const boundBytes = 8 * 2 ** 20;
/** A write that is not called back within this many milliseconds is held back. */
const heldMs = 150;

/** Writes until a write is held back. Gives the number of messages written, that one included. */
async function writeUntilHeld(
  scene: Scene,
  write: (sequence: number) => Promise<void>,
): Promise<number> {
  for (let sequence = 1; sequence * chunkBytes <= boundBytes; sequence += 1) {
    if (!(await scene.within(heldMs, write(sequence)))) return sequence;
  }
  assert.fail(`${boundBytes} bytes were accepted from a writer without a reader`);
}

const failure = {
  code: status.FAILED_PRECONDITION,
  details: "the bank has broken",
  metadata: new Metadata(),
};

/** Ends a call while its handler reads nothing and the writes of the client are held back. */
async function endWhileHeld(
  scene: Scene,
  code: status,
  end: (caller: Caller, peer: Peer) => Promise<void>,
): Promise<void> {
  const caller = scene.call({ requests: [], halfClose: false });
  const peer = await scene.peer();
  await writeUntilHeld(scene, (sequence) => caller.write(message(sequence, chunkBytes)));
  await scene.until(end(caller, peer), "the call to be ended");
  await scene.endsWith(caller, code);
}

/** A fast side waits for a slow one: no message is lost, and no buffer grows without bound. */
export const flowCases: readonly CaseSpec[] = [
  {
    name: "loses nothing to a slow reader",
    kinds: responseStreams,
    async run(scene) {
      const sent = messages(40);
      scene.serve(answering(...sent));
      const caller = scene.call();
      caller.onMessage(() => {
        caller.pause();
        scene.clock.schedule(2, () => caller.resume());
      });
      await scene.endsWith(caller, status.OK);
      assertMessages(caller.messages, sent, "at the client");
    },
  },
  {
    name: "waits for a slow client",
    kinds: requestStreams,
    async run(scene) {
      const sent = messages(5);
      scene.serve(answering(message(1)));
      const caller = scene.call({ requests: [], halfClose: false });
      for (const each of sent) {
        void caller.write(each);
        await scene.pass(5);
      }
      caller.halfClose();
      await scene.endsWith(caller, status.OK);
      assertMessages((await scene.peer()).requests, sent, "at the handler");
    },
  },
  {
    name: "waits for a slow server",
    kinds: responseStreams,
    async run(scene) {
      const sent = messages(5);
      scene.serve(async (peer) => {
        for (const each of sent) {
          await scene.wait(5);
          await peer.send(each);
        }
        peer.finish();
      });
      const caller = scene.call();
      await scene.endsWith(caller, status.OK);
      assertMessages(caller.messages, sent, "at the client");
    },
  },
  {
    name: "holds a client back whose handler does not read",
    kinds: requestStreams,
    async run(scene) {
      const caller = scene.call({ requests: [], halfClose: false });
      const peer = await scene.peer();
      const count = await writeUntilHeld(scene, (sequence) =>
        caller.write(message(sequence, chunkBytes)),
      );
      caller.halfClose();
      await scene.until(peer.halfClosed(), "the half-close");
      await peer.send(message(1));
      peer.finish();
      await scene.endsWith(caller, status.OK);
      assertMessages(peer.requests, messages(count, chunkBytes), "at the handler");
    },
  },
  {
    name: "holds a server back whose client does not read",
    kinds: responseStreams,
    async run(scene) {
      const caller = scene.call();
      // Paused at the first message: before the first read, grpc-js takes everything that comes.
      caller.onMessage(() => caller.pause());
      const peer = await scene.peer();
      const count = await writeUntilHeld(scene, (sequence) =>
        peer.send(message(sequence, chunkBytes)),
      );
      peer.finish();
      caller.onMessage(() => caller.resume());
      caller.resume();
      await scene.endsWith(caller, status.OK);
      assertMessages(caller.messages, messages(count, chunkBytes), "at the client");
    },
  },
  {
    name: "ends with OK while its writes are held back",
    kinds: requestStreams,
    writesCalledBack: false,
    run: (scene) =>
      endWhileHeld(scene, status.OK, async (_caller, peer) => {
        await peer.send(message(1));
        peer.finish();
      }),
  },
  {
    name: "passes on an error while its writes are held back",
    kinds: requestStreams,
    writesCalledBack: false,
    run: (scene) =>
      endWhileHeld(scene, failure.code, async (_caller, peer) => {
        peer.fail(failure);
      }),
  },
  {
    name: "is cancelled while its writes are held back",
    kinds: requestStreams,
    writesCalledBack: false,
    run: (scene) =>
      endWhileHeld(scene, status.CANCELLED, async (caller) => {
        caller.cancel();
      }),
  },
  {
    name: "tells a client of an error that reads nothing",
    kinds: responseStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        for (const each of messages(3)) await peer.send(each);
        peer.fail(failure);
      });
      const caller = scene.call({ read: false });
      const { details } = await scene.endsWith(caller, failure.code);
      assert.equal(details, failure.details);
    },
  },
  {
    name: "can be cancelled by a client that reads nothing",
    kinds: responseStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        for (const each of messages(3)) await peer.send(each);
      });
      const caller = scene.call({ read: false });
      const peer = await scene.peer();
      await scene.pass(5);
      caller.cancel();
      await scene.endsWith(caller, status.CANCELLED);
      await scene.until(peer.cancelled(), "the end of the call at the handler");
    },
  },
  {
    name: "exceeds the deadline of a client that reads nothing",
    kinds: responseStreams,
    async run(scene) {
      scene.serve(async (peer) => {
        for (const each of messages(3)) await peer.send(each);
      });
      const caller = scene.call({ read: false, deadline: scene.deadlineIn(300) });
      await scene.endsWith(caller, status.DEADLINE_EXCEEDED);
    },
  },
];
