import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../src/core/options.js";
import { createWeir } from "../src/weir.js";

const daysMs = 24 * 24 * 60 * 60 * 1000;
const endless = Number.MAX_SAFE_INTEGER;

/** An option, the ends of its range as its documentation has them, and what else must be given for it to count. */
type Range = [option: string, least: number, most: number, beside?: object];

const wholeNumbers: readonly Range[] = [
  ["client.retry.maxAttempts", 1, 100],
  ["client.retry.maxDepth", 1, 100],
  ["client.retry.maxBufferBytes", 0, 2 ** 30],
  ["client.retry.maxBufferMessages", 0, 1_000_000],
  ["client.hedge.maxAttempts", 2, 5, { delayMs: 5 }],
  ["client.breaker.consecutiveFailures", 1, endless],
  ["client.breaker.minCalls", 1, endless],
  ["client.breaker.minCalls", 1, 50, { windowCalls: 50 }],
  ["client.breaker.windowCalls", 1, 10_000],
  ["client.breaker.probes", 1, 1_000],
  ["client.breaker.successesToClose", 1, 1_000],
  ["client.breaker.maxKeys", 1, 100_000],
  ["client.throttle.minCalls", 1, endless],
  ["client.rate.maxQueued", 0, endless, { ratePerSecond: 1 }],
  ["client.rate.maxKeys", 1, 10_000_000, { ratePerSecond: 1 }],
  ["client.bulkhead.maxConcurrent", 1, endless],
  ["client.bulkhead.maxQueued", 0, endless],
  ["client.bulkhead.maxKeys", 1, 1_000_000],
  ["client.resets.burst", 4, 1_000_000],
  ["server.bulkhead.maxConcurrent", 1, endless],
  ["server.bulkhead.maxQueued", 0, endless],
  ["server.bulkhead.maxKeys", 1, 1_000_000],
  ["client.faults.maxActive", 1, endless],
  ["client.faults.status.code", 1, 16],
  ["client.faults.status.pushbackMs", 0, daysMs],
  ["client.faults.midStream.afterMessages", 0, endless],
  ["server.faults.midStream.afterBytes", 0, endless],
  ["server.deadlineGuard.learned.minCalls", 1, endless],
  ["server.admission.limit", 1, endless],
  ["server.admission.limit.max", 1, 1_000_000, { algorithm: "elastic" }],
  ["server.admission.limit.min", 1, 90, { algorithm: "elastic", max: 90 }],
  ["server.admission.maxConcurrent", 1, endless],
  ["server.admission.fairness.maxKeys", 1, 1_000_000],
  ["server.admission.maxQueued", 0, endless],
];

const numbers: readonly Range[] = [
  ["client.retry.backoff.multiplier", 1, 100],
  ["client.retry.budget.minPerSecond", 0, 1_000_000],
  ["client.retry.budget.maxTokens", 0.001, 1_000],
  ["client.retry.budget.tokenRatio", 0.001, 1_000],
  ["client.breaker.openFactor", 1, 10],
  ["client.breaker.openJitter", 0, 0.9],
  ["client.throttle.passShare", 0, 1],
  ["client.rate.ratePerSecond", 1e-6, 1e9],
  ["client.rate.burst", 1, 1e9, { ratePerSecond: 1 }],
  ["client.resets.ratePerSecond", 0.1, 1_000_000],
  ["client.faults.drop.rate", 0, 1],
  ["server.deadlineGuard.learned.quantile", 0, 1],
  ["server.deadlineGuard.learned.share", 0.01, 10],
  ["server.deadlineGuard.learned.passShare", 0, 1],
  ["server.brownout.optional.stories.skipAbovePressure", 0, 1, { skipAllAbovePressure: 1 }],
  ["server.brownout.optional.stories.skipAllAbovePressure", 0.4, 1, { skipAbovePressure: 0.4 }],
  ["server.admission.criticalHeadroom", 0, 1],
  ["server.admission.queue.minShare", 0, 0.25],
  ["server.admission.pressure.cpu.from", 0, 1e9 - 1, { to: 1e9 }],
  ["server.admission.pressure.cpu.to", 1e-9, 1e9, { from: 0 }],
  ["server.admission.pressure.maxRefusedShare", 1e-9, 1],
];

