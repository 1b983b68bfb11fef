import { describe, expect, it } from "vitest";
import {
  type PartitionOptions,
  resolvePartitions,
} from "../../../src/policies/bulkhead/partition-options.js";
import {
  type Candidate,
  Partitions,
  type PartitionTicket,
} from "../../../src/policies/bulkhead/partitions.js";

interface Named extends Candidate {
  readonly name: string;
}

function setup(
  shares: Record<string, PartitionOptions> = {},
  { permits = 10, maxQueued = 100 } = {},
) {
  const partitions = new Partitions<Named>(
    { permits, maxQueued },
    resolvePartitions(shares, permits),
  );
  const granted: string[] = [];
  const take = (partition: string, weight = 1, rank = 0) =>
    partitions.tryAcquire(partitions.named(partition), rank, weight);
  const enqueue = (partition: string, name: string, weight = 1, rank = 0) =>
    partitions.enqueue(partitions.named(partition), rank, weight, {
      name,
      grant: () => granted.push(name),
    });
  const wait = (...args: Parameters<typeof enqueue>): PartitionTicket<Named> => {
    const waiter = enqueue(...args);
    if (waiter === undefined) throw new Error("no place in the queue");
    return waiter;
  };
  const release = (partition: string, weight = 1) =>
    partitions.release(partitions.named(partition), weight);
  const runningOf = (partition: string) => partitions.named(partition).running;
  return { partitions, granted, take, enqueue, wait, release, runningOf };
}

