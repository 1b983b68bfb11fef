import { describe, expect, it } from "vitest";
import { forSeeds } from "../../replay.js";
import { lateMs, leaseMs, type Told, World } from "./keys-world.js";

/** More with `IDEMPOTENCY_SEEDS=5000`. */
const { IDEMPOTENCY_SEEDS: count = "100" } = process.env;
const seeds = (from: number) => Array.from({ length: Number(count) }, (_, index) => from + index);

/** The world at its end. */
async function lived(seed: number, onStoreError: "refuse" | "run", faults: number): Promise<World> {
  const world = new World(seed, onStoreError, faults);
  await world.live();
  return world;
}

/** What holds in each world, whatever happens in it. */
function expectSound(world: World): void {
  expectOwnAnswers(world);
  expectNobodyLeftBehind(world);
  expectInTime(world);
  expectFences(world);
}

/** Nobody gets the answer to another key or request. */
function expectOwnAnswers({ told }: World): void {
  for (const { asked, answer } of told) {
    const own = `${asked.key} ${asked.fingerprint} `;
    if (answer !== undefined) expect(answer.slice(0, own.length)).toBe(own);
  }
}

/** Each call is told once, unless its process died; and no process keeps anything of it. */
function expectNobodyLeftBehind({ asked, processes }: World): void {
  for (const { told, left, process } of asked) {
    if (process.state === "dead") expect(told).toBeLessThanOrEqual(1);
    else expect(told).toBe(left ? 0 : 1);
  }
  for (const { keys, state } of processes) {
    if (state !== "dead") expect(keys.snapshot()).toMatchObject({ running: 0, waiting: 0 });
  }
}

/** A call that waits is told before its deadline is over, if its process does not stand still. */
function expectInTime({ told, runs }: World): void {
  const ran = new Set(runs.map(({ asked }) => asked));
  for (const { asked, atMs } of told) {
    if (asked.process.stood || ran.has(asked)) continue;
    expect(atMs).toBeLessThanOrEqual(asked.deadlineMs + lateMs);
  }
}

/** No two runs have the same token, and none that comes later has an effect behind the one whose answer is stored. */
function expectFences({ told, runs }: World): void {
  const tokens = runs.flatMap(({ asked, token }) =>
    token === undefined ? [] : [`${asked.key} ${token}`],
  );
  expect(new Set(tokens).size).toBe(tokens.length);
  for (const { key, number } of told.flatMap(storedBy)) {
    const protectedOnes = runs.filter(
      ({ asked, token }) => asked.key === key && token !== undefined,
    );
    const kept = protectedOnes.find(({ asked }) => asked.number === number);
    for (const { appliedAs = 0 } of protectedOnes) {
      expect(appliedAs).toBeLessThanOrEqual(kept?.appliedAs ?? Number.NaN);
    }
  }
}

/** The call whose answer was told, if the store has it. */
function storedBy({ asked: { key }, answer, stored }: Told): { key: string; number: number }[] {
  if (answer === undefined || stored !== true) return [];
  return [{ key, number: Number(answer.split(" ")[2]) }];
}

/** All who got an answer that the store has, got the same one. */
function expectOneAnswer({ told }: World): void {
  const known = new Map<string, number>();
  for (const { key, number } of told.flatMap(storedBy)) {
    expect(number).toBe(known.get(key) ?? number);
    known.set(key, number);
  }
}

describe("several processes with one store", () => {
  it("run each call once in effect while nothing fails", async () => {
    let replays = 0;
    await forSeeds(seeds(1), async (seed) => {
      const world = await lived(seed, "refuse", 0);
      expectSound(world);
      expectOneAnswer(world);
      replays += world.told.filter(({ replayed }) => replayed === true).length;
    });
    expect(replays).toBeGreaterThan(0);
  });

  it("give nobody another answer than the stored one, whatever fails", () =>
    forSeeds(seeds(10_001), async (seed) => {
      const world = await lived(seed, "refuse", 0.15);
      expectSound(world);
      expectOneAnswer(world);
      expect(world.told.filter(({ answer, stored }) => answer !== undefined && !stored)).toEqual(
        [],
      );
    }));

  it("mark what is not protected, where they run without the store", () =>
    forSeeds(seeds(20_001), async (seed) => {
      const world = await lived(seed, "run", 0.3);
      expectSound(world);
      expectOneAnswer(world);
    }));

  it("answer or run all keys once all is well again", () =>
    forSeeds(seeds(30_001), async (seed) => {
      const world = await lived(seed, "refuse", 0.15);
      const process = world.pick(world.processes.filter(({ state }) => state !== "dead"));
      const before = world.told.length;
      for (const key of ["a", "b", "c"]) world.call(process, key, `${key}1`, leaseMs);
      await world.clock.pass(20 * leaseMs);
      expectOneAnswer(world);
      const reasons = world.told.slice(before).map(({ reason }) => reason);
      expect(reasons).not.toContain("IDEMPOTENCY_IN_PROGRESS");
      expect(reasons).not.toContain("IDEMPOTENCY_STORE_FAILED");
    }));
});
