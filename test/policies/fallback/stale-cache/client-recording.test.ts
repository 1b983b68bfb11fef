import { describe, expect, it } from "vitest";
import {
  captureResponses,
  freshMessage,
  responseBytes,
} from "../../../../src/policies/fallback/stale-cache/client-recording.js";

/** The definition of one call, as grpc-js makes it. */
function definition(responseDeserialize: (bytes: Buffer) => unknown) {
  return {
    path: "/a.B/C",
    requestStream: false,
    responseStream: false,
    requestSerialize: (): Buffer => Buffer.alloc(0),
    responseDeserialize,
  };
}

describe("the bytes of responses", () => {
  it("are known of every message that was read", () => {
    const call = definition((bytes) => ({ text: bytes.toString() }));
    captureResponses(call);
    const [one, two] = [Buffer.from("one"), Buffer.from("two")];
    const first = call.responseDeserialize(one);
    const second = call.responseDeserialize(two);
    expect([first, second]).toEqual([{ text: "one" }, { text: "two" }]);
    expect(responseBytes(first)).toBe(one);
    expect(responseBytes(second)).toBe(two);
    expect(responseBytes({ text: "one" })).toBeUndefined();
  });

  it("are noted once, however many layers ask for it", () => {
    const call = definition((bytes) => ({ bytes }));
    captureResponses(call);
    const once = call.responseDeserialize;
    captureResponses(call);
    expect(call.responseDeserialize).toBe(once);
  });

  it("are not known where a message is no object, or the definition is frozen", () => {
    const text = definition((bytes) => bytes.toString());
    captureResponses(text);
    expect(responseBytes(text.responseDeserialize(Buffer.from("a")))).toBeUndefined();
    const frozen = Object.freeze(definition((bytes) => ({ bytes })));
    captureResponses(frozen);
    expect(responseBytes(frozen.responseDeserialize(Buffer.from("a")))).toBeUndefined();
  });

  it("are copied for each message that is made of them, because codecs hand out parts of what they read", () => {
    const call = definition((bytes) => ({ part: bytes.subarray(1) }));
    const bytes = Uint8Array.from([1, 2, 3]);
    const first = freshMessage(call, bytes) as { part: Buffer };
    first.part.fill(9);
    expect(freshMessage(call, bytes)).toEqual({ part: Buffer.from([2, 3]) });
    expect([...bytes]).toEqual([1, 2, 3]);
  });
});
