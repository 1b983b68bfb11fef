import { describe, expect, it } from "vitest";
import type { GateAnswer } from "../../../src/core/permit.js";
import type { AdmissionOptions } from "../../../src/policies/admission/options.js";
import { permitOf, queuedOf, refusalOf } from "../../core/turns.js";
import { admissionScene, callOf, noThresholds } from "./scene.js";

describe("the admission queue", () => {
  it("is served best priority first, and in order of arrival inside a priority", () => {
    const { clock, enter } = admissionScene({
      limit: 1,
      maxQueued: 10,
      criticalHeadroom: 0,
      thresholds: noThresholds,
    });
    const order: string[] = [];
    const running = enter();
    const calls = (["low", "normal", "high", "critical", "high"] as const).map((priority, at) => ({
      name: `${at} ${priority}`,
      call: enter(priority),
    }));
    let permit = permitOf(running.entry);
    for (let served = 0; served < calls.length; served += 1) {
      clock.advance(1);
      permit.settle("success");
      const next = calls.find(
        ({ call, name }) => call.fate === "admitted" && !order.includes(name),
      );
      order.push(next?.name ?? "nobody");
      permit = permitOf(next?.call.turns[0]);
    }
    expect(order).toEqual(["3 critical", "2 high", "4 high", "1 normal", "0 low"]);
  });

  it("makes room for a better call by evicting the newest of the worst priority", () => {
    const { admission, enter } = admissionScene({
      limit: 1,
      maxQueued: 3,
      thresholds: noThresholds,
    });
    enter();
    const [high, olderLow, newerLow] = [enter("high"), enter("low"), enter("low")];
    expect(enter("normal").fate).toBe("queued");
    expect([high.fate, olderLow.fate, newerLow.fate]).toEqual(["queued", "queued", "LOAD_SHED"]);
    expect(newerLow.turns).toHaveLength(1);
    expect(refusalOf(newerLow.turns[0]).detail).toBe("gave its place to a normal call");
    expect(admission.snapshot()).toMatchObject({ queued: 3, refused: { low: 1, normal: 0 } });
  });

  it("evicts nobody for a call of the same priority", () => {
    const { enter } = admissionScene({ limit: 1, maxQueued: 1, thresholds: noThresholds });
    enter();
    const waiting = enter("normal");
    expect(enter("normal").fate).toBe("CONCURRENCY_LIMIT");
    expect(enter("low").fate).toBe("CONCURRENCY_LIMIT");
    expect(waiting.fate).toBe("queued");
  });

  it("refuses a critical call only when nobody but critical calls wait", () => {
    const { enter } = admissionScene({
      limit: 1,
      maxQueued: 2,
      criticalHeadroom: 0,
      thresholds: noThresholds,
    });
    enter();
    const others = [enter("high"), enter("normal")];
    const criticals = [enter("critical"), enter("critical"), enter("critical")];
    expect(others.map(({ fate }) => fate)).toEqual(["LOAD_SHED", "LOAD_SHED"]);
    expect(criticals.map(({ fate }) => fate)).toEqual(["queued", "queued", "CONCURRENCY_LIMIT"]);
  });

  it.each([
    ["QUEUE_TIMEOUT", 60, 500],
    ["DEADLINE_EXPIRED", 40, 40],
  ])("ends a wait with %s after %i ms", (reason, waitMs, withinMs) => {
    const { clock, enter } = admissionScene({ limit: 1, maxWaitMs: 60 });
    enter();
    const waiting = enter("normal", withinMs);
    clock.advance(waitMs - 1);
    expect(waiting.fate).toBe("queued");
    clock.advance(1);
    expect(waiting.fate).toBe(reason);
    expect(clock.pending.refs).toBe(0);
  });

  it("does not exist with maxWaitMs 0", () => {
    const { enter } = admissionScene({ limit: 1, maxWaitMs: 0, thresholds: noThresholds });
    enter();
    expect(enter().fate).toBe("CONCURRENCY_LIMIT");
  });

  it("can be left", () => {
    const { clock, admission, enter } = admissionScene({ limit: 1 });
    const running = enter();
    const waiting = enter("high");
    queuedOf(waiting.entry).leave();
    permitOf(running.entry).settle("success");
    clock.advance(1_000);
    expect(waiting.turns).toEqual([]);
    expect(admission.snapshot()).toMatchObject({ running: 0, queued: 0, left: { high: 1 } });
  });

  it("answers a call at once when telling an evicted one has freed a permit", () => {
    const { clock, admission, enter } = admissionScene({
      limit: 1,
      maxQueued: 1,
      thresholds: noThresholds,
    });
    const running = permitOf(enter().entry);
    admission.enter(callOf("low"), () => running.settle("ignored"));
    const newcomer = enter("high");
    expect(newcomer.fate).toBe("admitted");
    expect(newcomer.turns).toEqual([]);
    expect(clock.pending.refs).toBe(0);
    permitOf(newcomer.entry).settle("success");
    expect(admission.snapshot()).toMatchObject({ running: 0, queued: 0 });
  });

  it("has taken the newcomer in before the evicted call can come back", () => {
    const { admission, enter } = admissionScene({
      limit: 1,
      maxQueued: 1,
      thresholds: noThresholds,
    });
    enter();
    let again: GateAnswer | undefined;
    admission.enter(callOf("low"), () => {
      again = admission.enter(callOf("low"), () => {});
    });
    expect(enter("high").fate).toBe("queued");
    expect(refusalOf(again).reason).toBe("CONCURRENCY_LIMIT");
  });
});

