import { describe, expect, it } from "vitest";
import { MemoryIdempotencyStore } from "../../../src/policies/idempotency/memory-store.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { idempotencyStoreContract } from "../../contracts/idempotency-store.js";

describe("the memory store", () => {
  idempotencyStoreContract(() => {
    const clock = new VirtualClock();
    const open = () => setUp({ clock }).store;
    return { store: open(), pass: (ms) => clock.advance(ms), lose: open };
  }, 100);
});

function setUp({ clock = new VirtualClock(), maxEntries = 100, maxBytes = 100_000 }) {
  const store = new MemoryIdempotencyStore(clock, { maxEntries, maxBytes });
  const claim = (key: string, leaseMs = 1_000, holder = "a") =>
    store.claim(key, { fingerprint: "f", holder, leaseMs, ttlMs: 60_000 });
  const answer = (key: string, bytes = 1, ttlMs = 1_000_000) => {
    const claimed = claim(key);
    if (claimed.kind !== "started") throw new Error(claimed.kind);
    return store.complete(key, claimed.token, new Uint8Array(bytes), ttlMs);
  };
  return { clock, store, claim, answer };
}

describe("the bounds of the memory store", () => {
  it("let the answer that was given longest ago go first, however often it was asked for", () => {
    const { store, claim, answer } = setUp({ maxEntries: 3 });
    for (const key of ["a", "b", "c"]) answer(key);
    expect(claim("a").kind).toBe("done");
    answer("d");
    expect(["b", "c", "d"].map((key) => claim(key).kind)).toEqual(["done", "done", "done"]);
    expect(claim("a").kind).toBe("started");
    expect(store.snapshot()).toMatchObject({ answers: 3, running: 1, evicted: 1 });
  });

  it("let as many answers go as a large one needs", () => {
    const { store, claim, answer } = setUp({ maxBytes: 10_000 });
    for (let index = 0; index < 20; index += 1) answer(`k${index}`, 200);
    expect(store.snapshot()).toMatchObject({ answers: 20, evicted: 0 });
    answer("large", 9_000);
    expect(claim("large").kind).toBe("done");
    const { bytes, answers, evicted } = store.snapshot();
    expect(bytes).toBeLessThanOrEqual(10_000);
    expect(answers + evicted).toBe(21);
    expect(answers).toBe(2);
  });

  it("let answers go whose time is over before those whose time is not", () => {
    const { clock, store, claim, answer } = setUp({ maxEntries: 3 });
    answer("short", 1, 50);
    answer("b");
    answer("c");
    clock.advance(60);
    answer("d");
    expect(["b", "c", "d"].map((key) => claim(key).kind)).toEqual(["done", "done", "done"]);
    expect(store.snapshot()).toMatchObject({ answers: 3, evicted: 0 });
  });

  it("refuse an answer that is larger than all of them, and leave the key with its holder", () => {
    const { store, claim, answer } = setUp({ maxBytes: 1_000 });
    expect(() => answer("k", 1_001)).toThrow("does not fit into 1000 bytes");
    expect(claim("k", 1_000, "b").kind).toBe("running");
    expect(store.snapshot()).toMatchObject({ bytes: 0, answers: 0, running: 1 });
  });

  it("count no byte that is not kept", () => {
    const { clock, store, claim, answer } = setUp({});
    for (let index = 0; index < 10; index += 1) answer(`k${index}`, 100, 500);
    clock.advance(600);
    for (let index = 0; index < 10; index += 1) claim(`k${index}`);
    expect(store.snapshot()).toEqual({ running: 10, answers: 0, bytes: 0, evicted: 0 });
  });

  it("refuse another running call beyond them, and forget none that runs", () => {
    const { clock, claim } = setUp({ maxEntries: 2 });
    claim("a");
    claim("b");
    expect(() => claim("c")).toThrow("2 calls run under idempotency keys");
    expect(claim("a", 1_000, "z").kind).toBe("running");
    // Taking over takes no further room.
    clock.advance(1_500);
    expect(claim("a", 1_000, "z").kind).toBe("started");
  });

  it("forget holders that have been late for as long as their lease", () => {
    const { clock, store, claim } = setUp({ maxEntries: 2 });
    claim("a");
    claim("b");
    clock.advance(1_999);
    expect(() => claim("c")).toThrow();
    clock.advance(1);
    expect(claim("c").kind).toBe("started");
    expect(store.snapshot().running).toBe(1);
  });
});

it("gives tokens that grow when the wall clock goes back", () => {
  const { clock, store, claim } = setUp({});
  const tokens: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const claimed = claim("k");
    if (claimed.kind !== "started") throw new Error(claimed.kind);
    tokens.push(claimed.token);
    store.release("k", claimed.token);
    clock.stepWall(-10_000);
  }
  expect(tokens).toEqual(tokens.toSorted((one, other) => one - other));
  expect(new Set(tokens).size).toBe(5);
  expect(tokens[0]).toBe(1_750_000_000_000_000);
});
