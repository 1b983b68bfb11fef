import { describe, expect, it } from "vitest";
import { boundedKey, Keyed } from "../../src/core/keyed.js";

interface State {
  readonly key: string;
  busy: boolean;
}

function keyed(maxKeys: number): Keyed<State> {
  return new Keyed<State>(
    (key) => ({ key, busy: false }),
    maxKeys,
    ({ busy }) => busy,
  );
}

describe("state by key", () => {
  it("forgets what was used longest ago and is idle", () => {
    const states = keyed(2);
    const a = states.get("a");
    states.get("b");
    states.get("c");
    expect(states.entries().map(([key]) => key)).toEqual(["c", "b"]);
    expect(states.get("a")).not.toBe(a);
  });

  it("forgets nothing that is in use, and finds it again", () => {
    const states = keyed(1);
    const a = states.get("a");
    a.busy = true;
    states.get("b");
    states.get("c");
    expect(states.entries().map(([key]) => key)).toEqual(["c", "a"]);
    expect(states.get("a")).toBe(a);
  });

  it("lets go of what it kept once that is idle, as other keys come", () => {
    const states = keyed(1);
    for (const key of ["a", "b", "c", "d"]) states.get(key).busy = true;
    expect(states.entries()).toHaveLength(4);
    for (const [, state] of states.entries()) state.busy = false;
    for (const key of ["e", "f", "g", "h"]) states.get(key);
    expect(states.entries().map(([key]) => key)).toEqual(["h"]);
  });

  it("shows what it kept only while that is in use, and once", () => {
    const states = keyed(1);
    const a = states.get("a");
    a.busy = true;
    states.get("b");
    states.get("a");
    expect(states.entries().map(([key]) => key)).toEqual(["a"]);
    states.get("c");
    expect(states.entries().map(([key]) => key)).toEqual(["c", "a"]);
    a.busy = false;
    expect(states.entries().map(([key]) => key)).toEqual(["c"]);
  });

  it("does not keep one that is idle, however many others it keeps", () => {
    const states = keyed(1);
    for (const key of ["a", "b", "c", "d", "e"]) states.get(key).busy = true;
    const idle = states.get("idle");
    states.get("f");
    expect(states.get("idle")).not.toBe(idle);
  });

  it("is kept for 1,000 keys unless told otherwise", () => {
    const states = new Keyed((key) => ({ key }));
    const first = states.get("0");
    for (let index = 1; index < 1_000; index += 1) states.get(String(index));
    expect(states.entries()).toHaveLength(1_000);
    states.get("1000");
    expect(states.entries()).toHaveLength(1_000);
    expect(states.get("0")).not.toBe(first);
  });

  it("looks at what it kept each time it keeps something more", () => {
    const states = keyed(1);
    const a = states.get("a");
    a.busy = true;
    for (const key of ["b", "c"]) states.get(key).busy = true;
    a.busy = false;
    states.get("d");
    expect(states.get("a")).not.toBe(a);
  });

  it("does not grow by more than what is in use", () => {
    const states = keyed(10);
    for (let index = 0; index < 10_000; index += 1) {
      const state = states.get(String(index));
      state.busy = true;
      if (index >= 100) states.get(String(index - 100)).busy = false;
    }
    expect(states.entries().length).toBeLessThan(250);
  });
});

describe("the key of a long name", () => {
  it("is the name itself up to 256 characters, and shorter than that beyond", () => {
    expect(boundedKey("x".repeat(256))).toBe("x".repeat(256));
    expect(boundedKey("x".repeat(257)).length).toBeLessThan(256);
    expect(boundedKey("x".repeat(100_000)).length).toBeLessThan(256);
  });

  it("does not change from one process to the next: snapshots that are taken over name keys", () => {
    expect(boundedKey("ab".repeat(150))).toBe(`${"ab".repeat(100)}~300~8220a1d1~f7f32de8`);
  });

  it("is another one for each name: they may differ in their length, or in any one place", () => {
    const names = Array.from({ length: 600 }, (_, length) => "x".repeat(length));
    const long = "x".repeat(400);
    for (let place = 0; place < 400; place += 1) {
      for (const other of ["y", "z", "\u0178"]) {
        names.push(long.slice(0, place) + other + long.slice(place + 1));
      }
    }
    expect(new Set(names.map(boundedKey)).size).toBe(names.length);
    expect(boundedKey(long)).toBe(boundedKey("x".repeat(400)));
  });
});
