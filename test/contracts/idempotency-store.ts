import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type {
  ClaimAnswer,
  IdempotencyStore,
  KeyClaim,
} from "../../src/policies/idempotency/store.js";
import { seededRandom } from "../../src/testing/clock/seeded-random.js";

/** A store that is tested, alone with its data. */
export interface StoreUnderTest {
  readonly store: IdempotencyStore;
  /** Lets time pass for the store. */
  readonly pass: (ms: number) => void | Promise<void>;
  /** Makes the store lose all its data. The result is what stands in its place. */
  readonly lose: () => IdempotencyStore | Promise<IdempotencyStore>;
  readonly close?: () => void | Promise<void>;
}

/**
 * What every idempotency store must do.
 *
 * @param open Makes an empty store.
 * @param leaseMs The lease of most claims. Where time is real, as short as the store's answers are surely quicker.
 */
export function idempotencyStoreContract(
  open: () => StoreUnderTest | Promise<StoreUnderTest>,
  leaseMs: number,
): void {
  const ttlMs = leaseMs * 4;
  const longMs = leaseMs * 1_000;
  let subject: StoreUnderTest;
  let store: IdempotencyStore;

  beforeEach(async () => {
    subject = await open();
    store = subject.store;
  });
  afterEach(async () => subject.close?.());

  const claim = (key: string, holder: string, own: Partial<KeyClaim> = {}) =>
    store.claim(key, { fingerprint: "f", leaseMs, ttlMs, holder, ...own });

  async function started(key: string, holder: string, own: Partial<KeyClaim> = {}) {
    return tokenOf(await claim(key, holder, own));
  }

  describe("a key", () => {
    it("is given to the first claim, and to no other while it runs", async () => {
      await started("k", "a", { leaseMs: longMs });
      const second = await claim("k", "b");
      expect(second).toMatchObject({ kind: "running" });
      const leftMs = second.kind === "running" ? second.leaseLeftMs : Number.NaN;
      expect(leftMs).toBeGreaterThan(longMs / 2);
      expect(leftMs).toBeLessThanOrEqual(longMs);
    });

    it("is given to one of many that claim it at once", async () => {
      const holders = Array.from({ length: 40 }, (_, index) => `h${index}`);
      const answers = await Promise.all(
        holders.map(async (holder) => claim("k", holder, { leaseMs: longMs })),
      );
      expect(answers.filter(({ kind }) => kind === "started")).toHaveLength(1);
      expect(answers.filter(({ kind }) => kind === "running")).toHaveLength(39);
    });

    it("has nothing to do with another key, however alike", async () => {
      const keys = ["k", "K", "k ", " k", "k:1", "k{1}", "{k}", "ключ", "k\0", "k*", ""];
      for (const key of keys) {
        const token = await started(key, "a", { leaseMs: longMs });
        expect(await store.complete(key, token, bytesOf(key), longMs)).toBe(true);
      }
      for (const key of keys) expect(answerOf(await claim(key, "b"))).toEqual(bytesOf(key));
    });

    it("belongs to one request while it runs and when it is answered", async () => {
      const token = await started("k", "a", { leaseMs: longMs });
      expect(await claim("k", "b", { fingerprint: "g" })).toEqual({ kind: "mismatch" });
      // Also for the one that holds it.
      expect(await claim("k", "a", { fingerprint: "g" })).toEqual({ kind: "mismatch" });
      await store.complete("k", token, bytesOf("1"), longMs);
      expect(await claim("k", "b", { fingerprint: "g" })).toEqual({ kind: "mismatch" });
    });

    it("is free for any request once it is given back", async () => {
      const first = await started("k", "a", { leaseMs: longMs });
      expect(await store.release("k", first)).toBe(true);
      const second = await started("k", "b", { fingerprint: "g", leaseMs: longMs });
      expect(second).toBeGreaterThan(first);
    });

    it("is given again, with the same token, to a claim whose answer was lost", async () => {
      const token = await started("k", "a", { leaseMs: longMs });
      expect(await claim("k", "a", { leaseMs: longMs })).toEqual({ kind: "started", token });
      expect(await store.complete("k", token, bytesOf("1"), longMs)).toBe(true);
    });
  });

  describe("an answer", () => {
    it("is given to each later claim, byte for byte", async () => {
      const answer = Uint8Array.from({ length: 1_000 }, (_, index) => (index * 7) % 256);
      const token = await started("k", "a", { leaseMs: longMs });
      expect(await store.complete("k", token, answer, longMs)).toBe(true);
      expect(answerOf(await claim("k", "b"))).toEqual(answer);
      expect(answerOf(await claim("k", "a"))).toEqual(answer);
    });

    it("may be empty", async () => {
      const token = await started("k", "a", { leaseMs: longMs });
      expect(await store.complete("k", token, new Uint8Array(), longMs)).toBe(true);
      expect(answerOf(await claim("k", "b"))).toEqual(new Uint8Array());
    });

    it("is kept for its time and no longer", async () => {
      const first = await started("k", "a");
      await store.complete("k", first, bytesOf("1"), ttlMs);
      await subject.pass(ttlMs / 4);
      expect(answerOf(await claim("k", "b"))).toEqual(bytesOf("1"));
      await subject.pass(ttlMs);
      expect(await started("k", "b", { fingerprint: "g" })).toBeGreaterThan(first);
    });

    it("that was completed and not heard of is completed again, and does not change", async () => {
      const token = await started("k", "a", { leaseMs: longMs });
      expect(await store.complete("k", token, bytesOf("1"), longMs)).toBe(true);
      expect(await store.complete("k", token, bytesOf("2"), longMs)).toBe(true);
      expect(answerOf(await claim("k", "b"))).toEqual(bytesOf("1"));
    });

    it("ends the lease: its token neither renews nor releases", async () => {
      const token = await started("k", "a", { leaseMs: longMs });
      await store.complete("k", token, bytesOf("1"), longMs);
      expect(await store.renew("k", token, longMs)).toBe(false);
      expect(await store.release("k", token)).toBe(false);
      expect(answerOf(await claim("k", "b"))).toEqual(bytesOf("1"));
    });
  });

  describe("a lease", () => {
    it("lets the next claim take over when it has run out, with a larger token", async () => {
      const first = await started("k", "a");
      await subject.pass(leaseMs * 1.2);
      expect(await started("k", "b", { leaseMs: longMs })).toBeGreaterThan(first);
    });

    it("that has run out leaves the key to its request alone: what its holder has done is not known", async () => {
      const first = await started("k", "a", { ttlMs: longMs });
      expect(await store.renew("k", first, leaseMs)).toBe(true);
      await subject.pass(leaseMs * 2.2);
      expect(await claim("k", "b", { fingerprint: "g" })).toEqual({ kind: "mismatch" });
      expect(await started("k", "b", { leaseMs: longMs })).toBeGreaterThan(first);
    });

    it("that has run out lets another request have the key when its time to live is over", async () => {
      const first = await started("k", "a");
      await subject.pass(ttlMs * 1.1);
      const second = await started("k", "b", { fingerprint: "g", leaseMs: longMs });
      expect(second).toBeGreaterThan(first);
    });

    it("that is renewed lasts from then on", async () => {
      const token = await started("k", "a");
      for (let round = 0; round < 3; round += 1) {
        await subject.pass(leaseMs * 0.6);
        expect(await store.renew("k", token, leaseMs)).toBe(true);
      }
      expect(await claim("k", "b")).toMatchObject({ kind: "running" });
    });

    it("keeps a late holder from everything once another has taken over", async () => {
      const late = await started("k", "a");
      await subject.pass(leaseMs * 1.2);
      const token = await started("k", "b", { leaseMs: longMs });
      expect(await store.renew("k", late, longMs)).toBe(false);
      expect(await store.complete("k", late, bytesOf("late"), longMs)).toBe(false);
      expect(await store.release("k", late)).toBe(false);
      expect(await claim("k", "c")).toMatchObject({ kind: "running" });
      expect(await store.complete("k", token, bytesOf("2"), longMs)).toBe(true);
      expect(await store.complete("k", late, bytesOf("late"), longMs)).toBe(false);
      expect(answerOf(await claim("k", "c"))).toEqual(bytesOf("2"));
    });

    it("that has run out is still its holder's while nobody else has wanted it", async () => {
      const renewed = await started("k", "a");
      const completed = await started("l", "a");
      const released = await started("m", "a");
      await subject.pass(leaseMs * 1.2);
      expect(await store.renew("k", renewed, longMs)).toBe(true);
      expect(await store.complete("l", completed, bytesOf("1"), longMs)).toBe(true);
      expect(await store.release("m", released)).toBe(true);
      expect(await claim("k", "b")).toMatchObject({ kind: "running" });
      expect(answerOf(await claim("l", "b"))).toEqual(bytesOf("1"));
    });

    it("cannot be used with a token that was never given out", async () => {
      expect(await store.renew("k", 1, longMs)).toBe(false);
      expect(await store.complete("k", 1, bytesOf("1"), longMs)).toBe(false);
      expect(await store.release("k", 1)).toBe(false);
      const token = await started("k", "a", { leaseMs: longMs });
      for (const wrong of [token - 1, token + 1, 0]) {
        expect(await store.renew("k", wrong, longMs)).toBe(false);
        expect(await store.complete("k", wrong, bytesOf("1"), longMs)).toBe(false);
        expect(await store.release("k", wrong)).toBe(false);
      }
      expect(await claim("k", "b")).toMatchObject({ kind: "running" });
    });
  });

  describe("tokens", () => {
    it("of a key only grow, and are safe integers", async () => {
      let last = 0;
      for (let round = 0; round < 20; round += 1) {
        const token = await started("k", `h${round}`, { leaseMs: longMs });
        expect(Number.isSafeInteger(token)).toBe(true);
        expect(token).toBeGreaterThan(last);
        last = token;
        await store.release("k", token);
      }
    });

    it("grow also when the store has lost its data", async () => {
      const first = await started("k", "a", { leaseMs: longMs });
      await subject.pass(2);
      store = await subject.lose();
      expect(await store.complete("k", first, bytesOf("1"), longMs)).toBe(false);
      expect(await started("k", "b", { leaseMs: longMs })).toBeGreaterThan(first);
      expect(await store.complete("k", first, bytesOf("1"), longMs)).toBe(false);
    });
  });

  it.each([1, 2, 3, 4, 5])("does what a model of it does, in any order (seed %i)", async (seed) => {
    const random = seededRandom(seed);
    const pick = (below: number) => Math.floor(random() * below);
    const model = new Map<string, ModelEntry>();
    const generations = [0, 0, 0];
    const tokens = [0];
    for (let step = 0; step < 400; step += 1) {
      const place = pick(3);
      const key = `k${place}.${generations[place]}`;
      const entry = model.get(key);
      const token = tokens[pick(Math.min(tokens.length, 6))] ?? 0;
      const holds = entry?.token === token && entry.answer === undefined;
      const action = pick(6);
      if (action < 2) {
        const [holder, fingerprint] = [`h${pick(4)}`, `f${pick(2)}`];
        const answer = await claim(key, holder, { fingerprint, leaseMs: longMs });
        expect(answer.kind).toBe(expectedKind(entry, holder, fingerprint));
        if (answer.kind === "done") expect(new Uint8Array(answer.answer)).toEqual(entry?.answer);
        if (answer.kind === "started" && entry !== undefined)
          expect(answer.token).toBe(entry.token);
        if (answer.kind === "started" && entry === undefined) {
          model.set(key, { holder, fingerprint, token: answer.token, answer: undefined });
          tokens.unshift(answer.token);
        }
      } else if (action === 2) {
        expect(await store.renew(key, token, longMs)).toBe(holds);
      } else if (action === 3) {
        const answer = bytesOf(`${seed}.${step}`);
        expect(await store.complete(key, token, answer, longMs)).toBe(entry?.token === token);
        if (holds) entry.answer = answer;
      } else if (action === 4) {
        expect(await store.release(key, token)).toBe(holds);
        if (holds) model.delete(key);
        // Else all keys are answered soon, and nothing happens any more.
      } else if (entry?.answer !== undefined) generations[place] = step;
    }
    expect([...model.values()].some(({ answer }) => answer !== undefined)).toBe(true);
  });
}

interface ModelEntry {
  readonly holder: string;
  readonly fingerprint: string;
  readonly token: number;
  answer: Uint8Array | undefined;
}

function expectedKind(
  entry: ModelEntry | undefined,
  holder: string,
  fingerprint: string,
): ClaimAnswer["kind"] {
  if (entry === undefined) return "started";
  if (entry.fingerprint !== fingerprint) return "mismatch";
  if (entry.answer !== undefined) return "done";
  return entry.holder === holder ? "started" : "running";
}

function tokenOf(answer: ClaimAnswer): number {
  if (answer.kind === "started") return answer.token;
  throw new Error(`the claim should have started, and was answered with ${answer.kind}`);
}

function answerOf(answer: ClaimAnswer): Uint8Array {
  if (answer.kind === "done") return new Uint8Array(answer.answer);
  throw new Error(`the claim should have been answered, and was told ${answer.kind}`);
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
