import { describe, expect, it } from "vitest";
import { isQueued } from "../../../src/core/permit.js";
import { LedgerAwayError } from "../../../src/policies/rate-limit/leases.js";
import { isGranted, leaseScene } from "./lease-scene.js";
import { rateSceneUnder } from "./rate-scene.js";

const nothingPending = { refs: 0, unrefs: 0 };

describe("a lease of tokens", () => {
  it("makes the first call of a key wait for the ledger, and asks for its own tokens alone", async () => {
    const { clock, ledger, take } = leaseScene();
    const call = take(3);
    expect(call.atOnce).toBe(false);
    await clock.pass(1);
    expect(call.answer).toEqual({ granted: true });
    expect(ledger.asked).toEqual([{ key: "k", back: 0, need: 3, want: 3 }]);
  });

  it("answers at once under load, and asks about ten times per second", async () => {
    const { ledger, load } = leaseScene({}, { ratePerSecond: 1_000, burst: 1_000 });
    await load(400, 1_000);
    const before = ledger.asked.length;
    const calls = await load(400, 1_000);
    expect(calls.every(({ atOnce }) => atOnce)).toBe(true);
    expect(calls.every(isGranted)).toBe(true);
    expect(ledger.asked.length - before).toBeLessThanOrEqual(12);
  });

  it("is as large as what is needed in leaseMs, and no larger than its share of the burst", async () => {
    const scene = leaseScene({}, { ratePerSecond: 1_000, burst: 1_000 });
    await scene.load(100, 2_000);
    // 100 per second for 200 ms.
    expect(scene.store.snapshot().leased).toBeLessThanOrEqual(21);
    let mostLeased = 0;
    for (let n = 0; n < 100; n += 1) {
      await scene.load(900, 20);
      mostLeased = Math.max(mostLeased, scene.store.snapshot().leased);
    }
    expect(mostLeased).toBeGreaterThan(80);
    expect(mostLeased).toBeLessThanOrEqual(100);
  });

  it("is asked for once, however many calls wait for it", async () => {
    const { clock, ledger, take } = leaseScene();
    const calls = Array.from({ length: 50 }, () => take());
    await clock.pass(3);
    expect(calls.every(isGranted)).toBe(true);
    expect(ledger.asked).toHaveLength(2);
  });

  it("serves calls that wait in the order in which they came", async () => {
    const { clock, take } = leaseScene({}, { ratePerSecond: 1, burst: 10 });
    const calls = [take(4), take(5), take(4), take(1)];
    await clock.pass(5);
    expect(calls.map(isGranted)).toEqual([true, true, false, false]);
  });

  it("keeps no more than its share of the burst, whatever comes back", async () => {
    const { clock, ledger, store, take, rate } = leaseScene({}, { ratePerSecond: 10, burst: 100 });
    take(60);
    await clock.pass(2);
    store.giveBack("k", 60, rate);
    expect(store.snapshot().leased).toBe(10);
    expect(ledger.asked.at(-1)).toMatchObject({ back: 50 });
  });

  it("is not made where the burst is too small for one", async () => {
    const { ledger, clock, take, store } = leaseScene({}, { ratePerSecond: 10, burst: 5 });
    for (let n = 0; n < 5; n += 1) {
      const call = take();
      expect(call.atOnce).toBe(false);
      await clock.pass(1);
      expect(isGranted(call)).toBe(true);
    }
    expect(store.snapshot().leased).toBe(0);
    expect(ledger.asked.every(({ want }) => want === 1)).toBe(true);
  });

  it("is never made for a call that costs more than the burst", () => {
    const { ledger, take } = leaseScene({}, { ratePerSecond: 10, burst: 5 });
    expect(take(6).answer).toEqual({ granted: false, retryAfterMs: Infinity });
    expect(ledger.asked).toEqual([]);
  });

  it("goes back when it is not used for a while, and leaves no timer", async () => {
    const { clock, ledger, store, load } = leaseScene();
    await load(400, 1_000);
    expect(store.snapshot().leased).toBeGreaterThan(10);
    await clock.pass(2_001);
    expect(store.snapshot().leased).toBe(0);
    expect(ledger.asked.at(-1)?.back).toBeGreaterThan(10);
    expect(clock.pending).toEqual(nothingPending);
  });

  it("goes back in part when the load falls", async () => {
    const { store, load } = leaseScene();
    await load(400, 2_000);
    expect(store.snapshot().leased).toBeGreaterThan(30);
    await load(20, 4_000);
    expect(store.snapshot().leased).toBeLessThanOrEqual(6);
  });

  it("takes tokens that come back, and lets a call that waits have them", async () => {
    const { clock, store, take, rate } = leaseScene({}, { ratePerSecond: 1, burst: 20 });
    take(20);
    await clock.pass(2);
    const next = take(2);
    store.giveBack("k", 3, rate);
    await clock.pass(0);
    expect(next.answer).toEqual({ granted: true });
    expect(take().answer).toEqual({ granted: true });
  });

  it("of a key that was forgotten goes back", async () => {
    const { clock, ledger, store, take, rate } = leaseScene({ maxKeys: 1 });
    take(1, store, "first");
    await clock.pass(2);
    store.giveBack("first", 1, rate);
    take(1, store, "second");
    await clock.pass(2);
    expect(ledger.asked.filter(({ back }) => back > 0)).toEqual([
      { key: "first", back: 1, need: 0, want: 0 },
    ]);
    expect(store.snapshot().keys).toBe(1);
  });
});

