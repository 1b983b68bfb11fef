import { describe, expect, it } from "vitest";
import type { Ending } from "../../../src/core/permit.js";
import { priorities } from "../../../src/core/priority.js";
import { shed, throttleScene } from "./throttle-scene.js";

const never = () => 1 - 2 ** -53;
const always = () => 0;

describe("a throttle", () => {
  it("holds nothing back while the target serves one of K", () => {
    const { acquire, history } = throttleScene({ k: 2 }, always);
    history("normal", 100, 50);
    expect(acquire()).not.toBe("THROTTLED");
  });

  it("holds back (R - K*A) / (R + 1) of what it is asked for", () => {
    const { throttle, history } = throttleScene({ k: 2 });
    history("normal", 100, 30);
    expect(throttle.snapshot().rejectRatio.normal).toBeCloseTo(40 / 101, 10);
  });

  it("holds a priority back by its own numbers, whatever few calls of a lower one say", () => {
    const { throttle, history } = throttleScene({ k: 2, minCalls: 10 });
    history("critical", 1_000, 1_000);
    history("normal", 100, 0);
    history("low", 9, 9);
    expect(throttle.snapshot().rejectRatio).toMatchObject({ high: 0, normal: 0.9, low: 0.9 });
    // A lower one that is served says that the target has room for this one, too.
    history("low", 1, 1);
    expect(throttle.snapshot().rejectRatio).toMatchObject({ normal: 0, low: 0 });
  });

  it("waits for minCalls", () => {
    const { acquire, history } = throttleScene({ minCalls: 10 }, always);
    history("normal", 9, 0);
    expect(acquire()).not.toBe("THROTTLED");
    expect(acquire()).toBe("THROTTLED");
  });

  it("waits for minCalls of all priorities together", () => {
    const { throttle, history } = throttleScene({ k: 1.5, minCalls: 10 });
    history("critical", 3, 1);
    history("high", 3, 0);
    history("normal", 3, 0);
    expect(throttle.snapshot().rejectRatio.low).toBe(0);
    history("low", 1, 0);
    expect(throttle.snapshot().rejectRatio).toEqual({
      critical: 1.5 / 4,
      high: 0.75,
      normal: 0.75,
      low: 0.75,
    });
  });

  it("goes by a priority's own numbers from minCalls on, and by none of a lower one alone", () => {
    const { throttle, history } = throttleScene({ k: 1.5, minCalls: 10 });
    history("critical", 1_000, 1_000);
    history("normal", 9, 0);
    expect(throttle.snapshot().rejectRatio).toMatchObject({ normal: 0, low: 0 });
    history("normal", 1, 0);
    expect(throttle.snapshot().rejectRatio).toMatchObject({ high: 0, normal: 0.9, low: 0.9 });
    const alone = throttleScene({ minCalls: 10 });
    alone.history("low", 100, 0);
    expect(alone.throttle.snapshot().rejectRatio).toMatchObject({ critical: 0, normal: 0 });
  });

  it("holds the lowest back by its own numbers, whatever is served of the best", () => {
    const { throttle, history } = throttleScene({ k: 1.5, maxRefusedShare: 1 });
    history("critical", 10, 10);
    history("low", 100, 0);
    expect(throttle.snapshot().rejectRatio.low).toBe(100 / 101);
  });

  it("has no less than nothing left for those below a priority that asks for more than K*A", () => {
    const { throttle, history } = throttleScene({ k: 1.5, minCalls: 1 });
    history("critical", 2, 1);
    expect(throttle.snapshot().rejectRatio.low).toBe(0.5 / 3);
  });

  it("lets go on whose draw is its share, and holds back whose draw is below it", () => {
    let drawn = 0;
    const { throttle, history, acquire } = throttleScene({ k: 2 }, () => drawn);
    history("normal", 100, 30);
    acquire();
    const share = throttle.snapshot().rejectRatio.normal;
    drawn = share;
    expect(throttle.check(2)).toBeUndefined();
    drawn = share - 1e-9;
    expect(throttle.check(2)).toMatchObject({ reason: "THROTTLED" });
  });

  it("counts what it holds back as requests, so that it stays held back", () => {
    const { throttle, acquire, history } = throttleScene({}, always);
    history("normal", 19, 0);
    acquire();
    for (let n = 0; n < 30; n += 1) acquire();
    expect(throttle.snapshot()).toMatchObject({
      requests: { normal: 50 },
      accepts: { normal: 1 },
      throttled: 30,
    });
  });

  it("never holds back more than maxRefusedShare", () => {
    const { throttle, history } = throttleScene({ maxRefusedShare: 0.6 });
    history("low", 1_000, 0);
    expect(throttle.snapshot().rejectRatio.low).toBe(0.6);
  });

  it("lets one call pass each forcedPassMs, of whichever priority", () => {
    const { acquire, history, clock } = throttleScene(
      { forcedPassMs: 500, maxRefusedShare: 1 },
      always,
    );
    history("low", 100, 0);
    const passed: number[] = [];
    const beganMs = clock.now();
    for (; clock.now() < beganMs + 2_000; clock.advance(50)) {
      if (acquire("low") !== "THROTTLED") passed.push(clock.now() - beganMs);
    }
    expect(passed).toEqual([0, 500, 1_000, 1_500]);
  });

  it("takes a burst to an idle target for no evidence, however many are under way", () => {
    const { acquire } = throttleScene({}, always);
    const calls = Array.from({ length: 500 }, () => acquire());
    expect(calls).not.toContain("THROTTLED");
  });

  it("counts a call that is refused as unserved from its start on", () => {
    const { throttle, acquire, clock } = throttleScene();
    const permit = acquire();
    clock.advance(10_000);
    if (permit !== "THROTTLED") permit.settle("failure", { unserved: "unavailable" });
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 1 }, accepts: { normal: 0 } });
    clock.advance(50_000);
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 0 } });
  });

  it("takes a lost connection for one event, apart from those that were over when its calls began", () => {
    const { throttle, acquire } = throttleScene();
    const lost = { unserved: "unavailable", connectionLost: true } as const;
    const settle = (permit: ReturnType<typeof acquire>, ending: Ending) => {
      if (permit !== "THROTTLED") permit.settle("failure", ending);
    };
    const [first, second, third] = [acquire(), acquire(), acquire()];
    settle(first, lost);
    // Its connection went with that of the first.
    settle(second, lost);
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 2 }, accepts: { normal: 1 } });
    const later = acquire();
    settle(third, { unserved: "unavailable" });
    settle(later, lost);
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 3 }, accepts: { normal: 0 } });
  });

  it("still counts a call that is refused when its start is forgotten", () => {
    const { throttle, acquire, clock } = throttleScene();
    const permit = acquire();
    clock.advance(200_000);
    if (permit !== "THROTTLED") permit.settle("failure", { unserved: "unavailable" });
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 1 }, accepts: { normal: 0 } });
  });

  it.each([
    ["a failure that was served", "failure", undefined, [1, 1]],
    ["a success", "success", undefined, [1, 1]],
    ["a call of which nothing is known", "ignored", undefined, [0, 0]],
    ["a call that was shed", "ignored", shed, [1, 0]],
    ["a call that was lost", "failure", { unserved: "unavailable" }, [1, 0]],
  ] as const)("counts %s as it should, once", (_what, outcome, ending, [requests, accepts]) => {
    const { throttle, acquire } = throttleScene();
    const permit = acquire("high");
    if (permit !== "THROTTLED") {
      permit.settle(outcome, ending);
      permit.settle("ignored", shed);
      permit.settle("ignored");
    }
    expect(throttle.snapshot()).toMatchObject({
      requests: { high: requests },
      accepts: { high: accepts },
    });
  });

  it.each([60_000, 61_700, 3_600_000])("forgets after %i ms of silence", (silenceMs) => {
    const { throttle, history, clock } = throttleScene();
    history("normal", 100, 0);
    clock.advance(silenceMs);
    expect(throttle.snapshot()).toMatchObject({
      requests: { normal: 0 },
      rejectRatio: { normal: 0 },
    });
  });

  it("says in a refusal what it goes by", () => {
    const { throttle, history } = throttleScene({ k: 1.5 }, always);
    history("normal", 99, 19);
    throttle.acquire(2);
    expect(throttle.acquire(2)).toMatchObject({
      kind: "refusal",
      reason: "THROTTLED",
      detail: "69 % of such calls are held back, served 20 of 100",
    });
  });

  it("says in a refusal the numbers of all priorities", () => {
    const { throttle, history } = throttleScene({ k: 1.5 }, always);
    history("critical", 2, 2);
    history("high", 2, 2);
    history("low", 96, 0);
    throttle.acquire(3);
    expect(throttle.acquire(3)).toMatchObject({
      detail: "90 % of such calls are held back, served 5 of 101",
    });
  });

  it("passes what the draw spares", () => {
    const { acquire, history } = throttleScene({}, never);
    history("normal", 100, 0);
    expect(acquire()).not.toBe("THROTTLED");
  });
});

