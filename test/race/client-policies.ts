import type { ClientPolicy, MethodPolicy } from "../../src/pipeline/client.js";
import { empty, staticValue } from "../../src/policies/fallback/client-providers.js";
import { staleCache } from "../../src/policies/fallback/stale-cache/client-cache.js";
import type { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { path, payload } from "../scene.js";
import type { Dice } from "./dice.js";

/** What a drawn fallback answers with. */
export const standIn = 99;

/** The policies of a client, most of them with small numbers so that much happens. */
export function drawClient(dice: Dice, maxAttempts: number, clock: VirtualClock): ClientPolicy {
  return {
    deadline: { defaultMs: 2_000 },
    timeouts: dice.pick(false, {
      attemptMs: 150,
      firstResponseMs: dice.pick(40, 150),
      idleMs: dice.pick(30, 150),
      connectionMs: 100,
    }),
    hedge: dice.pick(false, false, {
      maxAttempts: Math.max(2, maxAttempts),
      delayMs: dice.pick(0, 5, 40),
      mode: dice.mode(),
    }),
    idempotencyKey: dice.pick(false, { honoured: dice.chance(0.5) }),
    retry: dice.pick(false, {
      maxAttempts,
      idempotent: dice.chance(0.7),
      backoff: { baseMs: dice.pick(0, 10, 200), maxMs: 500 },
      maxBufferMessages: dice.pick(0, 1, 1_000),
      budget: dice.pick(false, { ratio: 0.2, minPerSecond: 0, maxTokens: dice.pick(false, 4) }),
    }),
    breaker: drawBreaker(dice),
    throttle: dice.pick(false, false, {
      windowMs: 1_000,
      minCalls: dice.pick(1, 3),
      k: dice.pick(1.01, 1.5),
      forcedPassMs: dice.pick(1, 100),
      collaborative: dice.chance(0.7),
      passShare: dice.pick(0, 0.3),
      mode: dice.mode(),
    }),
    rate: dice.pick(false, false, false, drawRate(dice, clock)),
    bulkhead: drawBulkhead(dice),
    faults: dice.pick(false, false, {
      latency: { rate: dice.pick(0, 0.3), ms: [0, 60] as const },
      status: { rate: 0.1, code: dice.pick(14, 8, 13), pushbackMs: dice.pick(0, 20, "stop") },
      drop: { rate: dice.pick(0, 0.05) },
      reset: { rate: 0.1, at: dice.pick("request", "response") },
      midStream: { rate: 0.1, afterMessages: dice.pick(0, 1, 2) },
      maxActive: dice.pick(1, 100),
      mode: dice.mode(),
    }),
    methods: {
      [path.unary.slice(1)]: { fallback: drawFallback(dice) },
      [path.serverStream.slice(1)]: { fallback: drawFallback(dice) },
    },
  };
}

function drawBreaker(dice: Dice): NonNullable<MethodPolicy["breaker"]> {
  const mode = dice.mode();
  const key = dice.pick("service", "method", "target");
  return dice.pick(
    false,
    { consecutiveFailures: 3, openMs: 50, key, mode },
    {
      consecutiveFailures: false,
      failureRate: 0.5,
      minCalls: 2,
      windowMs: 200,
      openMs: 30,
      rampMs: dice.pick(false, 100),
      key,
      mode,
    },
    { slowMs: 20, slowRate: 0.5, minCalls: 2, windowCalls: 4, openMs: 20, probes: 1, key, mode },
    {
      inFlightMs: 30,
      consecutiveFailures: 2,
      openMs: 10,
      openFactor: 3,
      maxOpenMs: 200,
      probeLeaseMs: dice.pick(20, 100),
      successesToClose: 2,
      key,
      mode,
    },
  );
}

function drawRate(dice: Dice, clock: VirtualClock): Exclude<MethodPolicy["rate"], undefined> {
  return {
    ratePerSecond: dice.pick(20, 200),
    burst: dice.pick(1, 3),
    maxWaitMs: dice.pick(0, 40, 400),
    maxQueued: dice.pick(1, 5),
    key: dice.pick(
      "target",
      "method",
      dice.hook(() => "same"),
    ),
    cost: dice.hook(() => dice.pick(0, 1, 1, 2)),
    storeTimeoutMs: dice.pick(5, 50),
    onStoreError: dice.pick("allow", "refuse"),
    mode: dice.mode(),
    ...dice.pick({}, { store: dice.store(clock) }),
  };
}

function drawBulkhead(dice: Dice): NonNullable<MethodPolicy["bulkhead"]> {
  const numbers = { maxConcurrent: 2, maxQueued: 3, maxWaitMs: 60, mode: dice.mode() };
  return dice.pick(false, numbers, {
    ...numbers,
    maxConcurrent: dice.pick(3, 5),
    key: dice.pick(
      "target",
      "method",
      dice.hook(() => dice.pick("a", "b")),
    ),
    partitions: { own: { share: 0.34 }, bounded: { maxShare: 0.5 } },
    partition: dice.hook(() => dice.pick("own", "bounded", "default", "unknown")),
    weight: dice.hook(() => dice.pick(1, 1, 2, 9)),
    streams: dice.pick("together", { maxConcurrent: 3, maxQueued: 1, maxWaitMs: 100 }),
    maxKeys: dice.pick(1, 10),
  });
}

function drawFallback(dice: Dice): NonNullable<MethodPolicy["fallback"]> {
  const answer = dice.pick(
    empty({
      when: dice.pick(
        () => true,
        () => dice.chance(0.5),
      ),
    }),
    staticValue({ payload, sequence: standIn }),
  );
  const cache = staleCache({
    shared: true,
    freshMs: dice.pick(0, 30),
    staleIfErrorMs: 1_000,
    singleFlight: dice.chance(0.6),
  });
  return dice.pick(false, false, {
    mode: dice.mode(),
    ...dice.pick({}, { reserveMs: 20 }),
    providers: dice.pick([answer], [cache], [cache, answer]),
  });
}