describe("a ledger that has too few tokens", () => {
  it("has the call told when there are enough, and is not asked before", async () => {
    const { clock, ledger, take } = leaseScene({}, { ratePerSecond: 10, burst: 2 });
    take(2);
    await clock.pass(1);
    const refused = take();
    await clock.pass(1);
    const { retryAfterMs } = refused.answer as { retryAfterMs: number };
    expect(retryAfterMs).toBeGreaterThan(95);
    expect(retryAfterMs).toBeLessThanOrEqual(100);
    const asked = ledger.asked.length;
    const again = take();
    expect(again).toMatchObject({ atOnce: true, answer: { granted: false } });
    expect(ledger.asked).toHaveLength(asked);
    await clock.pass(retryAfterMs);
    const last = take();
    await clock.pass(1);
    expect(isGranted(last)).toBe(true);
  });

  it("tells each of those who wait a later time", async () => {
    const { clock, take } = leaseScene({}, { ratePerSecond: 10, burst: 2 });
    take(2);
    await clock.pass(1);
    const calls = [take(), take(), take()];
    await clock.pass(1);
    const waits = calls.map(({ answer }) =>
      Math.round((answer as { retryAfterMs: number }).retryAfterMs / 100),
    );
    expect(waits).toEqual([1, 2, 3]);
  });

  it("is asked about fifty times per second at most, and loses nothing by that", async () => {
    const { clock, ledger, load } = leaseScene({}, { ratePerSecond: 500, burst: 500 });
    await load(5_000, 1_000);
    const before = ledger.asked.length;
    const granted = (await load(5_000, 2_000)).filter(isGranted).length;
    await clock.pass(5);
    expect(ledger.asked.length - before).toBeLessThanOrEqual(2 * 55);
    expect(granted).toBeGreaterThan(980);
    expect(granted).toBeLessThan(1_060);
  });

  it("is asked once per second at a slow rate, because others return tokens", async () => {
    const { clock, ledger, stores, take, rate } = leaseScene(
      {},
      { ratePerSecond: 0.01, burst: 1 },
      2,
    );
    const [one, other] = stores;
    if (one === undefined || other === undefined) throw new Error("two stores");
    take(1, one);
    await clock.pass(1);
    const refused = take(1, other);
    await clock.pass(1);
    expect(refused.answer).toMatchObject({ granted: false });
    one.giveBack("k", 1, rate);
    await clock.pass(2_000);
    const later = take(1, other);
    await clock.pass(1);
    expect(isGranted(later)).toBe(true);
    expect(ledger.asked.some(({ back }) => back === 1)).toBe(true);
  });
});

