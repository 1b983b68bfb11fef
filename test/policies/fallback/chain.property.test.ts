import fc from "fast-check";
import { expect, it } from "vitest";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { type Candidate, candidate, FallbackScene } from "./fallback-scene.js";

const kinds = ["answer", "none", "error", "never"] as const;

const provider = fc.record({
  timeoutMs: fc.integer({ min: 1, max: 60 }),
  maxConcurrent: fc.integer({ min: 1, max: 2 }),
  accepts: fc.boolean(),
  saysAfterMs: fc.integer({ min: -1, max: 80 }),
  says: fc.constantFrom(...kinds),
});
const call = fc.record({
  startsAtMs: fc.integer({ min: 0, max: 100 }),
  withinMs: fc.integer({ min: 0, max: 150 }),
  leavesAfterMs: fc.option(fc.integer({ min: 0, max: 120 }), { nil: undefined }),
});

it("whatever providers say and callers do: one end, in order, in time, and every place comes back", () => {
  fc.assert(
    fc.property(
      fc.array(provider, { minLength: 1, maxLength: 4 }),
      fc.array(call, { minLength: 1, maxLength: 6 }),
      (providers, calls) => {
        const clock = new VirtualClock();
        const chain: readonly Candidate[] = providers.map((one, index) =>
          candidate(String(index), one),
        );
        const scenes: { scene: FallbackScene; withinMs: number; left: boolean }[] = [];
        for (const { startsAtMs, withinMs, leavesAfterMs } of calls) {
          clock.schedule(startsAtMs, () => {
            const scene = new FallbackScene(chain, withinMs, clock);
            const entry = { scene, withinMs, left: false };
            scenes.push(entry);
            scene.duringAsk = () => speak(scene);
            scene.run.start();
            if (leavesAfterMs === undefined) return;
            clock.schedule(leavesAfterMs, () => {
              entry.left = scene.answers.length + scene.unanswered.length === 0;
              scene.run.abort();
            });
          });
        }
        const speak = (scene: FallbackScene) => {
          const { last } = scene;
          const { saysAfterMs, says } = providers[Number(last.name)] ?? providers[0] ?? raise();
          if (says === "never") return;
          const say = () =>
            last.told(
              says === "answer"
                ? { kind: "answer", answer: last.name }
                : says === "none"
                  ? { kind: "none" }
                  : { kind: "error", error: new Error(last.name) },
            );
          if (saysAfterMs < 0) say();
          else clock.schedule(saysAfterMs, say);
        };
        for (let step = 0; step < 100; step += 1) {
          clock.advance(5);
          for (const { load } of chain) {
            const { running } = load.snapshot();
            const given = scenes.flatMap(({ scene }) =>
              scene.answers.filter(({ by }) => by === load.limits.name),
            );
            // Permits of answers are the hosts' to give back, and these never do.
            if (running < given.length || running > load.limits.maxConcurrent) {
              throw new Error(`running ${running}, given ${given.length}`);
            }
          }
        }
        for (const { scene, withinMs, left } of scenes) {
          const ends = scene.answers.length + scene.unanswered.length;
          expect(ends).toBe(left ? 0 : 1);
          const order = scene.names.map(Number);
          expect(order).toEqual([...new Set(order)].sort((a, b) => a - b));
          for (const { atMs, dueMs, name } of scene.asked) {
            expect(chain[Number(name)]?.accepts).toBe(true);
            expect(atMs).toBeLessThan(withinMs);
            expect(dueMs).toBeLessThanOrEqual(withinMs);
          }
          const ownCancel = scene.asked.map((one) => one.ownCancel);
          expect(Math.max(0, ...ownCancel)).toBeLessThanOrEqual(1);
          for (const { permit } of scene.answers) permit.settle("success");
        }
        for (const { load } of chain) expect(load.snapshot().running).toBe(0);
        expect(clock.pending.refs).toBe(0);
      },
    ),
    { numRuns: 100 },
  );
});

function raise(): never {
  throw new Error("unreachable");
}
