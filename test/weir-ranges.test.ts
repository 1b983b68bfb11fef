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
  ["client.throttle.minRequests", 1, endless],
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
  ["server.deadlineGuard.learned.minSamples", 1, endless],
  ["server.admission.limit", 1, endless],
  ["server.admission.limit.max", 1, 1_000_000, { algorithm: "vegas" }],
  ["server.admission.limit.min", 1, 90, { algorithm: "vegas", max: 90 }],
  ["server.admission.limit.initial", 5, 90, { algorithm: "vegas", min: 5, max: 90 }],
  ["server.admission.maxConcurrent", 1, endless],
  ["server.admission.maxQueued", 0, endless],
];

const numbers: readonly Range[] = [
  ["client.retry.backoff.multiplier", 1, 100],
  ["client.retry.budget.minPerSecond", 0, 1_000_000],
  ["client.retry.budget.maxTokens", 0.001, 1_000],
  ["client.retry.budget.tokenRatio", 0.001, 1_000],
  ["client.breaker.openFactor", 1, 10],
  ["client.breaker.openJitter", 0, 0.9],
  ["client.throttle.probeRatio", 0, 1],
  ["client.rate.ratePerSecond", 1e-6, 1e9],
  ["client.rate.burst", 1, 1e9, { ratePerSecond: 1 }],
  ["client.resets.perSecond", 0.1, 1_000_000],
  ["client.faults.drop.rate", 0, 1],
  ["server.deadlineGuard.learned.quantile", 0, 1],
  ["server.deadlineGuard.learned.share", 0.01, 10],
  ["server.deadlineGuard.learned.passShare", 0, 1],
  ["server.brownout.optional.stories.skipAbovePressure", 0, 1, { skipAllAbovePressure: 1 }],
  ["server.brownout.optional.stories.skipAllAbovePressure", 0.4, 1, { skipAbovePressure: 0.4 }],
  ["server.admission.criticalHeadroom", 0, 1],
  ["server.admission.queue.minShare", 0, 0.25],
  ["server.admission.limit.backoffRatio", 0.5, 0.999, { algorithm: "aimd" }],
  ["server.admission.pressure.cpu.from", 0, 1e9 - 1, { to: 1e9 }],
  ["server.admission.pressure.cpu.to", 1, 1e9, { from: 1 - 1e-12 }],
  ["server.admission.pressure.maxShare", 1e-9, 1],
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
  ["server.admission.limit.windowMs", 10, daysMs, { algorithm: "vegas" }],
  ["server.admission.limit.maxLatencyMs", 1, daysMs, { algorithm: "aimd" }],
  ["server.admission.limit.ceilingMs", 1, daysMs, { algorithm: "elastic" }],
  ["server.admission.queue.maxAgeMs", 0, daysMs],
  ["server.admission.queue.intervalMs", 1, daysMs],
  ["server.admission.queue.targetMs", 0, daysMs],
  ["server.admission.streams.maxAgeMs", 1, daysMs],
  ["server.admission.pressure.sampleMs", 10, daysMs],
];

describe("a number among the options", () => {
  it.each(wholeNumbers)("%s: a whole number from %d to %d", (option, least, most, beside) => {
    expectRange(option, least, most, least - 1, most + 1, beside);
    expect(refusedFor(option, least + 0.5, beside)).toBe(option);
  });

  it.each(numbers)("%s: a number from %d to %d", (option, least, most, beside) => {
    expectRange(option, least, most, least - 1e-9, most * (1 + 1e-9), beside);
  });

  it.each(milliseconds)("%s: milliseconds from %d to %d", (option, least, most, beside) => {
    expectRange(option, least, most, least - 1e-3, most + 1, beside);
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
function refusedFor(option: string, value: number, beside: object = {}): string | undefined {
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
