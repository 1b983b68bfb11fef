import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { WeakMemo } from "../../src/core/weak-memo.js";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

/** Weak references hold until the turn of the event loop ends in which they were read. */
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

describe("values that are made once for each key", () => {
  it("are shared while somebody uses them", async () => {
    const memo = new WeakMemo<object>();
    const used = memo.of("a", () => ({}));
    await nextTurn();
    gc();
    expect(memo.of("a", () => ({}))).toBe(used);
    expect(memo.of("b", () => ({}))).not.toBe(used);
  });

  it("are forgotten when nobody does, so that keys do not pile up", async () => {
    const memo = new WeakMemo<object>();
    for (let n = 0; n < 1_000; n += 1) memo.of(`old ${n}`, () => ({}));
    await nextTurn();
    gc();
    const used = memo.of("new", () => ({}));
    expect(memo.size).toBeLessThan(10);
    expect(used).toEqual({});
  });
});
