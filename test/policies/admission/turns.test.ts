import { describe, expect, it } from "vitest";
import { isQueued, isRefusal } from "../../../src/core/permit.js";
import type { Priority } from "../../../src/core/priority.js";
import { admissionScene, callOf } from "./scene.js";

/** Handlers hold the event loop for 2 ms each, and one has shown it. */
function holding(limit: "adaptive" | number = "adaptive") {
  const scene = admissionScene({ limit });
  const first = scene.enter();
  scene.admission.ran(2);
  if (!isQueued(first.entry) && !isRefusal(first.entry)) first.entry.settle("success");
  scene.clock.advance(1);
  return scene;
}
const fates = (calls: readonly { readonly fate: string }[]) => calls.map(({ fate }) => fate);

describe("admission, while handlers hold the event loop", () => {
  it("lets in what fits into a turn; the others wait for the next one, and the best go first", () => {
    const { enter, enterMany, clock } = holding();
    expect(new Set(fates(enterMany(10)))).toEqual(new Set(["admitted"]));
    const [normal, low, critical] = (["normal", "low", "critical"] as const).map((priority) =>
      enter(priority),
    );
    expect([normal?.fate, low?.fate, critical?.fate]).toEqual(["queued", "queued", "queued"]);
    clock.advance(0);
    expect([normal?.fate, low?.fate, critical?.fate]).toEqual(["admitted", "admitted", "admitted"]);
  });

  it("keeps no more waiting than get through in the longest wait", () => {
    const { admission, enterMany } = holding();
    enterMany(10);
    // A second of 2 ms each.
    expect(admission.snapshot()).toMatchObject({ limit: 1_000, maxQueued: 500 });
    const waiting = enterMany(800, "normal");
    expect(fates(waiting).filter((fate) => fate === "queued").length).toBeLessThan(500);
    expect(fates(enterMany(1, "high"))).toEqual(["queued"]);
  });

  it("keeps no more waiting than callers as a rule have time for", () => {
    const { admission, enter, clock } = holding();
    for (let call = 0; call < 25; call += 1) {
      const { entry } = enter("normal", 300);
      if (!isQueued(entry) && !isRefusal(entry)) entry.settle("success");
      clock.advance(1);
    }
    for (let call = 0; call < 11; call += 1) enter("normal", 300);
    expect(admission.snapshot()).toMatchObject({ queued: 1, maxQueued: 100 });
  });

  it("goes by the time of callers who waited, once none waits any more", () => {
    const { admission, enter, enterMany, clock } = holding();
    const { maxQueued } = admission.snapshot();
    enterMany(10);
    for (let call = 0; call < 30; call += 1) enter("normal", 300);
    expect(admission.snapshot()).toMatchObject({ queued: 30, maxQueued });
    for (let turn = 0; turn < 10; turn += 1) clock.advance(0);
    enterMany(12);
    // Two thirds of 300 ms, of 2 ms each.
    expect(admission.snapshot()).toMatchObject({ maxQueued: 100 });
  });

  it("says how full it is by those who wait, since slots are not what is short", () => {
    const { admission, enterMany } = holding();
    enterMany(10);
    expect(admission.load).toBeCloseTo(10 / 1_500, 5);
    enterMany(250);
    expect(admission.load).toBeCloseTo(0.5, 5);
  });

  it("with a limit that is a number goes by that alone", () => {
    const { enterMany } = holding(100);
    expect(new Set(fates(enterMany(50)))).toEqual(new Set(["admitted"]));
  });

  it("serves critical calls first, and all others by arrival, while nobody has waited for long", () => {
    const { admission, enterMany, clock } = holding();
    enterMany(10, "critical");
    const served: Priority[] = [];
    const arriving = ["low", "normal", "high", "critical", "low"] as const;
    for (const priority of arriving) {
      admission.enter(callOf(priority), () => served.push(priority));
    }
    clock.advance(0);
    expect(served).toEqual(["critical", "low", "normal", "high", "low"]);
  });
});
