import { priorities } from "../../src/core/priority.js";
import type { ServerPolicy } from "../../src/pipeline/server.js";
import { overflowPolicies, queueOrders } from "../../src/policies/admission/queue.js";
import type { LimitOptions } from "../../src/policies/limits/options.js";
import type { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import type { Dice } from "./dice.js";

/** Work that the handlers of a world can do without. */
export const optionalWork = ["pictures", "advice"] as const;

/** The policies of a server, most of them with small numbers so that much happens. */
export function drawServer(dice: Dice, clock: VirtualClock): ServerPolicy {
  const admission = drawAdmission(dice);
  return {
    priority: dice.pick<readonly NonNullable<ServerPolicy["priority"]>[]>(
      {},
      { default: dice.pick(...priorities), trust: dice.hook(() => dice.chance(0.5)) },
      { map: dice.hook(() => dice.pick(undefined, ...priorities)), cohort: "x-tenant" },
    ),
    relay: dice.pick("mark", "pass"),
    deadlineGuard: dice.pick(false, {
      minRemainingMs: dice.pick(0, 20),
      mode: dice.mode(),
      learned: dice.pick(false, {
        minCalls: 1,
        share: dice.pick(0.5, 2),
        passShare: dice.pick(0, 0.5),
        mode: dice.mode(),
      }),
    }),
    quota: dice.pick(false, false, drawQuota(dice, clock), [
      drawQuota(dice, clock),
      drawQuota(dice, clock),
    ]),
    bulkhead: dice.pick(false, false, {
      maxConcurrent: 3,
      maxQueued: dice.pick(0, 2),
      maxWaitMs: 40,
      key: dice.pick(
        "server",
        "method",
        dice.hook(() => "tenant"),
      ),
      partitions: { own: { share: 0.34 }, bounded: { maxShare: 0.5 } },
      partition: dice.hook(() => dice.pick("own", "bounded", "default", "unknown")),
      weight: dice.hook(() => dice.pick(1, 1, 2, 9)),
      maxKeys: dice.pick(1, 10),
      mode: dice.mode(),
    }),
    admission,
    brownout: dice.pick(false, {
      optional: {
        pictures: { skipAbovePressure: 0.1, mark: dice.chance(0.5) },
        advice: { skipAbovePressure: 0.3, skipAllAbovePressure: 0.6 },
      },
      pressure: dice.hook(() => dice.random()),
      ...dice.pick({}, { flag: dice.hook(() => dice.pick(true, false, undefined)) }),
      mode: dice.mode(),
    }),
    faults: dice.pick(false, false, {
      latency: { rate: dice.pick(0, 0.3), ms: [0, 60] as const },
      status: { rate: 0.1, code: dice.pick(14, 8, 13), pushbackMs: dice.pick(0, 20, "stop") },
      drop: { rate: dice.pick(0, 0.05) },
      midStream: {
        rate: 0.1,
        ...dice.pick({ afterMessages: 0 }, { afterMessages: 2 }, { afterBytes: 1 }),
      },
      maxActive: dice.pick(1, 100),
      mode: dice.mode(),
    }),
  };
}

function drawQuota(dice: Dice, clock: VirtualClock) {
  return {
    ratePerSecond: dice.pick(20, 200),
    burst: dice.pick(1, 3),
    maxWaitMs: dice.pick(0, 40),
    maxQueued: dice.pick(1, 5),
    key: dice.pick(
      "server",
      "method",
      "peer",
      dice.hook(() => "tenant"),
    ),
    cost: dice.hook(() => dice.pick(0, 1, 1, 2)),
    onStoreError: dice.pick("allow", "refuse"),
    mode: dice.mode(),
    ...dice.pick({}, { store: dice.store(clock) }),
  };
}

function drawAdmission(dice: Dice): NonNullable<ServerPolicy["admission"]> {
  const pool = () => ({
    limit: drawLimit(dice),
    ...dice.pick({}, { maxConcurrent: 2 }),
    ...dice.pick({}, { maxQueued: 0 }, { maxQueued: 1 }, { maxQueued: 3 }),
    ...dice.pick({}, { maxWaitMs: 50 }),
    queue: {
      order: dice.pick(...queueOrders),
      overflow: dice.pick(...overflowPolicies),
      minShare: dice.pick(0, 0.25),
      maxAgeMs: dice.pick(0, 20),
      intervalMs: dice.pick(1, 30),
      targetMs: dice.pick(0, 5),
    },
  });
  return dice.pick(false, {
    ...pool(),
    criticalHeadroom: dice.pick(0, 0.5),
    thresholds: dice.pick(false, {}, { low: 1, normal: 1, high: 1 }),
    pressure: dice.pick(false, {
      sampleMs: 10,
      target: dice.pick(0.1, 0.9),
      signals: { drawn: dice.hook(() => dice.random()) },
    }),
    streams: dice.pick("together", {
      ...pool(),
      ...dice.pick({}, { maxAgeMs: dice.pick(1, 50, 500) }),
    }),
    publish: dice.chance(0.8),
    mode: dice.mode(),
  });
}

function drawLimit(dice: Dice): LimitOptions {
  return dice.pick<readonly LimitOptions[]>(
    1,
    2,
    "adaptive",
    { algorithm: "elastic", min: 1, max: dice.pick(2, 8), windowMs: 10 },
    { algorithm: "elastic", min: 1, max: 4, windowMs: 10, ceilingMs: dice.pick(20, 500) },
  );
}