describe("a standing queue in adaptive-lifo order", () => {
  it("gives a free slot to the newest call, and to none that has waited for longer than the target", () => {
    const { clock, enter } = admissionScene({
      limit: 1,
      maxQueued: 10,
      criticalHeadroom: 0,
      thresholds: noThresholds,
      queue: { order: "adaptive-lifo", minShare: 0 },
    });
    const running = enter();
    const [critical, oldest] = [enter("critical"), enter()];
    clock.advance(200);
    const [older, newest] = [enter(), enter()];
    clock.advance(5);
    permitOf(running.entry).settle("success");
    // However long a critical call has waited.
    expect(critical.fate).toBe("admitted");
    permitOf(critical.turns[0]).settle("success");
    expect([oldest, older, newest].map(({ fate }) => fate)).toEqual([
      "queued",
      "queued",
      "admitted",
    ]);
    clock.advance(1);
    permitOf(newest.turns[0]).settle("success");
    expect([oldest, older].map(({ fate }) => fate)).toEqual(["QUEUE_TIMEOUT", "QUEUE_TIMEOUT"]);
    expect(refusalOf(older.turns[0]).detail).toContain("waited 6 ms in a standing queue");
  });
});

describe("critical headroom", () => {
  it.each([
    [100, 0.1, 10],
    [70, 0.1, 7],
    [15, 0.1, 2],
    [1, 0.1, 1],
    [5, 0, 0],
  ])("at limit %i and share %d is %i calls, for critical alone", (limit, share, headroom) => {
    const { admission, enter, enterMany } = admissionScene({
      limit,
      criticalHeadroom: share,
      thresholds: noThresholds,
    });
    enterMany(limit, "high");
    expect(enter("high").fate).toBe("queued");
    expect(enterMany(headroom, "critical").every(({ fate }) => fate === "admitted")).toBe(true);
    expect(enter("critical").fate).toBe("queued");
    expect(admission.snapshot().running).toBe(limit + headroom);
  });

  it("goes to a waiting critical call, while the others wait for the limit", () => {
    const { enter } = admissionScene({ limit: 1, maxQueued: 2, thresholds: noThresholds });
    const running = enter("high");
    const beyond = enter("critical");
    const waiting = { critical: enter("critical"), high: enter("high") };
    permitOf(running.entry).settle("success");
    expect([waiting.critical.fate, waiting.high.fate]).toEqual(["admitted", "queued"]);
    permitOf(beyond.entry).settle("success");
    expect(waiting.high.fate).toBe("queued");
    permitOf(waiting.critical.turns[0]).settle("success");
    expect(waiting.high.fate).toBe("admitted");
  });
});

describe("a critical call that waits", () => {
  const full = (options: AdmissionOptions = {}) => {
    const scene = admissionScene({ limit: 1, maxQueued: 10, thresholds: noThresholds, ...options });
    scene.enterMany(2, "critical");
    return scene;
  };

  it("waits longer than others: for two thirds of its time", () => {
    const { clock, enter } = full();
    const [critical, high] = [enter("critical", 300), enter("high", 300)];
    clock.advance(100);
    expect([critical.fate, high.fate]).toEqual(["queued", "QUEUE_TIMEOUT"]);
    clock.advance(99);
    expect(critical.fate).toBe("queued");
    clock.advance(1);
    expect(critical.fate).toBe("QUEUE_TIMEOUT");
  });

  it("waits no longer than a second where it has no deadline", () => {
    const { clock, enter } = full();
    const critical = enter("critical");
    clock.advance(999);
    expect(critical.fate).toBe("queued");
    clock.advance(1);
    expect(critical.fate).toBe("QUEUE_TIMEOUT");
  });

  it("waits as long as the user says", () => {
    const { clock, enter } = full({ maxWaitMs: 70 });
    const critical = enter("critical", 300);
    clock.advance(70);
    expect(critical.fate).toBe("QUEUE_TIMEOUT");
  });
});
