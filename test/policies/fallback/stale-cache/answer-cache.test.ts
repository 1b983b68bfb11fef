import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeAnswer,
  encodeAnswer,
  storedBytes,
} from "../../../../src/policies/fallback/stale-cache/answer-cache.js";

const bytes = (...values: number[]) => Uint8Array.from(values);

describe("a stored answer", () => {
  it("comes back as it was, with the time it was given at", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 5 }),
        fc.integer({ min: 0, max: 4_000_000_000_000 }),
        (messages, storedAtMs) => {
          const encoded = encodeAnswer({ storedAtMs, messages });
          expect(encoded.length).toBe(storedBytes(messages));
          expect(decodeAnswer(encoded)).toEqual({ storedAtMs, messages });
        },
      ),
    );
  });

  it("keeps the reading of a clock that somebody else may not know", () => {
    const answer = { storedAtMs: 5, reading: { clock: 1.5, nowMs: 7 }, messages: [bytes(1, 2)] };
    const encoded = encodeAnswer(answer);
    expect(decodeAnswer(encoded)).toEqual(answer);
    const without = { ...answer, messages: [] };
    expect(decodeAnswer(encodeAnswer(without))).toEqual(without);
    for (let length = 0; length < encoded.length; length += 1) {
      const part = decodeAnswer(encoded.subarray(0, length));
      if (part !== undefined) expect(part.messages).toEqual([]);
    }
  });

  it("has the bytes that it had in earlier versions, which may share a store with this one", () => {
    const time = new Uint8Array(new Float64Array([5]).buffer).reverse();
    expect(encodeAnswer({ storedAtMs: 5, messages: [bytes(7, 8), bytes()] })).toEqual(
      bytes(1, ...time, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0),
    );
    const reading = { clock: 5, nowMs: 5 };
    expect(encodeAnswer({ storedAtMs: 5, reading, messages: [] })).toEqual(
      bytes(2, ...time, ...time, ...time),
    );
  });

  it("shares no memory with what it was made of", () => {
    const message = bytes(1, 2, 3);
    const encoded = encodeAnswer({ storedAtMs: 5, messages: [message] });
    message.fill(9);
    expect(decodeAnswer(encoded)?.messages).toEqual([bytes(1, 2, 3)]);
  });

  it("is read from a part of a larger buffer, as clients of stores give it", () => {
    const encoded = encodeAnswer({ storedAtMs: 5, messages: [bytes(1), bytes(2, 3)] });
    const part = Buffer.concat([Buffer.alloc(7), encoded]).subarray(7);
    expect(decodeAnswer(part)).toEqual({ storedAtMs: 5, messages: [bytes(1), bytes(2, 3)] });
  });

  it("is none when something else stands in the store", () => {
    const good = encodeAnswer({ storedAtMs: 5, messages: [bytes(1, 2, 3)] });
    const otherVersion = good.slice();
    otherVersion[0] = 2;
    const longer = new Uint8Array(good.length + 3);
    longer.set(good);
    const noTime = encodeAnswer({ storedAtMs: Number.NaN, messages: [] });
    for (const one of [bytes(), bytes(1), good.slice(0, -1), otherVersion, longer, noTime]) {
      expect(decodeAnswer(one)).toBeUndefined();
    }
    expect(decodeAnswer("text" as unknown as Uint8Array)).toBeUndefined();
  });

  it("is read without throwing, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (any, ours) => {
        if (ours && any.length > 0) any[0] = 1;
        const read = decodeAnswer(any);
        if (read !== undefined) expect(storedBytes(read.messages)).toBe(any.length);
      }),
    );
  });
});
