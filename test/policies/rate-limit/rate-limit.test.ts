import { describe, expect, it } from "vitest";
import { InvalidOptionError, maxDurationMs } from "../../../src/core/options.js";
import { resolveRateLimitOptions } from "../../../src/policies/rate-limit/options.js";
import { costFunction } from "../../../src/policies/rate-limit/rate-limit.js";
import { BusyClock } from "../../core/busy-clock.js";
import { permitOf, queuedOf, refusalOf } from "../../core/turns.js";
import { rateScene, rateSceneUnder } from "./rate-scene.js";

const idle = { queued: 0, asking: 0 };

describe("a rate without a wait", () => {
  it("lets the burst through at once, and refuses the next with the time to its token", () => {
    const { clock, limit, enter } = rateScene({ burst: 2 });
    expect([enter(), enter()].map(({ fate }) => fate())).toEqual(["admitted", "admitted"]);
    expect(refusalOf(enter().entry)).toEqual({
      kind: "refusal",
      reason: "RATE_LIMIT_EXCEEDED",
      detail: '"a" has used up 10 per second, burst 2',
      retryAfterMs: 100,
      subject: "a",
    });
    clock.advance(99);
    expect(refusalOf(enter().entry).retryAfterMs).toBe(1);
    clock.advance(1);
    expect(enter().fate()).toBe("admitted");
    expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 3, refused: 2 });
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("spreads those who were refused together over a tenth of the time", () => {
    const { enter } = rateScene({}, () => 0.5);
    enter();
    expect(refusalOf(enter().entry).retryAfterMs).toBeCloseTo(105);
  });

  it("counts each key by itself", () => {
    const { enter } = rateScene();
    expect([enter({ key: "a" }), enter({ key: "b" })].map(({ fate }) => fate())).toEqual([
      "admitted",
      "admitted",
    ]);
    expect(enter({ key: "b" }).fate()).toBe("RATE_LIMIT_EXCEEDED");
  });

  it("takes what a call costs", () => {
    const { enter } = rateScene({ burst: 5 });
    expect(enter({ cost: 4 }).fate()).toBe("admitted");
    expect(refusalOf(enter({ cost: 3 }).entry).retryAfterMs).toBe(200);
    expect(enter({ cost: 0 }).fate()).toBe("admitted");
    expect(enter({ cost: 1 }).fate()).toBe("admitted");
    expect(enter({ cost: 0 }).fate()).toBe("admitted");
  });

  it("names no time for what it can never give", () => {
    const { enter } = rateScene({ burst: 5, maxWaitMs: 10_000 });
    enter({ cost: 5 });
    enter({ cost: 1 });
    const refused = refusalOf(enter({ cost: 6 }).entry);
    expect(refused).toMatchObject({ reason: "RATE_LIMIT_EXCEEDED", subject: "a" });
    expect(refused.detail).toBe('"a" asks for 6 tokens, and there are never more than 5');
    expect(refused.retryAfterMs).toBeUndefined();
  });

  it("takes no token for a call without time", () => {
    const { enter } = rateScene();
    expect(enter({ withinMs: 0 }).fate()).toBe("DEADLINE_EXPIRED");
    expect(enter().fate()).toBe("admitted");
  });

  it("gives the tokens of a call back that does not go on after all", () => {
    const { enter } = rateScene();
    enter().abandon();
    expect(enter().fate()).toBe("admitted");
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
  });

  it("gives tokens back once, whatever their call does", () => {
    const { enter } = rateScene({ burst: 2 });
    const unused = enter();
    enter();
    unused.abandon();
    unused.abandon();
    expect(enter().fate()).toBe("admitted");
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
  });

  it("gives nothing back of a call that has ended", () => {
    const { enter } = rateScene();
    const call = enter();
    permitOf(call.entry).settle("failure");
    call.abandon();
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
  });

  it("gives nothing back of a call that took no token", () => {
    const { enter } = rateScene();
    const free = enter({ cost: 0 });
    enter();
    free.abandon();
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
  });

  it("gives back to the key that the tokens are of, however long it is", () => {
    const { enter } = rateScene();
    const key = "k".repeat(10_000);
    enter({ key }).abandon();
    expect(enter({ key }).fate()).toBe("admitted");
    expect(enter({ key }).fate()).toBe("RATE_LIMIT_EXCEEDED");
  });
});