describe("partitions", () => {
  it("lend what nobody uses, up to the most that a partition may have", () => {
    const { take, runningOf } = setup({ checkout: { share: 0.5 }, reports: { maxShare: 0.3 } });
    expect([1, 2, 3, 4].map(() => take("reports"))).toEqual([true, true, true, false]);
    expect([1, 2, 3, 4, 5, 6, 7, 8].map(() => take("checkout"))).toEqual([
      ...Array(7).fill(true),
      false,
    ]);
    expect([runningOf("reports"), runningOf("checkout")]).toEqual([3, 7]);
  });

  it("give calls of names that nobody gave to the default partition", () => {
    const { partitions } = setup({ a: {} });
    expect(partitions.named("b")).toBe(partitions.unnamed);
    expect(partitions.named("__proto__")).toBe(partitions.unnamed);
    expect(partitions.named("default")).toBe(partitions.unnamed);
  });

  it("serve one under its guarantee before all who borrow, whatever their rank and however they came", () => {
    const { take, wait, release, granted } = setup({ checkout: { share: 0.2 } });
    for (let n = 0; n < 10; n += 1) take("default");
    wait("default", "urgent, but borrows", 1, 0);
    wait("checkout", "first", 1, 3);
    wait("checkout", "second", 1, 3);
    wait("checkout", "third", 1, 3);
    for (let n = 0; n < 4; n += 1) release("default");
    expect(granted).toEqual(["first", "second", "urgent, but borrows", "third"]);
  });

  it("share what is left by rank, and inside a rank by arrival", () => {
    const { take, wait, release, granted } = setup({ a: {}, b: {} });
    for (let n = 0; n < 10; n += 1) take("default");
    wait("a", "a normal", 1, 2);
    wait("b", "b normal", 1, 2);
    wait("a", "a again", 1, 2);
    wait("b", "b high", 1, 1);
    for (let n = 0; n < 4; n += 1) release("default");
    expect(granted).toEqual(["b high", "a normal", "b normal", "a again"]);
  });

  it("let no newcomer borrow while somebody waits for what is its own", () => {
    const { take, wait, release, granted, runningOf } = setup({ checkout: { share: 0.5 } });
    for (let n = 0; n < 10; n += 1) take("default");
    wait("checkout", "heavy", 4);
    for (let n = 0; n < 3; n += 1) release("default");
    expect(take("default", 1, -1)).toBe(false);
    release("default");
    expect(granted).toEqual(["heavy"]);
    expect([runningOf("checkout"), runningOf("default")]).toEqual([4, 6]);
  });

  it("let a newcomer have what is its own beside a heavy one that waits for its own", () => {
    const { take, wait, release, granted } = setup({ a: { share: 0.5 }, b: { share: 0.5 } });
    for (let n = 0; n < 10; n += 1) take("default");
    wait("a", "heavy", 5);
    release("default", 2);
    expect(take("b", 1, 9)).toBe(true);
    expect(take("b", 1, 9)).toBe(true);
    release("default", 5);
    expect(granted).toEqual(["heavy"]);
  });

  it("keep what comes free for a heavy one that borrows, against all that would borrow after it", () => {
    const { take, wait, enqueue, release, granted } = setup({ a: {}, b: {} });
    for (let n = 0; n < 10; n += 1) take("default");
    wait("a", "heavy", 6);
    release("default", 5);
    expect(take("b")).toBe(false);
    enqueue("b", "light");
    expect(granted).toEqual([]);
    release("default");
    expect(granted).toEqual(["heavy"]);
    release("default");
    expect(granted).toEqual(["heavy", "light"]);
  });

  it("let nobody pass a heavy one in its own partition but a better rank", () => {
    const { take, wait, enqueue, release, granted } = setup({ a: { maxShare: 0.5 } });
    for (let n = 0; n < 4; n += 1) take("a");
    wait("a", "heavy", 3, 2);
    expect(take("a", 1, 2)).toBe(false);
    enqueue("a", "light", 1, 2);
    expect(take("a", 1, 1)).toBe(true);
    release("a", 2);
    expect(granted).toEqual([]);
    release("a");
    expect(granted).toEqual(["heavy"]);
  });

  it("are not held up by one whose partition has all that it may have", () => {
    const { take, wait, release, granted } = setup({ a: { maxShare: 0.2 }, b: {} });
    take("a", 2);
    for (let n = 0; n < 8; n += 1) take("b");
    wait("a", "bound");
    wait("b", "free");
    release("b");
    expect(granted).toEqual(["free"]);
    release("a");
    expect(granted).toEqual(["free", "bound"]);
  });

  it("serve whom a heavy one held up when that goes away", () => {
    const { take, wait, release, granted } = setup();
    take("default", 8);
    const heavy = wait("default", "heavy", 5);
    wait("default", "light", 2);
    expect(granted).toEqual([]);
    expect([heavy.cancel(), heavy.cancel()]).toEqual([true, false]);
    expect(granted).toEqual(["light"]);
    release("default", 10);
  });

  it("keep to each partition's places in the queue, and lend those that are nobody's", () => {
    const { take, enqueue, partitions } = setup(
      { checkout: { share: 0.5 }, reports: { share: 0.1, maxShare: 0.3 } },
      { maxQueued: 10 },
    );
    for (let n = 0; n < 10; n += 1) take("default");
    const places = (partition: string) => {
      let taken = 0;
      while (enqueue(partition, partition) !== undefined) taken += 1;
      return taken;
    };
    // One of its own, two of the four that are nobody's.
    expect(places("reports")).toBe(3);
    expect(places("default")).toBe(2);
    expect(places("checkout")).toBe(5);
    expect(partitions.queued).toBe(10);
  });

  it("take a place back when its candidate goes, wherever that came from", () => {
    const { take, wait, enqueue } = setup({ a: { share: 0.5 } }, { maxQueued: 2 });
    take("default", 10);
    const own = wait("a", "own");
    wait("a", "common");
    expect(enqueue("default", "too many")).toBeUndefined();
    own.cancel();
    expect(enqueue("default", "has the common one")).toBeDefined();
    expect(enqueue("a", "too many")).toBeUndefined();
  });

  it("serve at once with more permits, and take out who is too heavy for fewer", () => {
    const { partitions, take, wait, granted, runningOf, release } = setup({
      a: { share: 0.5, maxShare: 0.5 },
    });
    take("default", 10);
    wait("a", "outgrown", 5);
    wait("a", "light", 1);
    expect(partitions.resize(8).map(({ name }) => name)).toEqual(["outgrown"]);
    expect([partitions.running, partitions.queued]).toEqual([10, 1]);
    release("default", 2);
    expect(granted).toEqual([]);
    expect(partitions.resize(9)).toEqual([]);
    expect(granted).toEqual(["light"]);
    expect(runningOf("a")).toBe(1);
  });

  it("can be emptied of all who wait", () => {
    const { partitions, take, wait, granted, release } = setup({ a: { share: 0.5 } });
    take("default", 10);
    wait("default", "one", 1, 1);
    wait("default", "two", 1, 0);
    const three = wait("a", "three");
    expect(partitions.clear().map(({ name }) => name)).toEqual(["two", "one", "three"]);
    expect(three.cancel()).toBe(false);
    release("default", 10);
    expect([granted, partitions.queued, partitions.running]).toEqual([[], 0, 0]);
  });

  it("refuse to take back what nobody holds", () => {
    const { take, release } = setup({ a: {} });
    take("a", 2);
    expect(() => release("a", 3)).toThrow("nobody holds");
    expect(() => release("default")).toThrow("nobody holds");
  });

  it("do not let one who releases inside a grant pass those whose turn it is", () => {
    const { partitions, take, wait, granted } = setup({}, { permits: 1 });
    const { unnamed } = partitions;
    take("default");
    const seen: unknown[] = [];
    partitions.enqueue(unnamed, 1, 1, {
      name: "holder",
      grant() {
        partitions.release(unnamed, 1);
        seen.push(partitions.tryAcquire(unnamed, 1, 1));
      },
    });
    wait("default", "next", 1, 1);
    partitions.release(unnamed, 1);
    expect(seen).toEqual([false]);
    expect(granted).toEqual(["next"]);
  });

  it("do not let a newcomer inside a grant pass one who waits for its own, of the same rank", () => {
    const { partitions, take, wait, granted } = setup(
      { a: { share: 0.5 }, b: { share: 0.5 } },
      { permits: 2 },
    );
    take("default", 2);
    const a = partitions.named("a");
    const b = partitions.named("b");
    const seen: unknown[] = [];
    partitions.enqueue(a, 0, 1, {
      name: "holder",
      grant() {
        partitions.release(a, 1);
        seen.push(partitions.tryAcquire(b, 1, 1), partitions.tryAcquire(b, 0, 1));
      },
    });
    wait("a", "waits", 1, 1);
    partitions.release(partitions.unnamed, 1);
    expect(seen).toEqual([false, true]);
    expect(granted).toEqual([]);
    partitions.release(partitions.unnamed, 1);
    expect(granted).toEqual(["waits"]);
  });

  it("serve whom a heavy one held up when a newcomer makes that one wait for its own partition", () => {
    const { take, wait, granted } = setup({ a: { maxShare: 0.6 }, b: {} });
    take("b", 5);
    wait("a", "heavy", 6, 1);
    wait("b", "light", 1, 1);
    expect(granted).toEqual([]);
    expect(take("a", 1, 0)).toBe(true);
    expect(granted).toEqual(["light"]);
  });

  it("serve the others when a grant throws, and throw it on", () => {
    const { partitions, take, wait, granted, release } = setup({}, { permits: 2 });
    take("default", 2);
    partitions.enqueue(partitions.unnamed, 0, 1, {
      name: "broken",
      grant() {
        throw new Error("broken");
      },
    });
    wait("default", "next");
    expect(() => release("default", 2)).toThrow("broken");
    expect(granted).toEqual(["next"]);
    expect(partitions.running).toBe(2);
  });

  it("throw on the first error, when several grants throw", () => {
    const { partitions, take, release } = setup({}, { permits: 2 });
    take("default", 2);
    for (const name of ["first", "second"]) {
      partitions.enqueue(partitions.unnamed, 0, 1, {
        name,
        grant() {
          throw new Error(name);
        },
      });
    }
    expect(() => release("default", 2)).toThrow("first");
  });
});

