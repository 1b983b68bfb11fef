import { describe, expect, it } from "vitest";
import type { Queued } from "../../../src/core/permit.js";
import {
  IdempotencyKeys,
  KeyHolder,
  type KeyResult,
  type KeyRules,
} from "../../../src/policies/idempotency/keys.js";
import { MemoryIdempotencyStore } from "../../../src/policies/idempotency/memory-store.js";
import type { IdempotencyStore } from "../../../src/policies/idempotency/store.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";

const rules: KeyRules = { leaseMs: 900, ttlMs: 10_000, onStoreError: "refuse" };
const answer = Uint8Array.from([1]);
const kept = { stored: answer, shared: answer };

type Method = keyof IdempotencyStore;

interface Question {
  readonly method: Method;
  /** Lets the store below answer. */
  readonly pass: () => void;
  readonly fail: () => void;
}

/** A memory store whose answers the test lets through, and the keys of one process on it. */
function setUp({ own = rules, maxWaiting = 10, held = [] as readonly Method[] } = {}) {
  const clock = new VirtualClock();
  const memory = new MemoryIdempotencyStore(clock, { maxEntries: 10_000, maxBytes: 1e6 });
  const questions: Question[] = [];
  const asked: Method[] = [];
  const holding = new Set(held);
  const ask = <T>(method: Method, question: () => T): T | Promise<T> => {
    asked.push(method);
    if (!holding.has(method)) return question();
    return new Promise<T>((resolve, reject) => {
      questions.push({
        method,
        pass: () => resolve(question()),
        fail: () => reject(new Error("down")),
      });
    });
  };
  const store: IdempotencyStore = {
    claim: (...args) => ask("claim", () => memory.claim(...args)),
    renew: (...args) => ask("renew", () => memory.renew(...args)),
    complete: (...args) => ask("complete", () => memory.complete(...args)),
    release: (...args) => ask("release", () => memory.release(...args)),
  };
  const errors: unknown[] = [];
  const report = (error: unknown) => errors.push(error);
  const bounds = { storeTimeoutMs: 200, maxWaiting };
  const keys = new IdempotencyKeys(
    store,
    bounds,
    { clock, random: () => 0, report },
    "test",
    "store",
  );
  const enter = (
    fingerprint = "f",
    onGranted: (result: KeyResult) => void = () => {},
    withinMs = Number.POSITIVE_INFINITY,
  ) => {
    const deadlineMs = clock.now() + withinMs;
    return keys.enter({ key: "k", fingerprint, rules: own, deadlineMs, onGranted });
  };
  return { clock, memory, keys, enter, questions, asked, holding, errors };
}

function holderOf(result: KeyResult | Queued): KeyHolder {
  if (result instanceof KeyHolder) return result;
  throw new Error(`no holder, but ${result.kind}`);
}

function queuedOf(result: KeyResult | Queued): Queued {
  if (!(result instanceof KeyHolder) && result.kind === "queued") return result;
  throw new Error("not queued");
}

const other: KeyRules = { ...rules, onStoreError: "run" };

describe("a claim", () => {
  it("that is answered when its call has left is given back", async () => {
    const { clock, memory, keys, enter, questions } = setUp({ held: ["claim"] });
    expect(queuedOf(enter()).leave()).toBe(true);
    questions[0]?.pass();
    await clock.pass(1);
    expect(memory.snapshot().running).toBe(0);
    expect(keys.snapshot()).toMatchObject({ running: 0, waiting: 0, started: 0 });
  });

  it("is taken by the next call with the request when its own has left", async () => {
    const { clock, enter, questions, asked } = setUp({ held: ["claim"] });
    const granted: KeyResult[] = [];
    const first = queuedOf(enter());
    enter("f", (result) => granted.push(result));
    first.leave();
    questions[0]?.pass();
    await clock.pass(1);
    expect(granted).toHaveLength(1);
    expect(holderOf(granted[0] ?? first).token).toBeGreaterThan(0);
    expect(asked).toEqual(["claim"]);
  });

  it("is given back when the call that it would go to leaves while others are refused", async () => {
    const { clock, memory, keys, enter, questions } = setUp({ held: ["claim"] });
    const first = queuedOf(enter());
    enter("g", () => first.leave());
    questions[0]?.pass();
    await clock.pass(1);
    expect(memory.snapshot().running).toBe(0);
    expect(keys.snapshot()).toMatchObject({ running: 0, waiting: 0, started: 0, reused: 1 });
  });

  it("of another request waits its turn, and is refused when the first has started", async () => {
    const { clock, enter, questions } = setUp({ held: ["claim"] });
    const results: string[] = [];
    const note = (result: KeyResult) =>
      results.push(result instanceof KeyHolder ? "runs" : String(Reflect.get(result, "reason")));
    enter("f", note);
    enter("g", note);
    questions[0]?.pass();
    await clock.pass(1);
    expect(results).toEqual(["IDEMPOTENCY_KEY_REUSED", "runs"]);
  });
});