const milliseconds: readonly Range[] = [
  ["client.retry.backoff.baseMs", 0, daysMs, { maxMs: daysMs }],
  ["client.retry.backoff.maxMs", 100, daysMs, { baseMs: 100 }],
  ["client.retry.budget.windowMs", 1_000, daysMs],
  ["client.hedge.delayMs", 0, daysMs],
  ["client.hedge.minDelayMs", 0, daysMs, { delayMs: 5 }],
  ["client.breaker.openMs", 1, daysMs],
  ["client.breaker.maxOpenMs", 700, daysMs, { openMs: 700 }],
  ["client.breaker.probeLeaseMs", 1, daysMs],
  ["client.breaker.rampMs", 1, daysMs],
  ["client.breaker.windowMs", 1, daysMs],
  ["client.breaker.inFlightMs", 1, daysMs],
  ["client.breaker.slowMs", 1, daysMs],
  ["client.throttle.windowMs", 1_000, daysMs],
  ["client.throttle.forcedPassMs", 1, daysMs],
  ["client.throttle.recoveryMs", 1, daysMs],
  ["client.rate.maxWaitMs", 0, daysMs, { ratePerSecond: 1 }],
  ["client.rate.storeTimeoutMs", 1, daysMs, { ratePerSecond: 1 }],
  ["client.bulkhead.maxWaitMs", 0, daysMs],
  ["client.deadline.defaultMs", 1, daysMs],
  ["client.deadline.marginMs", 0, daysMs],
  ["client.timeouts.connectionMs", 1, daysMs],
  ["client.timeouts.attemptMs", 1, daysMs],
  ["client.timeouts.firstResponseMs", 1, daysMs],
  ["client.timeouts.idleMs", 1, daysMs],
  ["client.faults.latency.ms", 0, daysMs],
  ["server.requestMs", 1, daysMs],
  ["server.deadlineGuard.minRemainingMs", 0, daysMs],
  ["server.deadlineGuard.learned.windowMs", 1_000, daysMs],
  ["server.bulkhead.maxWaitMs", 0, daysMs],
  ["server.admission.maxWaitMs", 0, daysMs],
  ["server.admission.limit.windowMs", 10, daysMs, { algorithm: "elastic" }],
  ["server.admission.limit.ceilingMs", 1, daysMs, { algorithm: "elastic" }],
  ["server.admission.queue.maxAgeMs", 0, daysMs],
  ["server.admission.queue.intervalMs", 1, daysMs],
  ["server.admission.queue.targetMs", 0, daysMs],
  ["server.admission.streams.maxAgeMs", 1, daysMs],
  ["server.admission.pressure.sampleMs", 10, daysMs],
  ["server.admission.fairness.halfLifeMs", 100, daysMs],
];

/** Numbers above the first of the two, and up to the second. */
const above: readonly Range[] = [
  ["client.retry.budget.ratio", 0, 1],
  ["client.breaker.failureRate", 0, 1],
  ["client.breaker.slowRate", 0, 1, { slowMs: 5 }],
  ["client.throttle.maxRefusedShare", 0, 1],
  ["client.throttle.k", 1, 100],
  ["server.admission.thresholds.low", 0, 0.85],
  ["server.admission.thresholds.normal", 0, 0.95, { low: 1e-9 }],
  ["server.admission.thresholds.high", 0, 1, { low: 1e-9, normal: 1e-9 }],
  ["server.admission.pressure.maxRefusedShare", 0, 1],
];

/** Numbers between the two. */
const betweenTwo: readonly Range[] = [
  ["client.hedge.quantile", 0.5, 1],
  ["server.admission.pressure.target", 0, 1],
];

