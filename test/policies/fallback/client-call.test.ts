import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { CallDeadline } from "../../../src/grpc/deadline.js";
import { FallbackStream } from "../../../src/policies/fallback/client-call.js";
import {
  empty,
  type FallbackProvider,
  value,
} from "../../../src/policies/fallback/client-providers.js";
import { encodeAnswer } from "../../../src/policies/fallback/stale-cache/answer-cache.js";
import { staleCache } from "../../../src/policies/fallback/stale-cache/client-cache.js";
import { callOf, ended, settled } from "../../grpc/client/fake-call.js";
import { below } from "./below-scene.js";
import { message } from "./client-scene.js";

const none = { refs: 0, unrefs: 0 };

/** A streamed call that fails, and whose answer does not end. */
async function streaming(deadline: (made: ReturnType<typeof below>) => object, answer = endless()) {
  const made = below({ reserveMs: 0, providers: [answer] });
  const { heard } = made.start("server-stream", deadline(made));
  callOf(made.calls).end(ended(Status.UNAVAILABLE));
  await settled();
  return { ...made, heard };
}

function endless(): FallbackProvider {
  return value(async function* () {
    yield message(1);
    await new Promise(() => {});
  });
}

describe("a streamed answer sets a timer for the deadline of its call", () => {
  it("while it has not ended", async () => {
    const { clock, heard } = await streaming((made) => made.within(1_000));
    clock.advance(999);
    await settled();
    expect(heard).toEqual(["headers "]);
    clock.advance(1);
    await settled();
    expect(heard.at(-1)).toBe(
      "DEADLINE_EXCEEDED Deadline exceeded in the answer of a fallback [DEADLINE_EXCEEDED]",
    );
  });

  it("unless it has no messages, and so has ended", async () => {
    const { clock, heard } = await streaming((made) => made.within(1_000), empty());
    expect([heard, clock.pending]).toEqual([["headers ", "OK OK"], none]);
  });

  it("unless there is none", async () => {
    expect((await streaming(() => ({}))).clock.pending).toEqual(none);
  });

  it("unless a layer above has one", async () => {
    const { clock } = await streaming((made) => {
      const dueMs = made.clock.now() + 1_000;
      return { deadline: new CallDeadline(dueMs, 1_000, made.clock, false) };
    });
    expect(clock.pending).toEqual(none);
  });
});

it("a stored answer of which a later message cannot be read ends with INTERNAL", async () => {
  const messages = [Buffer.alloc(0), Buffer.from([0x0a])];
  const bytes = encodeAnswer({ storedAtMs: 1_750_000_000_000, messages });
  const store = { get: () => bytes, set: () => {} };
  const made = below({ providers: [staleCache({ shared: true, freshMs: 1_000, store })] });
  const { call, heard } = made.start("server-stream");
  for (let each = 0; each < 2; each += 1) {
    call.startRead();
    await settled();
  }
  expect(heard).toEqual(["headers ", "message 0", "INTERNAL A stored answer could not be read"]);
  expect(made.errors).toEqual([expect.any(Error)]);
});

describe("the stream of an answer", () => {
  const played = (results: readonly (() => Promise<IteratorResult<unknown>>)[]) => {
    const seen: unknown[] = [];
    let asked = 0;
    const next = () => {
      asked += 1;
      return (results[asked - 1] ?? results.at(-1) ?? raise)();
    };
    const reader = {
      message: (one: unknown) => seen.push(one),
      done: () => seen.push("done"),
      broken: (error: unknown) => seen.push(error),
    };
    const stream = new FallbackStream({ next }, { done: false, value: 1 }, reader);
    const read = async () => {
      stream.read();
      await settled();
    };
    return { stream, seen, read, asked: () => asked };
  };

  it.each([
    ["has ended", async () => ({ done: true as const, value: undefined }), "done"],
    ["has broken", async () => Promise.reject("broken"), "broken"],
    [
      "has given no message",
      async () => ({ value: null }),
      new TypeError("a message of a streamed answer is null"),
    ],
  ])("is not read any more once it %s", async (_how, last, end) => {
    const { seen, read, asked } = played([last]);
    for (let each = 0; each < 4; each += 1) await read();
    expect([seen, asked()]).toEqual([[1, end], 1]);
  });

  it.each([
    ["a message", { value: 2 }],
    ["its end", { done: true as const, value: undefined }],
  ])("has not %s to tell once its call has ended", async (_what, late) => {
    const { stream, seen, read } = played([async () => late]);
    await read();
    stream.read();
    stream.stop();
    await settled();
    expect(seen).toEqual([1]);
  });
});

function raise(): never {
  throw new Error("nothing more is played");
}