describe("a rate limit over leases", () => {
  it("lets calls wait for their tokens, in order, and is no slower than the rate", async () => {
    const { clock, store, rate } = leaseScene({}, { ratePerSecond: 20, burst: 20 });
    const { limit } = rateSceneUnder(clock, { ...rate, store, maxWaitMs: 5_000 });
    const admittedMs: number[] = [];
    const startMs = clock.now();
    for (let n = 0; n < 60; n += 1) {
      const entry = limit.enter({
        key: "k",
        cost: 1,
        rank: 2,
        deadlineMs: Infinity,
        onGranted: (turn) => {
          expect(turn).not.toHaveProperty("kind");
          admittedMs.push(clock.now() - startMs);
        },
      });
      expect(isQueued(entry)).toBe(true);
    }
    await clock.pass(4_000);
    expect(admittedMs).toHaveLength(60);
    // Twenty at once, and then twenty per second; a pause before the store is asked again is up to 250 ms.
    expect(admittedMs[19]).toBeLessThanOrEqual(10);
    expect(admittedMs[59]).toBeGreaterThanOrEqual(1_950);
    expect(admittedMs[59]).toBeLessThanOrEqual(2_600);
    expect(limit.snapshot()).toMatchObject({ admitted: 60, queued: 0, storeAway: false });
  });

  it("gives the tokens of a call that did not go on back to the lease", async () => {
    const { clock, store, rate } = leaseScene({}, { ratePerSecond: 10, burst: 100 });
    const { enter } = rateSceneUnder(clock, { ...rate, store });
    const call = enter({ cost: 3 });
    await clock.pass(2);
    expect(call.fate()).toBe("admitted");
    call.abandon();
    expect(store.snapshot().leased).toBe(3);
  });
});

