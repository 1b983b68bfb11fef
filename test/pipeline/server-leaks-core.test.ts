import { describe, expect, it } from "vitest";
import {
  type Ending,
  type GateAnswer,
  isQueued,
  isRefusal,
  type OnGranted,
  type Outcome,
  type Permit,
  type Queued,
  type WaitResult,
} from "../../src/core/permit.js";
import { priorities } from "../../src/core/priority.js";
import { Admission } from "../../src/policies/admission/admission.js";
import { resolveAdmissionOptions } from "../../src/policies/admission/options.js";
import { overflowPolicies, queueOrders } from "../../src/policies/admission/queue.js";
import { LoadThresholds } from "../../src/policies/admission/shedders.js";
import { Breaker } from "../../src/policies/breaker/breaker.js";
import { resolveBreakerOptions } from "../../src/policies/breaker/options.js";
import { Bulkhead, resolveBulkheadOptions } from "../../src/policies/bulkhead/bulkhead.js";
import { resolvePartitions } from "../../src/policies/bulkhead/partition-options.js";
import type { LimitOptions } from "../../src/policies/limits/options.js";
import { resolveRateLimitOptions } from "../../src/policies/rate-limit/options.js";
import { RateLimit } from "../../src/policies/rate-limit/rate-limit.js";
import { resolveThrottleOptions } from "../../src/policies/throttle/options.js";
import { Throttle } from "../../src/policies/throttle/throttle.js";
import { seededRandom } from "../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

const report = (error: unknown) => {
  throw error;
};

/** Chance, and the ways in which calls end. */
class Crowd {
  readonly clock = new VirtualClock();
  readonly random = seededRandom(7);
  entered = 0;
  /** Calls that had their one end: a permit that is settled, a refusal, or leaving. */
  ended = 0;
  readonly #holding: Permit[] = [];
  readonly #waiting: Queued[] = [];

  below(count: number): number {
    return Math.floor(this.random() * count);
  }

  /** Without a deadline, with one that passes soon, or with one that has passed. */
  deadlineMs(): number {
    const chance = this.random();
    if (chance < 0.5) return Infinity;
    return this.clock.now() + (chance < 0.52 ? 0 : this.random() * 60);
  }

  /** So many calls ask, while others settle, settle twice, leave, wait for too long, or lose their deadline. */
  churn(calls: number, enter: (onGranted: OnGranted) => GateAnswer): void {
    for (let call = 0; call < calls; call += 1) {
      this.#enter(enter);
      if (this.random() < 0.4) this.#settle();
      if (this.random() < 0.15) this.#leave();
      if (this.random() < 0.3) this.clock.advance(this.random() * 5);
    }
  }