describe("a rate with a wait", () => {
  it("lets waiting calls go on one by one, each exactly when its token is there", () => {
    const { clock, limit, enter } = rateScene({ maxWaitMs: 1_000 });
    const calls = [1, 2, 3, 4].map(() => enter());
    expect(calls.map(({ fate }) => fate())).toEqual(["admitted", "queued", "queued", "queued"]);
    expect(limit.snapshot()).toMatchObject({ queued: 3 });
    clock.advance(99);
    expect(calls[1]?.fate()).toBe("queued");
    clock.advance(201);
    expect(calls.map(({ waits }) => waits)).toEqual([[], [100], [200], [300]]);
    expect(calls.map(({ fate }) => fate())).toEqual(Array(4).fill("admitted"));
    expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 4, refused: 0 });
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("counts what those in front cost", () => {
    const { enter } = rateScene({ burst: 5, maxWaitMs: 650 });
    enter({ cost: 5 });
    expect(enter({ cost: 4 }).fate()).toBe("queued");
    expect(refusalOf(enter({ cost: 3 }).entry).retryAfterMs).toBe(700);
    expect(enter({ cost: 2 }).fate()).toBe("queued");
  });

  it("tells a call that has waited for as long as it may how long the rest would take", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 150 });
    enter();
    const waiting = enter();
    clock.advance(50);
    const preferred = [enter({ rank: 0 }), enter({ rank: 0 })];
    clock.advance(99);
    expect([...preferred, waiting].map(({ fate }) => fate())).toEqual([
      "admitted",
      "queued",
      "queued",
    ]);
    clock.advance(1);
    expect(waiting.fate()).toBe("RATE_LIMIT_EXCEEDED");
    // The other one has its token in 50 ms, and the next one comes 100 ms later.
    expect(waiting.turns).toMatchObject([{ retryAfterMs: 150 }]);
  });

  it("refuses at once whom the wait would take too long, and says how long", () => {
    const { enter, limit } = rateScene({ maxWaitMs: 200 });
    const fates = [1, 2, 3].map(() => enter().fate());
    expect(fates).toEqual(["admitted", "queued", "queued"]);
    expect(refusalOf(enter().entry)).toMatchObject({
      reason: "RATE_LIMIT_EXCEEDED",
      retryAfterMs: 300,
    });
    expect(limit.snapshot()).toMatchObject({ queued: 2, refused: 1 });
  });

  it("names a time below a millisecond where the rate is that high", () => {
    const { enter } = rateScene({ ratePerSecond: 10_000, maxWaitMs: 0.1 });
    expect([enter(), enter()].map(({ fate }) => fate())).toEqual(["admitted", "queued"]);
    expect(refusalOf(enter().entry).retryAfterMs).toBeCloseTo(0.2);
    const impatient = rateScene({ ratePerSecond: 10_000 });
    impatient.enter();
    expect(refusalOf(impatient.enter().entry).retryAfterMs).toBeCloseTo(0.1);
  });

  it.each([99, 100])(
    "refuses at once whose deadline of %i ms comes before its token",
    (withinMs) => {
      const { enter } = rateScene({ maxWaitMs: 1_000 });
      enter();
      expect(enter({ withinMs }).fate()).toBe("RATE_LIMIT_EXCEEDED");
      expect(enter({ withinMs: 101 }).fate()).toBe("queued");
    },
  );

  it("lets one wait exactly as long as it may", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 200 });
    const calls = [1, 2, 3].map(() => enter());
    clock.advance(200);
    expect(calls.map(({ fate }) => fate())).toEqual(["admitted", "admitted", "admitted"]);
  });

  it("counts of those who wait only whom it serves before, and only while they wait", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 250 });
    enter();
    enter({ rank: 1 });
    expect(enter({ rank: 3 }).fate()).toBe("queued");
    // Behind the one, before the other.
    expect(enter({ rank: 2 }).fate()).toBe("queued");
    expect(refusalOf(enter({ rank: 2 }).entry).retryAfterMs).toBe(300);
    clock.advance(100);
    expect(refusalOf(enter({ rank: 3 }).entry).retryAfterMs).toBe(300);
    expect(enter({ rank: 2 }).fate()).toBe("queued");
  });

  it("lets those pass that cost nothing, though others wait", () => {
    const { enter } = rateScene({ maxWaitMs: 1_000 });
    enter();
    expect(enter().fate()).toBe("queued");
    expect(enter({ cost: 0, rank: 3 }).fate()).toBe("admitted");
  });

  it("keeps no timer for a queue that all have left", () => {
    const { clock, limit, enter } = rateScene({ maxWaitMs: 1_000 });
    enter();
    const [low, high] = [enter({ rank: 3 }), enter({ rank: 1 })];
    for (const { entry } of [low, high]) queuedOf(entry).leave();
    expect(limit.snapshot()).toMatchObject({ ...idle, left: 2 });
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("lets no more wait than maxQueued", () => {
    const { enter } = rateScene({ maxWaitMs: 1_000, maxQueued: 1 });
    enter();
    expect([enter(), enter()].map(({ fate }) => fate())).toEqual(["queued", "RATE_LIMIT_EXCEEDED"]);
    const none = rateScene({ maxWaitMs: 1_000, maxQueued: 0 });
    expect([none.enter(), none.enter()].map(({ fate }) => fate())).toEqual([
      "admitted",
      "RATE_LIMIT_EXCEEDED",
    ]);
  });

  it("lets nobody wait for more keys than it keeps", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 1_000, maxKeys: 2 });
    const second = (key: string) => {
      enter({ key });
      return enter({ key }).fate();
    };
    expect(["a", "b", "c"].map(second)).toEqual(["queued", "queued", "RATE_LIMIT_EXCEEDED"]);
    // Those of the others have been served by then.
    clock.advance(200);
    expect(second("c")).toBe("queued");
  });

  it("serves the better rank first, and inside a rank who came first", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 1_000 });
    const order: string[] = [];
    enter();
    for (const [name, rank] of [
      ["low", 3],
      ["normal", 2],
      ["second normal", 2],
      ["high", 1],
    ] as const)
      enter({ rank }, () => order.push(name));
    clock.advance(400);
    expect(order).toEqual(["high", "normal", "second normal", "low"]);
  });

  it("lets no newcomer go before those who wait, though their timer be late", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 1_000 });
    enter();
    let newcomer: ReturnType<typeof enter> | undefined;
    clock.schedule(100, () => {
      newcomer = enter();
    });
    const waiting = enter();
    clock.advance(100);
    expect(waiting.fate()).toBe("admitted");
    expect(newcomer?.fate()).toBe("queued");
  });

  it("refuses one that better calls have kept from its token as long as it may wait", () => {
    const { clock, limit, enter } = rateScene({ maxWaitMs: 150 });
    enter();
    const low = enter({ rank: 3 });
    expect(low.fate()).toBe("queued");
    const high = enter({ rank: 1 });
    clock.advance(150);
    expect(high.fate()).toBe("admitted");
    expect(low.fate()).toBe("RATE_LIMIT_EXCEEDED");
    // Known when the better one took the token, and not only when the time is up.
    expect(low.waits).toEqual([100]);
    expect(limit.snapshot()).toMatchObject({ ...idle, refused: 1 });
    expect(clock.pending.refs).toBe(0);
  });

  it("refuses one whose deadline passes while better calls are before it", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 10_000, ratePerSecond: 10, burst: 5 });
    enter({ cost: 5 });
    const low = enter({ rank: 3, withinMs: 130 });
    enter({ rank: 1, cost: 5 });
    clock.advance(130);
    expect(low.fate()).toBe("DEADLINE_EXPIRED");
    expect(low.waits).toEqual([130]);
  });

  it("gives the place of one that leaves to those behind it", () => {
    const { clock, limit, enter } = rateScene({ maxWaitMs: 1_000 });
    enter();
    const [first, second] = [enter(), enter()];
    const place = queuedOf(first.entry);
    clock.advance(50);
    expect([place.leave(), place.leave()]).toEqual([true, false]);
    clock.advance(50);
    expect([first.fate(), second.fate()]).toEqual(["queued", "admitted"]);
    expect(second.waits).toEqual([100]);
    expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 2, left: 1 });
    expect(clock.pending.refs).toBe(0);
  });

  it("asks for what the next one costs when a dear one before it leaves", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 1_000, burst: 5 });
    enter({ cost: 5 });
    const [dear, cheap] = [enter({ cost: 5 }), enter({ cost: 1 })];
    clock.advance(200);
    queuedOf(dear.entry).leave();
    expect(cheap.fate()).toBe("admitted");
  });

  it("serves nobody sooner by the tokens of a call that was refused behind it", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 1_000, burst: 2 });
    const [first, second] = [enter(), enter()];
    const waiting = [enter(), enter()];
    first.abandon(true);
    second.abandon(true);
    expect(waiting.map(({ fate }) => fate())).toEqual(["queued", "queued"]);
    clock.advance(200);
    expect(waiting.map(({ waits }) => waits)).toEqual([[100], [200]]);
    // Both are there when nobody waits any more.
    expect([enter(), enter()].map(({ fate }) => fate())).toEqual(["admitted", "admitted"]);
    expect(enter().fate()).toBe("queued");
  });

  it("gives back a single token of a call that was refused behind it, when nobody waits", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 100 });
    const refused = enter();
    const waiting = enter();
    refused.abandon(true);
    clock.advance(100);
    expect(waiting.fate()).toBe("admitted");
    expect([enter(), enter()].map(({ fate }) => fate())).toEqual(["admitted", "queued"]);
  });

  it("keeps those who wait to their times while all are refused behind it", () => {
    const { clock, limit, enter } = rateScene({ maxWaitMs: 1_000 });
    enter().abandon(true);
    enter();
    const waiting = [1, 2, 3, 4].map(() => {
      const call = enter({}, () => call.abandon(true));
      return call;
    });
    clock.advance(400);
    expect(waiting.map(({ waits }) => waits)).toEqual([[100], [200], [300], [400]]);
    expect(limit.snapshot()).toMatchObject(idle);
    expect(enter().fate()).toBe("admitted");
    expect(enter().fate()).toBe("queued");
  });

  it("serves those who wait at once when tokens are given back by one that left", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 1_000 });
    const unused = enter();
    const waiting = enter();
    clock.advance(10);
    unused.abandon();
    expect(waiting.waits).toEqual([10]);
    expect(clock.pending.refs).toBe(0);
  });

  it("gives back what a call waited for and did not use", () => {
    const { clock, enter } = rateScene({ maxWaitMs: 1_000 });
    enter();
    const [unused, next] = [enter(), enter()];
    clock.advance(100);
    expect([unused.fate(), next.fate()]).toEqual(["admitted", "queued"]);
    unused.abandon();
    expect(next.waits).toEqual([100]);
  });

  it("keeps its order and its count when those who are served come back at once", () => {
    const { clock, limit, enter } = rateScene({ maxWaitMs: 10_000 });
    let served = 0;
    const again = () => {
      served += 1;
      if (served < 20) enter({}, again);
    };
    enter();
    enter({}, again);
    clock.advance(2_000);
    expect(served).toBe(20);
    expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 21 });
  });

  it("serves a long queue in one go, each turn bringing the next, without running out of stack", () => {
    const { limit, enter } = rateScene({ maxWaitMs: 5_000_000, maxQueued: 3_000 });
    let served = 0;
    const first = enter();
    for (let n = 0; n < 3_000; n += 1) {
      const call = enter({}, () => {
        served += 1;
        call.abandon();
      });
    }
    first.abandon();
    expect(served).toBe(3_000);
    expect(limit.snapshot()).toMatchObject(idle);
  });

  it("reports a turn that throws, and serves the others", () => {
    const { clock, limit, enter, errors } = rateScene({ maxWaitMs: 1_000 });
    enter();
    enter({}, () => {
      throw new Error("broken");
    });
    const second = enter();
    clock.advance(200);
    expect(second.fate()).toBe("admitted");
    expect(errors).toMatchObject([{ error: { message: "broken" }, where: "onGranted" }]);
    expect(limit.snapshot()).toMatchObject(idle);
  });

  it("refuses those who wait when it is drained, and lets nobody wait then", () => {
    const { clock, limit, enter } = rateScene({ maxWaitMs: 1_000 });
    const calls = ["a", "a", "b", "b"].map((key) => enter({ key }));
    limit.drain();
    expect(calls.map(({ fate }) => fate())).toEqual([
      "admitted",
      "DRAINING",
      "admitted",
      "DRAINING",
    ]);
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(limit.snapshot()).toMatchObject(idle);
    expect(clock.pending.refs).toBe(0);
  });

  it("lets none through by what another gives back when it is drained", () => {
    const { limit, enter } = rateScene({ maxWaitMs: 1_000 });
    enter({ key: "a" });
    const { abandon } = enter({ key: "b" });
    const waiting = [enter({ key: "a" }, () => abandon()), enter({ key: "b" })];
    limit.drain();
    expect(waiting.map(({ fate }) => fate())).toEqual(["DRAINING", "DRAINING"]);
  });
});

