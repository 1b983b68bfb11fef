import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { refusal } from "../../src/core/permit.js";
import { localRejection } from "../../src/grpc/status/rejection.js";
import { Histogram } from "../../src/lab/histogram.js";
import { goodput, Tally, together } from "../../src/lab/tally.js";

const ended = (code: status): StatusObject => ({ code, details: "", metadata: new Metadata() });

describe("a tally", () => {
  it("counts calls by phase and priority, and tells refusals from failures", () => {
    const tally = new Tally([
      { name: "before", ms: 1_000 },
      { name: "after", ms: 1_000 },
    ]);
    const statuses = [
      ended(status.OK),
      ended(status.UNAVAILABLE),
      ended(status.RESOURCE_EXHAUSTED),
      ended(status.DEADLINE_EXCEEDED),
      localRejection(refusal("LOAD_SHED", "too much")),
      localRejection(refusal("DEADLINE_EXCEEDED", "too late")),
    ];
    for (const each of statuses) {
      tally.sent(100, "low");
      tally.ended(100, 5, "low", each);
    }
    tally.sent(1_500, "critical");
    const [before, after] = tally.report();
    expect(before).toMatchObject({
      sent: 6,
      good: 1,
      refused: { LOAD_SHED: 1, RESOURCE_EXHAUSTED: 1 },
      failed: { DEADLINE_EXCEEDED: 2, UNAVAILABLE: 1 },
      priorities: { low: { sent: 6, good: 1 }, critical: { sent: 0 } },
    });
    expect(after).toMatchObject({ sent: 1, good: 0, priorities: { critical: { sent: 1 } } });
    expect(before === undefined ? undefined : goodput(before)).toBe(1 / 6);
  });

  it("says what became of each call", () => {
    const tally = new Tally([{ name: "before", ms: 1_000 }]);
    const of = (each: StatusObject) => tally.ended(100, 5, "low", each);
    expect(
      [
        ended(status.OK),
        ended(status.DEADLINE_EXCEEDED),
        localRejection(refusal("LOAD_SHED", "too much")),
      ].map(of),
    ).toEqual(["good", "failed", "refused"]);
  });

  it("counts the requests of the tier that gets the most, by call", () => {
    const tally = new Tally([{ name: "before", ms: 1_000 }]);
    tally.sent(100, "normal");
    tally.sent(100, "normal");
    tally.arrived(200, 0);
    for (let request = 0; request < 3; request += 1) tally.arrived(200, 2);
    expect(tally.report()[0]?.amplification).toBe(1.5);
  });

  it("counts the requests at the servers by call", () => {
    const tally = new Tally([{ name: "before", ms: 1_000 }]);
    tally.sent(100, "normal");
    tally.sent(100, "normal");
    for (let request = 0; request < 3; request += 1) tally.arrived(200);
    expect(tally.report()).toMatchObject([{ amplification: 1.5 }]);
  });

  it("tells when all was back to normal", () => {
    const recoveryOf = (failing: (dueMs: number) => boolean) => {
      const tally = new Tally([{ name: "before", ms: 10_000 }]);
      for (let dueMs = 0; dueMs < 10_000; dueMs += 1) {
        tally.sent(dueMs, "normal");
        const code = failing(dueMs) ? status.UNAVAILABLE : status.OK;
        tally.ended(dueMs, 1, "normal", ended(code));
      }
      return tally.recoveryMs(4_000, 1);
    };
    expect(recoveryOf((dueMs) => dueMs < 4_000)).toBe(0);
    expect(recoveryOf((dueMs) => dueMs < 4_500)).toBe(500);
    expect(recoveryOf((dueMs) => dueMs % 100 === 0)).toBe(0);
    expect(recoveryOf((dueMs) => dueMs > 3_000)).toBe(Number.POSITIVE_INFINITY);
  });

  it("adds up the counts of several runs", () => {
    const one = { sent: 2, good: 1, refused: { LOAD_SHED: 1 }, failed: {} };
    const two = { sent: 3, good: 0, refused: { LOAD_SHED: 1 }, failed: { INTERNAL: 2 } };
    expect(together([one, two])).toEqual({
      sent: 5,
      good: 1,
      refused: { LOAD_SHED: 2 },
      failed: { INTERNAL: 2 },
    });
  });
});

describe("a histogram", () => {
  it("knows quantiles to 5 %, and none of nothing", () => {
    const histogram = new Histogram();
    expect(histogram.quantile(0.5)).toBeUndefined();
    for (let ms = 1; ms <= 1_000; ms += 1) histogram.add(ms);
    for (const share of [0.01, 0.5, 0.99, 1]) {
      const found = histogram.quantile(share) ?? 0;
      expect(found / (share * 1_000)).toBeGreaterThanOrEqual(0.99);
      expect(found / (share * 1_000)).toBeLessThan(1.06);
    }
    histogram.add(0);
    histogram.add(1e12);
    expect(histogram.total).toBe(1_002);
  });
});
