import { describe, expect, it } from "vitest";
import { type Candidate, Semaphore, type Waiter } from "../../src/core/semaphore.js";

function setup(options: { permits?: number; maxQueued?: number } = {}) {
  const semaphore = new Semaphore<Candidate>({ permits: 1, maxQueued: 10, ...options });
  const granted: string[] = [];
  const wait = (name: string, rank = 0, headroom = 0): Waiter<Candidate> => {
    const waiter = semaphore.enqueue(rank, { grant: () => granted.push(name) }, headroom);
    if (waiter === undefined) throw new Error("the queue is full");
    return waiter;
  };
  return { semaphore, granted, wait };
}

describe("a semaphore", () => {
  it("hands out as many permits as it has, and again what was released", () => {
    const { semaphore } = setup({ permits: 2 });
    expect([1, 2, 3].map(() => semaphore.tryAcquire())).toEqual([true, true, false]);
    expect(semaphore.running).toBe(2);
    semaphore.release();
    expect(semaphore.tryAcquire()).toBe(true);
  });

  it("hands a released permit to the best waiter, inside the release", () => {
    const { semaphore, granted, wait } = setup();
    semaphore.tryAcquire();
    wait("normal", 2);
    wait("first high", 1);
    wait("second high", 1);
    semaphore.release();
    expect(granted).toEqual(["first high"]);
    expect([semaphore.running, semaphore.queued]).toEqual([1, 2]);
    semaphore.release();
    semaphore.release();
    expect(granted).toEqual(["first high", "second high", "normal"]);
  });

  it("lets a newcomer pass only those who wait at a worse rank", () => {
    const { semaphore, wait } = setup();
    semaphore.tryAcquire();
    wait("waiting", 1);
    // Headroom is the way to find a permit free while somebody waits.
    expect(semaphore.tryAcquire(2, 5)).toBe(false);
    expect(semaphore.tryAcquire(1, 5)).toBe(false);
    expect(semaphore.tryAcquire(0, 5)).toBe(true);
    expect(semaphore.running).toBe(2);
  });

  it("does not let the holder who releases inside a grant barge past those who wait", () => {
    const semaphore = new Semaphore<Candidate>({ permits: 1, maxQueued: 2 });
    semaphore.tryAcquire();
    const seen: unknown[] = [];
    semaphore.enqueue(1, {
      grant() {
        semaphore.release();
        seen.push(semaphore.tryAcquire(1));
      },
    });
    semaphore.enqueue(1, { grant: () => seen.push("granted") });
    semaphore.release();
    expect(seen).toEqual([false, "granted"]);
  });

  it("goes beyond its permits only for those with headroom", () => {
    const { semaphore, granted, wait } = setup();
    expect(semaphore.tryAcquire(0, 1)).toBe(true);
    expect(semaphore.tryAcquire(0, 0)).toBe(false);
    expect(semaphore.tryAcquire(0, 1)).toBe(true);
    expect(semaphore.tryAcquire(0, 1)).toBe(false);
    wait("plain", 1);
    wait("with headroom", 0, 1);
    semaphore.release();
    expect(granted).toEqual(["with headroom"]);
    semaphore.release();
    expect(granted).toEqual(["with headroom"]);
    semaphore.release();
    expect(granted).toEqual(["with headroom", "plain"]);
  });

  it("refuses to queue when the queue is full, and when there is none", () => {
    const { semaphore, wait } = setup({ maxQueued: 1 });
    semaphore.tryAcquire();
    wait("only");
    expect(semaphore.enqueue(0, { grant() {} })).toBeUndefined();
    expect(new Semaphore({ permits: 1, maxQueued: 0 }).enqueue(0, { grant() {} })).toBeUndefined();
  });

  it("grants at once to a candidate who queues while a permit is free", () => {
    const { semaphore, granted, wait } = setup();
    wait("eager");
    expect(granted).toEqual(["eager"]);
    expect([semaphore.running, semaphore.queued]).toEqual([1, 0]);
  });

  it("lets a waiter leave once, and never after its grant", () => {
    const { semaphore, granted, wait } = setup();
    semaphore.tryAcquire();
    const leaver = wait("leaver");
    const stayer = wait("stayer");
    expect([leaver.cancel(), leaver.cancel()]).toEqual([true, false]);
    semaphore.release();
    expect(granted).toEqual(["stayer"]);
    expect(stayer.cancel()).toBe(false);
  });

  it("serves whom a leaving waiter had held up", () => {
    const { semaphore, granted, wait } = setup();
    semaphore.tryAcquire();
    const plain = wait("plain", 0);
    wait("with headroom", 1, 1);
    expect(granted).toEqual([]);
    plain.cancel();
    expect(granted).toEqual(["with headroom"]);
  });

  it("evicts the newest of the worst rank, if that rank is strictly worse", () => {
    const { semaphore, wait } = setup();
    semaphore.tryAcquire();
    wait("high", 1);
    const older = wait("older low", 3);
    const newer = wait("newer low", 3);
    expect(semaphore.evictLast(3)).toBeUndefined();
    expect(semaphore.evictLast(2)).toBe(newer);
    expect(newer.cancel()).toBe(false);
    expect(semaphore.evictLast(1)).toBe(older);
    expect(semaphore.evictLast(1)).toBeUndefined();
    expect(semaphore.queued).toBe(1);
  });

  it("serves the queue when it grows", () => {
    const { semaphore, granted, wait } = setup();
    semaphore.tryAcquire();
    for (const name of ["a", "b", "c"]) wait(name);
    semaphore.resize(3);
    expect(granted).toEqual(["a", "b"]);
    expect([semaphore.running, semaphore.permits]).toEqual([3, 3]);
  });

  it("takes nothing away when it shrinks, and hands nothing over until the number fits", () => {
    const { semaphore, granted, wait } = setup({ permits: 3 });
    for (let i = 0; i < 3; i += 1) semaphore.tryAcquire();
    wait("waiting");
    semaphore.resize(1);
    semaphore.release();
    semaphore.release();
    expect([granted, semaphore.running]).toEqual([[], 1]);
    expect(semaphore.tryAcquire()).toBe(false);
    semaphore.release();
    expect(granted).toEqual(["waiting"]);
  });

  it("serves a long queue of holders who release at once without growing the stack", () => {
    const length = 50_000;
    const semaphore = new Semaphore<Candidate>({ permits: 1, maxQueued: length });
    semaphore.tryAcquire();
    let served = 0;
    const candidate = {
      grant() {
        served += 1;
        semaphore.release();
      },
    };
    for (let i = 0; i < length; i += 1) semaphore.enqueue(0, candidate);
    semaphore.release();
    expect([served, semaphore.running, semaphore.queued]).toEqual([length, 0, 0]);
  });

  it("serves the others before it throws on what a grant threw", () => {
    const { semaphore, granted, wait } = setup();
    semaphore.tryAcquire();
    const broken = new Error("broken");
    semaphore.enqueue(0, {
      grant() {
        semaphore.release();
        throw broken;
      },
    });
    wait("next");
    expect(() => semaphore.release()).toThrow(broken);
    expect(granted).toEqual(["next"]);
    semaphore.release();
    expect(semaphore.running).toBe(0);
  });

  it("says so when a permit is released that nobody holds", () => {
    const { semaphore } = setup();
    expect(() => semaphore.release()).toThrow("nobody holds");
    expect(semaphore.tryAcquire()).toBe(true);
  });
});