describe("a rate in a busy process", () => {
  it("takes no token for one whose deadline has passed before its timer runs", () => {
    const { clock, enter } = rateSceneUnder(new BusyClock(), { maxWaitMs: 1_000 });
    enter();
    const [late, next] = [enter({ withinMs: 110 }), enter()];
    clock.busy(150);
    clock.turn();
    expect([late.fate(), next.fate()]).toEqual(["DEADLINE_EXPIRED", "admitted"]);
    expect(clock.pending).toBe(0);
  });

  it("asks once more when its timer runs a little early", () => {
    const { clock, enter } = rateSceneUnder(new BusyClock(), { maxWaitMs: 1_000 });
    enter();
    const waiting = enter();
    clock.busy(99.7);
    clock.turn();
    expect(waiting.fate()).toBe("queued");
    clock.busy(0.3);
    clock.turn();
    expect(waiting.fate()).toBe("admitted");
  });

  it("counts tokens that are there, and not handed out yet, as there", () => {
    const options = { maxWaitMs: 1_000, maxQueued: 1 };
    const { clock, enter } = rateSceneUnder(new BusyClock(), options);
    enter();
    enter();
    clock.busy(150);
    expect(refusalOf(enter().entry).retryAfterMs).toBe(100);
  });

  it("knows a deadline though its timer runs a little early", () => {
    const { clock, enter } = rateSceneUnder(new BusyClock(), { maxWaitMs: 1_000, burst: 5 });
    enter({ cost: 5 });
    const low = enter({ rank: 3, withinMs: 130 });
    enter({ rank: 1, cost: 5 });
    clock.busy(129.7);
    clock.turn();
    expect(low.fate()).toBe("DEADLINE_EXPIRED");
  });
});