describe("the queue of partitions", () => {
  it("grants permits that are free before it answers", () => {
    const { enqueue, granted, runningOf } = setup({ a: {} });
    expect(enqueue("a", "first")).toBeDefined();
    expect(granted).toEqual(["first"]);
    expect(runningOf("a")).toBe(1);
  });

  it("has no more common places when one leaves a place of its own partition", () => {
    const { take, enqueue, wait } = setup({ a: { share: 0.5 } }, { permits: 4, maxQueued: 4 });
    for (const partition of ["a", "a", "default", "default"]) take(partition);
    wait("default", "first");
    wait("default", "second");
    for (const leaves of [wait("a", "third"), wait("a", "fourth")]) leaves.cancel();
    expect(enqueue("default", "fifth")).toBeUndefined();
    const [own, its] = [wait("a", "sixth"), wait("a", "seventh")];
    own.cancel();
    its.cancel();
    expect(enqueue("default", "eighth")).toBeUndefined();
  });

  it("serves the others when some throw, and throws what the first of them threw", () => {
    const { partitions, take, wait, release, granted } = setup({}, { permits: 3 });
    for (let n = 0; n < 3; n += 1) take("default");
    for (const name of ["first", "second"]) {
      partitions.enqueue(partitions.unnamed, 0, 1, {
        name,
        grant: () => {
          throw new Error(name);
        },
      });
    }
    wait("default", "third");
    expect(() => release("default", 3)).toThrow("first");
    expect(granted).toEqual(["third"]);
  });
});
