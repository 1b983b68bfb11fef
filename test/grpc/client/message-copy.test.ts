import { describe, expect, it } from "vitest";
import { bytesApart, MessageCopy } from "../../../src/grpc/client/kept-request.js";

const json = (message: unknown) => Buffer.from(JSON.stringify(message));

function copyOf<T>(message: T, serialize: (message: T) => Buffer = json): T {
  // A copy is of the type of what it is made of.
  return new MessageCopy(message, serialize as (message: unknown) => Buffer).make() as T;
}

describe("a copy of a message", () => {
  it("is equal to it, and shares nothing with it that could change", () => {
    const make = () => ({
      text: "a",
      nothing: null,
      bytes: Buffer.from("b"),
      numbers: new Float64Array([1.5, 2]),
      view: new DataView(Uint8Array.of(1, 2).buffer),
      memory: Uint8Array.of(3).buffer,
      when: new Date(5),
      list: [{ deep: Uint8Array.of(1) }],
      map: new Map([["key", { of: "map" }]]),
      set: new Set([1]),
      bare: Object.assign(Object.create(null), { inner: { a: 1 } }),
      [Symbol.for("mine")]: 1,
    });
    const message = make();
    const copy = copyOf(message);
    message.bytes.fill(0);
    message.numbers.fill(0);
    message.view.setInt8(0, 9);
    new Uint8Array(message.memory).fill(9);
    message.when.setTime(0);
    for (const { deep } of message.list) deep.fill(9);
    message.list.length = 0;
    for (const each of message.map.values()) each.of = "changed";
    message.set.add(2);
    message.bare.inner.a = 9;
    expect(copy).toEqual(make());
    expect(Buffer.isBuffer(copy.bytes)).toBe(true);
  });

  it("is another one for each who asks", () => {
    const copy = new MessageCopy({ list: [1] }, json);
    expect(copy.make()).toEqual(copy.make());
    expect(copy.make()).not.toBe(copy.make());
  });

  it("keeps the class, and what a part refers to twice it refers to twice", () => {
    class Message {
      readonly parts: number[][] = [[1], [2]];
      readonly first = this.parts[0];
      get size() {
        return this.parts.length;
      }
    }
    const copy = copyOf(new Message());
    expect(copy).toBeInstanceOf(Message);
    expect(copy.size).toBe(2);
    expect(copy.first).toBe(copy.parts[0]);
  });

  it("goes round in a circle as the message does", () => {
    const message: { self?: object } = {};
    message.self = message;
    const copy = copyOf(message);
    expect(copy).not.toBe(message);
    expect(copy.self).toBe(copy);
  });

  it("takes what JSON names __proto__ for a property", () => {
    const message: unknown = JSON.parse('{"__proto__":{"a":1},"b":{}}');
    expect(JSON.stringify(copyOf(message))).toBe('{"__proto__":{"a":1},"b":{}}');
  });

  it("is the message itself where its state cannot be copied", () => {
    class Sealed {
      readonly #text = "a";
      serialize() {
        return Buffer.from(this.#text);
      }
    }
    const message = new Sealed();
    expect(copyOf(message, (sealed) => sealed.serialize())).toBe(message);
  });

  it("is the message itself where looking at it throws", () => {
    const message = Object.defineProperty({}, "broken", {
      enumerable: true,
      get() {
        throw new Error("no");
      },
    });
    expect(copyOf(message)).toBe(message);
  });
});

describe("the bytes of a message", () => {
  const long = () => Buffer.alloc(10_000, 1);

  it("are taken as they are where a serializer made them", () => {
    const bytes = long();
    expect(bytesApart(bytes, { text: "a", data: Buffer.alloc(20_000) })).toBe(bytes);
  });

  it.each([
    ["the message", (bytes: Buffer) => bytes],
    ["a part of the message", (bytes: Buffer) => ({ body: { parts: [bytes] } })],
    ["other bytes of the same memory", (bytes: Buffer) => new Uint8Array(bytes.buffer, 0, 1)],
    ["the memory", (bytes: Buffer) => ({ memory: bytes.buffer })],
    ["in a map", (bytes: Buffer) => new Map([["a", bytes]])],
    ["behind more parts than are looked at", (bytes: Buffer) => [...Array(100).fill({}), bytes]],
  ])("are copied where they are %s", (_where, message) => {
    const bytes = long();
    const apart = bytesApart(bytes, message(bytes));
    bytes.fill(2);
    expect(apart).toEqual(long());
  });

  it("are copied where a serializer writes each message into the same memory", () => {
    const memory = Buffer.alloc(20_000, 1);
    const apart = bytesApart(memory.subarray(0, 10_000), { text: "a" });
    memory.fill(2);
    expect(apart).toEqual(long());
  });

  it("are copied where that costs nothing", () => {
    const bytes = Buffer.from("short");
    expect(bytesApart(bytes, {})).not.toBe(bytes);
    expect(bytesApart(bytes, {})).toEqual(bytes);
  });
});