describe("a key that another process holds", () => {
  it("is asked for again, ever less often, and no more when nobody waits", async () => {
    const { clock, memory, enter, asked } = setUp({});
    memory.claim("k", { fingerprint: "f", holder: "elsewhere", leaseMs: 1e6, ttlMs: 1e7 });
    const waiting = queuedOf(enter());
    await clock.pass(10_000);
    expect(asked.length).toBeGreaterThan(30);
    expect(asked.length).toBeLessThan(60);
    waiting.leave();
    const before = asked.length;
    await clock.pass(10_000);
    expect(asked).toHaveLength(before);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("is taken over as soon as its lease is over", async () => {
    const { clock, memory, enter } = setUp({});
    memory.claim("k", { fingerprint: "f", holder: "elsewhere", leaseMs: 5_100, ttlMs: 1e7 });
    const granted: number[] = [];
    const since = clock.now();
    enter("f", () => granted.push(clock.now() - since));
    await clock.pass(6_000);
    expect(granted).toHaveLength(1);
    expect(granted[0]).toBeGreaterThanOrEqual(5_100);
    expect(granted[0]).toBeLessThan(5_150);
  });
});

describe("a holder", () => {
  it("keeps one answer: the first", async () => {
    const { enter, keys } = setUp({});
    const holder = holderOf(enter());
    const results: unknown[] = [];
    holder.keep(kept, (result) => results.push(result));
    holder.keep(undefined, (result) => results.push(result));
    holder.settle("success");
    holder.abandon();
    expect(results).toEqual(["stored"]);
    expect(enter()).toMatchObject({ kind: "replay", answer, stored: true });
    expect(keys.snapshot()).toMatchObject({ running: 0, started: 1, replayed: 1 });
  });

  it("is not renewed any more when it has answered or given back", async () => {
    const { clock, enter, asked } = setUp({});
    holderOf(enter()).abandon();
    holderOf(enter()).keep(kept, () => {});
    await clock.pass(5_000);
    expect(asked).not.toContain("renew");
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("is renewed each third of its lease, also when the store has failed in between", async () => {
    const { clock, enter, asked, questions, holding } = setUp({ held: ["renew"] });
    const holder = holderOf(enter());
    await clock.pass(330);
    expect(asked.filter((method) => method === "renew")).toHaveLength(1);
    questions[0]?.fail();
    holding.clear();
    await clock.pass(3_000);
    expect(asked.filter((method) => method === "renew").length).toBeGreaterThan(8);
    holder.abandon();
  });

  it("that has lost its key hears of it once, and not after it has answered", async () => {
    const { clock, memory, enter, keys } = setUp({});
    const holder = holderOf(enter());
    let lost = 0;
    holder.onLost = () => {
      lost += 1;
    };
    memory.release("k", holder.token ?? 0);
    await clock.pass(2_000);
    expect(lost).toBe(1);
    expect(keys.snapshot()).toMatchObject({ running: 0, lost: 1 });
    const results: unknown[] = [];
    holder.keep(kept, (result) => results.push(result));
    expect(results).toMatchObject([{ reason: "IDEMPOTENCY_ANSWER_NOT_STORED" }]);
  });

  it("of thousands that give the key back at once leaves the stack as it was", async () => {
    const { clock, enter, keys } = setUp({ maxWaiting: 20_000 });
    let granted = 0;
    const first = holderOf(enter());
    for (let index = 0; index < 4_000; index += 1) {
      enter("f", (result) => {
        granted += 1;
        holderOf(result).abandon();
      });
    }
    first.abandon();
    await clock.pass(10);
    expect(granted).toBe(4_000);
    expect(keys.snapshot()).toMatchObject({ running: 0, waiting: 0 });
  });
});

it("a call whose key is free, and whose store does not answer, is not told that another runs", async () => {
  const { clock, enter, holding } = setUp({});
  const reasons: unknown[] = [];
  const holder = holderOf(enter());
  enter("f", (result) => reasons.push(Reflect.get(result, "reason")), 150);
  holding.add("claim");
  holder.abandon();
  await clock.pass(160);
  expect(reasons).toEqual(["IDEMPOTENCY_STORE_FAILED"]);
});

describe("an answer that the store does not take", () => {
  it("is given at once to calls that come meanwhile, where they run without the store", async () => {
    const { clock, enter, questions } = setUp({ own: other, held: ["complete"] });
    const results: unknown[] = [];
    holderOf(enter()).keep(kept, (result) => results.push(result));
    questions[0]?.fail();
    await clock.pass(1);
    expect(results).toEqual(["unprotected"]);
    expect(enter()).toEqual({ kind: "replay", answer, stored: false });
    await clock.pass(50);
    questions[1]?.pass();
    await clock.pass(1);
    expect(enter()).toEqual({ kind: "replay", answer, stored: true });
  });

  it("is tried for as long as a lease, then the next call runs", async () => {
    const { clock, memory, enter, holding, questions } = setUp({ held: ["complete"] });
    holderOf(enter()).keep(kept, () => {});
    const granted: KeyResult[] = [];
    enter("f", (result) => granted.push(result));
    for (let round = 0; round < 200; round += 1) {
      for (const question of questions.splice(0)) question.fail();
      await clock.pass(10);
    }
    holding.clear();
    await clock.pass(1_000);
    expect(granted).toHaveLength(1);
    expect(granted[0]).toBeInstanceOf(KeyHolder);
    expect(memory.snapshot()).toMatchObject({ answers: 0, running: 1 });
  });
});

describe("time", () => {
  it("that is over refuses a call, and so does a drain", () => {
    const { enter, keys } = setUp({});
    expect(enter("f", () => {}, 0)).toMatchObject({ reason: "DEADLINE_EXPIRED" });
    keys.drain();
    expect(enter()).toMatchObject({ reason: "DRAINING" });
  });

  it("drains: calls that wait are refused, and a claim on its way is given back", async () => {
    const { clock, memory, enter, keys, questions } = setUp({ held: ["claim"] });
    const reasons: unknown[] = [];
    enter("f", (result) => reasons.push(Reflect.get(result, "reason")));
    keys.drain();
    expect(reasons).toEqual(["DRAINING"]);
    questions[0]?.pass();
    await clock.pass(1);
    expect(memory.snapshot().running).toBe(0);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("drains: nothing runs any more for a key that another process holds", async () => {
    const { clock, memory, enter, keys } = setUp({});
    memory.claim("k", { fingerprint: "f", holder: "elsewhere", leaseMs: 1e6, ttlMs: 1e7 });
    queuedOf(enter());
    await clock.pass(100);
    keys.drain();
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
    expect(keys.snapshot()).toMatchObject({ waiting: 0 });
  });

  it("is told of errors of the store once a second", async () => {
    const { clock, enter, questions, errors, keys } = setUp({ held: ["claim"] });
    for (let round = 0; round < 5; round += 1) {
      enter();
      questions[round]?.fail();
      await clock.pass(300);
    }
    expect(errors).toHaveLength(2);
    expect(keys.snapshot().storeFailures).toBe(5);
    expect(keys.storeAway).toBe(true);
  });
});