describe("a ledger that is away", () => {
  it("lets a call wait for 40 ms, and the others not at all, which go by the share of this process", async () => {
    const { clock, ledger, store, take, errors } = leaseScene(
      { localShare: 0.25 },
      { ratePerSecond: 100, burst: 8 },
    );
    ledger.fate = () => "silent";
    const first = take();
    await clock.pass(39);
    expect(first.answer).toBeUndefined();
    await clock.pass(1);
    expect(first.answer).toEqual({ granted: true, alone: true });
    expect(take()).toMatchObject({ atOnce: true, answer: { granted: true, alone: true } });
    const refused = take();
    expect(refused).toMatchObject({ atOnce: true, answer: { granted: false, alone: true } });
    expect((refused.answer as { retryAfterMs: number }).retryAfterMs).toBeCloseTo(40);
    expect(store.snapshot()).toMatchObject({ away: true, alone: 3, failures: 1 });
    expect(errors).toHaveLength(1);
    expect(clock.pending.refs).toBe(0);
  });

  it("lets no call wait longer because the answer before was for others", async () => {
    const { clock, ledger, take } = leaseScene({}, { ratePerSecond: 100, burst: 9 });
    ledger.latencyMs = 30;
    take();
    await clock.pass(20);
    const second = take();
    // The first question has brought one token, for the first call, and the next one is not answered.
    ledger.fate = () => "silent";
    await clock.pass(39);
    expect(second.answer).toBeUndefined();
    await clock.pass(1);
    expect(second.answer).toEqual({ granted: true, alone: true });
  });

  it("has what was leased used first", async () => {
    const { clock, ledger, store, take, load } = leaseScene();
    await load(400, 1_000);
    ledger.fate = () => "refused";
    const { leased } = store.snapshot();
    let used = 0;
    for (; used < leased - 1; used += 1) expect(take().answer).toEqual({ granted: true });
    await clock.pass(2);
    take();
    expect(take().answer).toEqual({ granted: true, alone: true });
  });

  it("throws for a call when this process has no share of its own", async () => {
    const { clock, ledger, store, take, rate } = leaseScene({ localShare: false });
    ledger.fate = () => "refused";
    const first = take();
    await clock.pass(1);
    expect(first.error).toBeInstanceOf(LedgerAwayError);
    expect(() => store.take("k", 1, rate)).toThrow(LedgerAwayError);
  });

  it("is asked again once per second, by one call for all keys, and shares as soon as it answers", async () => {
    const { clock, ledger, store, take } = leaseScene();
    ledger.fate = () => "refused";
    for (const key of ["a", "b"]) take(1, store, key);
    await clock.pass(1);
    const before = ledger.asked.length;
    for (let n = 0; n < 40; n += 1) {
      for (const key of ["a", "b", "c"]) take(1, store, key);
      await clock.pass(100);
    }
    expect(ledger.asked.length - before).toBeLessThanOrEqual(4);
    ledger.fate = () => "answered";
    await clock.pass(1_000);
    take();
    await clock.pass(2);
    expect(store.snapshot().away).toBe(false);
    const call = take();
    await clock.pass(2);
    expect(call.answer).toEqual({ granted: true });
  });

  it("that is only slow gives its lease late, and it is used", async () => {
    const { clock, ledger, store, take, load } = leaseScene();
    ledger.latencyMs = 60;
    const first = take();
    await clock.pass(61);
    expect(first.answer).toEqual({ granted: true, alone: true });
    expect(store.snapshot()).toMatchObject({ away: false, leased: 1 });
    await load(400, 2_000);
    const calls = await load(400, 1_000);
    expect(calls.every(({ atOnce }) => atOnce)).toBe(true);
    expect(calls.every(({ answer }) => answer?.alone !== true)).toBe(true);
  });

  it("has its failures reported once per second", async () => {
    const { clock, ledger, errors, load } = leaseScene();
    ledger.fate = () => "refused";
    await load(100, 3_000);
    await clock.pass(10);
    expect(errors.length).toBeGreaterThanOrEqual(2);
    expect(errors.length).toBeLessThanOrEqual(4);
  });

  it("that throws is one that is away", async () => {
    const { clock, ledger, take } = leaseScene();
    ledger.exchange = () => {
      throw new Error("broken");
    };
    const call = take();
    await clock.pass(1);
    expect(call.answer).toEqual({ granted: true, alone: true });
  });
});

describe("a store of leases that is closed", () => {
  it("returns what it holds, and asks for each call from then on", async () => {
    const { clock, ledger, store, take, load } = leaseScene();
    await load(400, 1_000);
    const { leased } = store.snapshot();
    await clock.until(store.close());
    expect(ledger.asked.at(-1)).toMatchObject({ want: 0 });
    expect(ledger.asked.at(-1)?.back).toBeCloseTo(leased);
    expect(clock.pending).toEqual(nothingPending);
    const call = take();
    expect(call.atOnce).toBe(false);
    await clock.pass(1);
    expect(isGranted(call)).toBe(true);
    expect(store.snapshot().leased).toBe(0);
    expect(clock.pending).toEqual(nothingPending);
  });

  it("returns tokens that come back later at once", async () => {
    const { clock, ledger, store, take, rate } = leaseScene();
    take(2);
    await clock.pass(1);
    await clock.until(store.close());
    store.giveBack("k", 2, rate);
    expect(ledger.asked.at(-1)).toEqual({ key: "k", back: 2, need: 0, want: 0 });
  });

  it("is closed although the ledger is away", async () => {
    const { clock, ledger, store, load } = leaseScene();
    await load(400, 1_000);
    ledger.fate = () => "silent";
    await clock.until(store.close());
    expect(store.snapshot()).toMatchObject({ leased: 0, away: true });
  });
});