/** What is no number: an option, what is refused, and what is taken. */
const others: readonly [option: string, refused: unknown, taken: unknown, beside?: object][] = [
  ["client.retry.idempotent", "yes", true],
  ["client.retry.codes", 14, [14]],
  ["client.retry.budget", null, false],
  ["client.retry.budget.maxTokens", null, false],
  ["client.retry.budget.ratio", null, false],
  ["client.hedge.nonFatalCodes", 14, [14], { delayMs: 5 }],
  ["client.breaker.key", "host", "method"],
  ["client.breaker.consecutiveFailures", null, false],
  ["client.breaker.failureRate", null, false],
  ["client.breaker.slowMs", null, false],
  ["client.breaker.windowCalls", null, false],
  ["client.breaker.inFlightMs", null, false],
  ["client.breaker.rampMs", null, false],
  ["client.throttle.collaborative", 1, false],
  ["client.rate.onStoreError", "wait", "refuse", { ratePerSecond: 1 }],
  ["client.rate.store", {}, { take: () => ({ granted: true }) }, { ratePerSecond: 1 }],
  ["client.bulkhead.streams", "apart", "together"],
  ["client.resets", null, false],
  ["server.requestMs", null, false],
  ["server.admission.publish", "no", false],
  ["server.admission.thresholds", null, false],
  ["server.admission.pressure", null, false],
  ["server.admission.streams", "apart", "together"],
  ["server.admission.fairness", true, false],
  ["server.admission.fairness.key", "user", "service"],
  ["server.admission.queue.order", "random", "priority"],
  ["server.admission.queue.overflow", "drop", "evict-lowest"],
  ["server.admission.limit.ceilingMs", null, false, { algorithm: "elastic" }],
  ["server.brownout.optional.stories.mark", "yes", false],
];

describe("a number among the options", () => {
  it.each(wholeNumbers)("%s: a whole number from %d to %d", (option, least, most, beside) => {
    expectRange(option, least, most, least - 1, most + 1, beside);
    expect(refusedFor(option, least + 0.5, beside)).toBe(option);
  });

  it.each(numbers)("%s: a number from %d to %d", (option, least, most, beside) => {
    expectRange(option, least, most, least - 1e-9, most * (1 + 1e-9), beside);
  });

  it.each(above)("%s: a number above %d and up to %d", (option, bound, most, beside) => {
    expectRange(option, bound + 1e-9, most, bound, most + 1e-9, beside);
  });

  it.each(betweenTwo)("%s: a number above %d and below %d", (option, bound, most, beside) => {
    expectRange(option, bound + 1e-9, most - 1e-9, bound, most, beside);
  });

  it.each(milliseconds)("%s: milliseconds from %d to %d", (option, least, most, beside) => {
    expectRange(option, least, most, least - 1e-3, most + 1, beside);
  });
});

describe("what is no number among the options", () => {
  it.each(others)("%s is not %j, and may be %j", (option, refused, taken, beside) => {
    expect(refusedFor(option, refused, beside)).toBe(option);
    expect(refusedFor(option, taken, beside)).toBeUndefined();
  });
});

function expectRange(
  option: string,
  least: number,
  most: number,
  below: number,
  above: number,
  beside?: object,
): void {
  expect(refusedFor(option, least, beside)).toBeUndefined();
  expect(refusedFor(option, most, beside)).toBeUndefined();
  expect(refusedFor(option, below, beside)).toBe(option);
  expect(refusedFor(option, above, beside)).toBe(option);
}

/** The option that a weir refuses to be built with, if it does. */
function refusedFor(option: string, value: unknown, beside: object = {}): string | undefined {
  const [side = "", ...path] = option.split(".");
  const last = path.pop() ?? "";
  let policy: object = { ...beside, [last]: value };
  for (const name of path.reverse()) policy = { [name]: policy };
  const weir = createWeir();
  try {
    if (side === "client") weir.client(policy);
    else weir.server({ admission: {}, ...policy });
    return undefined;
  } catch (error) {
    if (error instanceof InvalidOptionError) return error.option;
    throw error;
  }
}