  /** Everybody who runs ends, and everybody who waits has his turn or his time-out. */
  goHome(): void {
    for (let turn = 0; turn < 100 && (this.#holding.length > 0 || this.clock.pending.refs > 0); ) {
      turn += 1;
      while (this.#holding.length > 0) this.#settle();
      this.clock.advance(50);
    }
    expect(this.ended).toBe(this.entered);
    expect(this.clock.pending.refs).toBe(0);
  }

  #enter(enter: (onGranted: OnGranted) => GateAnswer): void {
    this.entered += 1;
    const entry = enter((turn) => this.#turn(turn));
    if (!isQueued(entry)) this.#turn(entry);
    else this.#waiting.push(entry);
  }

  #turn(turn: WaitResult): void {
    if (isRefusal(turn)) this.ended += 1;
    else this.#holding.push(turn);
  }

  #settle(): void {
    const permit = takeOut(this.#holding, this.below(this.#holding.length));
    if (permit === undefined) return;
    const outcome = (["success", "failure", "ignored"] as const)[this.below(3)] as Outcome;
    const ending: Ending = this.random() < 0.2 ? { unserved: "shed", retryAfterMs: 5 } : {};
    permit.settle(outcome, ending);
    // Every path that may be the last one settles.
    if (this.random() < 0.2) permit.settle("failure");
    this.ended += 1;
  }

  #leave(): void {
    // The first ones that are found have had their turn for long; leaving is nothing then.
    for (let tries = 0; tries < 3; tries += 1) {
      const place = takeOut(this.#waiting, this.below(this.#waiting.length));
      if (place?.leave() === true) {
        this.ended += 1;
        return;
      }
    }
    if (this.#waiting.length > 1_000) this.#waiting.splice(0, 900);
  }
}

function takeOut<T>(list: T[], index: number): T | undefined {
  const last = list.pop();
  const chosen = list[index];
  if (chosen === undefined || last === undefined) return last;
  list[index] = last;
  return chosen;
}

const limits: readonly LimitOptions[] = [
  3,
  { algorithm: "elastic", min: 1, max: 8, ceilingMs: 20 },
  { algorithm: "elastic", min: 2, max: 8, windowMs: 10 },
];

// A million calls between them.
describe("after a great many calls that ended in every way, everything is given back", () => {
  describe.each(queueOrders)("admission in %s order", (order) => {
    it.each(overflowPolicies)("with %s", (overflow) => {
      for (const limit of limits) {
        const crowd = new Crowd();
        const { clock, random } = crowd;
        const options = resolveAdmissionOptions({
          limit,
          maxConcurrent: 6,
          maxQueued: 5,
          maxWaitMs: 30,
          criticalHeadroom: 0.5,
          queue: { order, overflow, minShare: 0.1, maxAgeMs: 5, intervalMs: 10, targetMs: 2 },
        });
        const shedders =
          options.thresholds === false ? [] : [new LoadThresholds(options.thresholds)];
        const admission = new Admission(options, clock, random, { shedders, report });
        crowd.churn(14_000, (onGranted) => {
          if (crowd.random() < 0.1) admission.ran(crowd.random());
          const priority = priorities[crowd.below(4)] ?? "normal";
          const deadlineMs = crowd.deadlineMs();
          return admission.enter({ priority, cohort: 0, deadlineMs, neededMs: 2 }, onGranted);
        });
        crowd.goHome();
        const { running, queued, admitted, refused, left } = admission.snapshot();
        expect({ running, queued }).toEqual({ running: 0, queued: 0 });
        const told = [admitted, refused, left].flatMap((counts) => Object.values(counts));
        expect(told.reduce((sum, count) => sum + count, 0)).toBe(crowd.entered);
      }
    });
  });

  it("a bulkhead with partitions, weights and changes of its size", () => {
    const crowd = new Crowd();
    const options = resolveBulkheadOptions({ maxConcurrent: 6, maxQueued: 6, maxWaitMs: 30 });
    const shares = resolvePartitions({ own: { share: 0.34 }, bounded: { maxShare: 0.5 } }, 6);
    const bulkhead = new Bulkhead(options, crowd.clock, report, shares);
    crowd.churn(160_000, (onGranted) => {
      if (crowd.random() < 0.001) bulkhead.resize(2 + crowd.below(8));
      const name = ["own", "bounded", "unknown", undefined][crowd.below(4)];
      const weight = [1, 1, 2, 7][crowd.below(4)];
      return bulkhead.enter(crowd.below(4), crowd.deadlineMs(), onGranted, weight, name);
    });
    crowd.goHome();
    const { running, queued, admitted, refused, left, partitions = {} } = bulkhead.snapshot();
    expect({ running, queued }).toEqual({ running: 0, queued: 0 });
    expect(admitted + refused + left).toBe(crowd.entered);
    for (const part of Object.values(partitions)) {
      expect(part).toMatchObject({ running: 0, queued: 0 });
    }
  });

  it.each([
    { consecutiveFailures: 3, openMs: 5, rampMs: 10 },
    { slowMs: 10, slowRate: 0.5, windowCalls: 10, minCalls: 5, openMs: 5, probes: 2 },
    { inFlightMs: 20, failureRate: 0.5, windowMs: 50, minCalls: 5, openMs: 3, probeLeaseMs: 15 },
  ])("a breaker with %o", (options) => {
    const crowd = new Crowd();
    const { clock, random } = crowd;
    const breaker = new Breaker(resolveBreakerOptions(options), clock, () => {}, report, random);
    crowd.churn(50_000, () =>
      breaker.acquire({ timed: crowd.below(4) > 0, critical: crowd.below(4) === 0 }),
    );
    crowd.goHome();
    expect(JSON.stringify(breaker.snapshot())).not.toMatch(/"probesOut":[1-9]/);
    clock.advance(60_000);
    // Nothing that is out could keep it from closing.
    for (let probe = 0; probe < 3; probe += 1) {
      const entry = breaker.acquire({ timed: true, critical: false });
      if (!isRefusal(entry)) entry.settle("success");
      clock.advance(60_000);
    }
    expect(breaker.snapshot()).toMatchObject({ state: "closed", rampLeftMs: 0 });
  });

  it("a throttle", () => {
    const crowd = new Crowd();
    const options = resolveThrottleOptions({ windowMs: 1_000, minCalls: 2 });
    const throttle = new Throttle(options, crowd.clock, crowd.random);
    crowd.churn(100_000, () => throttle.acquire(crowd.below(4)));
    crowd.goHome();
    crowd.clock.advance(2_000);
    const none = { critical: 0, high: 0, normal: 0, low: 0 };
    expect(throttle.snapshot()).toMatchObject({ requests: none, accepts: none, rejectRatio: none });
  });

  it.each([undefined, "a store that answers later"])("a rate, with %s", (store) => {
    const crowd = new Crowd();
    const { clock, random } = crowd;
    const options = resolveRateLimitOptions({
      ratePerSecond: 300,
      burst: 3,
      maxWaitMs: 30,
      maxQueued: 5,
      maxKeys: 3,
      ...(store === undefined ? {} : { store: { take: () => new Promise(() => {}) } }),
      storeTimeoutMs: 10,
      onStoreError: store === undefined ? "allow" : "refuse",
    });
    const rate = new RateLimit(options, { clock, random, report: () => {} }, "rate");
    crowd.churn(50_000, (onGranted) =>
      rate.enter({
        key: `key ${crowd.below(5)}`,
        cost: crowd.below(3),
        rank: crowd.below(4),
        deadlineMs: crowd.deadlineMs(),
        onGranted,
      }),
    );
    crowd.goHome();
    const { queued, asking, admitted, refused, left } = rate.snapshot();
    expect({ queued, asking }).toEqual({ queued: 0, asking: 0 });
    expect(admitted + refused + left).toBe(crowd.entered);
  });
});