describe("the priorities of a throttle", () => {
  it("are held back from the lowest on: what is over K*A is over for the last", () => {
    const { throttle, history } = throttleScene({ k: 1.5, maxRefusedShare: 1 });
    for (const priority of priorities) history(priority, 100, 50);
    const { rejectRatio } = throttle.snapshot();
    expect(rejectRatio.low).toBeCloseTo(100 / 101, 10);
    // By its own numbers, each other one has 25 of 100 too many.
    expect(rejectRatio.normal).toBeCloseTo(25 / 101, 10);
    expect(rejectRatio.critical).toBeCloseTo(25 / 101, 10);
  });

  it("are not held back at all as long as a lower one bears it", () => {
    const { throttle, history } = throttleScene({ k: 1.5 });
    history("critical", 100, 100);
    history("normal", 100, 67);
    history("low", 1_000, 400);
    const { rejectRatio } = throttle.snapshot();
    expect(rejectRatio).toMatchObject({ critical: 0, high: 0, normal: 0 });
    expect(rejectRatio.low).toBeGreaterThan(0.3);
  });

  it("of which nothing is known yet are held back as the next better one is", () => {
    const { throttle, history } = throttleScene({ k: 1.5 });
    history("high", 100, 0);
    const { critical, high, normal, low } = throttle.snapshot().rejectRatio;
    expect([critical, high, normal, low]).toEqual([0, 0.9, 0.9, 0.9]);
  });

  it("have each what the target refuses of it held back, though others are served", () => {
    const { throttle, history } = throttleScene({ k: 1.5 });
    history("critical", 900, 900);
    history("low", 100, 0);
    expect(throttle.snapshot().rejectRatio).toEqual({ critical: 0, high: 0, normal: 0, low: 0.9 });
  });

  it("are spared while a lower one is served: one broken method is no overload", () => {
    const { throttle, history } = throttleScene({ k: 1.5 });
    history("critical", 100, 0);
    history("low", 1_000, 1_000);
    expect(throttle.snapshot().rejectRatio).toEqual({ critical: 0, high: 0, normal: 0, low: 0 });
  });
});