describe("the keys of a rate", () => {
  it("are bounded: those used longest ago start with a full bucket", () => {
    const { enter } = rateScene({ maxKeys: 3 });
    for (const key of ["a", "b", "c"]) enter({ key });
    expect(enter({ key: "a" }).fate()).toBe("RATE_LIMIT_EXCEEDED");
    enter({ key: "d" });
    expect(enter({ key: "a" }).fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(enter({ key: "b" }).fate()).toBe("admitted");
  });

  it("may be huge, and are told apart and told short", () => {
    const { enter } = rateScene({ maxWaitMs: 100 });
    const huge = "k".repeat(1_000_000);
    expect(enter({ key: `${huge}1` }).fate()).toBe("admitted");
    expect(enter({ key: `${huge}2` }).fate()).toBe("admitted");
    expect(enter({ key: `${huge}1` }).fate()).toBe("queued");
    const refused = refusalOf(enter({ key: `${huge}1` }).entry);
    expect(refused.subject?.length).toBeLessThan(256);
    expect(refused.detail).toBe(`"${"k".repeat(64)}" has used up 10 per second, burst 1`);
  });

  it("may hold anything", () => {
    const { enter } = rateScene();
    for (const key of ["", "__proto__", "\u0000\n\ud800", 'a "quoted" one']) {
      enter({ key });
      expect(refusalOf(enter({ key }).entry).subject).toBe(key);
      expect(refusalOf(enter({ key }).entry).detail).not.toContain("\n");
    }
  });
});

describe("the cost of a call", () => {
  it.each([
    [0, 0, 0],
    [0.5, 0.5, 0],
    [7, 7, 0],
    [-1, 1, 1],
    [NaN, 1, 1],
    [Infinity, 1, 1],
    ["3", 1, 1],
  ])("given as %o is %d, with %d reports", (given, cost, reports) => {
    const errors: unknown[] = [];
    const costOf = costFunction(
      () => given as number,
      (error) => errors.push(error),
      "rate.cost",
    );
    expect(costOf({})).toBe(cost);
    expect(errors).toHaveLength(reports);
  });
});

describe("the options of a rate", () => {
  it("are complete: a burst of one second, and no wait", () => {
    expect(resolveRateLimitOptions({ ratePerSecond: 20 })).toEqual({
      rate: { ratePerSecond: 20, burst: 20 },
      maxWaitMs: 0,
      maxQueued: 100,
      maxKeys: 10_000,
      store: undefined,
      storeTimeoutMs: 50,
      onStoreError: "allow",
    });
    expect(resolveRateLimitOptions({ ratePerSecond: 0.1 }).rate.burst).toBe(1);
  });

  it.each([
    ["ratePerSecond", [0.000_001, 1_000_000_000]],
    ["burst", [1, 1_000_000_000]],
    ["maxWaitMs", [0, maxDurationMs]],
    ["maxQueued", [0, 1_000_000]],
    ["maxKeys", [1, 10_000_000]],
    ["storeTimeoutMs", [1, maxDurationMs]],
  ])("take %s at the ends of its range", (option, ends) => {
    for (const value of ends) {
      const { rate, ...others } = resolveRateLimitOptions({ ratePerSecond: 10, [option]: value });
      expect({ ...rate, ...others }).toMatchObject({ [option]: value });
    }
  });

  it.each([
    ["ratePerSecond", undefined],
    ["ratePerSecond", 0],
    ["ratePerSecond", 1_000_000_001],
    ["burst", 1_000_000_001],
    ["maxQueued", -1],
    ["maxKeys", 10_000_001],
    ["ratePerSecond", NaN],
    ["ratePerSecond", Infinity],
    ["ratePerSecond", "10"],
    ["burst", 0.5],
    ["maxWaitMs", -1],
    ["maxQueued", 1.5],
    ["maxKeys", 0],
    ["store", null],
    ["store", {}],
    ["store", { take: () => {}, giveBack: 1 }],
    ["storeTimeoutMs", 0],
    ["onStoreError", "ignore"],
    ["perSecond", 10],
  ])("refuse %s of %o", (option, value) => {
    const options: unknown = { ratePerSecond: 10, [option]: value };
    const build = () =>
      resolveRateLimitOptions(options as { ratePerSecond: number }, "client.rate");
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(
      expect.objectContaining({ name: "InvalidOptionError", option: `client.rate.${option}` }),
    );
  });
});