describe("a throttle whose target recovers", () => {
  const overloaded = () => {
    const scene = throttleScene({}, () => 1);
    scene.history("normal", 100, 20);
    return scene;
  };
  const ratio = ({ throttle }: ReturnType<typeof throttleScene>) =>
    throttle.snapshot().rejectRatio.normal;
  /** What is held back once so much time has passed, and so many calls were served after it. */
  const afterServing = (scene: ReturnType<typeof throttleScene>, ms: number, calls: number) => {
    scene.clock.advance(ms);
    scene.history("normal", calls, calls);
    return ratio(scene);
  };

  it("forgets what was refused once all was served for a second, and ten in a row", () => {
    const scene = overloaded();
    expect(afterServing(scene, 1_000, 9)).toBeGreaterThan(0.5);
    expect(afterServing(scene, 0, 1)).toBe(0);
    expect(scene.throttle.snapshot()).toMatchObject({
      requests: { normal: 30 },
      accepts: { normal: 30 },
    });
  });

  it("forgets it of every priority", () => {
    const { throttle, clock, history } = throttleScene({ k: 1.5, recoveryMs: 1_000 });
    for (const priority of priorities) history(priority, 20, 5);
    clock.advance(1_000);
    history("normal", 10, 10);
    const served = { critical: 5, high: 5, normal: 15, low: 5 };
    expect(throttle.snapshot()).toMatchObject({ requests: served, accepts: served });
  });

  it("does not before the second is over, nor when one of the ten was refused", () => {
    const scene = overloaded();
    expect(afterServing(scene, 999, 30)).toBeGreaterThan(0.3);
    scene.history("normal", 2, 1);
    expect(afterServing(scene, 999, 1)).toBeGreaterThan(0.3);
    expect(afterServing(scene, 1, 8)).toBeGreaterThan(0.2);
    expect(afterServing(scene, 0, 1)).toBe(0);
  });

  it("needs more calls in a row where K is so small that few of those over it are refused", () => {
    const scene = throttleScene({ k: 1.1 }, () => 1);
    scene.history("normal", 100, 20);
    expect(afterServing(scene, 1_000, 41)).toBeGreaterThan(0.3);
    expect(afterServing(scene, 0, 1)).toBe(0);
  });

  it("waits twice as long each time that it was too early, and as ever after a quiet window", () => {
    const scene = overloaded();
    for (const waitMs of [1_000, 2_000, 4_000]) {
      expect(afterServing(scene, waitMs - 1, 10)).toBeGreaterThan(0);
      expect(afterServing(scene, 1, 1)).toBe(0);
      scene.history("normal", 400, 0);
    }
    expect(afterServing(scene, 8_000, 10)).toBe(0);
    scene.clock.advance(60_000);
    scene.history("normal", 100, 20);
    expect(afterServing(scene, 1_000, 10)).toBe(0);
  });

  it("is not kept from it by calls that are held back, nor by ends that say nothing", () => {
    const { clock, throttle, acquire, history } = throttleScene({}, () => 0);
    history("normal", 100, 20);
    clock.advance(1_000);
    acquire("normal");
    history("normal", 5, 5);
    expect(acquire("normal")).toBe("THROTTLED");
    throttle.pass(2).settle("ignored");
    history("normal", 5, 5);
    expect(throttle.snapshot().rejectRatio.normal).toBe(0);
  });
});

describe("one event that left many requests unserved", () => {
  it("is one request, for a connection that was lost under them", () => {
    const { throttle } = throttleScene();
    const permits = Array.from({ length: 50 }, () => throttle.pass(2));
    for (const permit of permits) {
      permit.settle("failure", { unserved: "unavailable", connectionLost: true });
    }
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 1 }, accepts: { normal: 0 } });
    throttle.pass(2).settle("failure", { unserved: "unavailable", connectionLost: true });
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 2 }, accepts: { normal: 0 } });
  });

  it("is one request, for a failed connect that is told from memory until a call is served", () => {
    const { throttle } = throttleScene();
    const refused = { unserved: "unavailable", event: "refused at 1" } as const;
    for (let n = 0; n < 50; n += 1) throttle.pass(2).settle("failure", refused);
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 1 }, accepts: { normal: 0 } });
    throttle.pass(2).settle("success");
    throttle.pass(2).settle("failure", refused);
    expect(throttle.snapshot()).toMatchObject({ requests: { normal: 3 }, accepts: { normal: 1 } });
  });
});
