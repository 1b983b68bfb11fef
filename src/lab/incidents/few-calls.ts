import { capacity, type Incident, type Tier, type Work } from "../incident.js";

const priorities = { critical: 0.25, high: 0, normal: 0.5, low: 0.25 } as const;
const load = { perSecond: 33, deadlineMs: 2_000, priorities } as const;

const phases = [
  { name: "before", ms: 4_000 },
  { name: "during", ms: 6_000, load: 3 },
  { name: "after", ms: 5_000 },
] as const;

const criticalFirst =
  "As many calls are served in time as the pool can do, all critical ones among them, and all as soon as the load is back to normal.";

export const fewOnPool: Incident = {
  name: "few-calls-3x",
  what: "The load rises from 33 calls a second to 100, for six seconds, and falls back. Handlers of 100 ms wait for a pool that can do 50 a second, and callers wait for two seconds.",
  wanted: criticalFirst,
  work: { kind: "pool", size: 5, ms: 100 },
  load,
  phases,
  fixedLimit: 40,
  overload: true,
};

export const fewOnSlowPool: Incident = {
  ...fewOnPool,
  name: "few-calls-300ms-3x",
  what: "The load rises from 18 calls a second to 54, for six seconds, and falls back. Handlers of 300 ms wait for a pool that can do 27 a second, and callers wait for two seconds.",
  work: { kind: "pool", size: 8, ms: 300 },
  load: { ...load, perSecond: 18 },
  fixedLimit: 24,
};

export const fewOnWait: Incident = {
  ...fewOnPool,
  name: "few-calls-wait-3x",
  what: "The load rises from 33 calls a second to 100, for six seconds, and falls back. Handlers wait for 300 ms, for something that has no limit.",
  wanted: "All calls are served: there is room for them.",
  work: { kind: "wait", ms: 300 },
  fixedLimit: 100,
  overload: false,
};

export const fewBecomeSlow: Incident = {
  ...fewOnPool,
  name: "few-calls-become-slow",
  what: "What handlers wait for has no limit, and takes 1.2 seconds instead of 20 ms for eight seconds. There are 100 calls a second, and callers wait for two seconds.",
  wanted: "All calls are served: they do not wait for each other.",
  work: { kind: "wait", ms: 20 },
  load: { ...load, perSecond: 100 },
  phases: [
    { name: "before", ms: 4_000 },
    { name: "during", ms: 8_000 },
    { name: "after", ms: 4_000 },
  ],
  fixedLimit: 200,
  overload: false,
  events: [
    { atMs: 4_000, event: "slow", factor: 60 },
    { atMs: 12_000, event: "slow", factor: 1 },
  ],
};

const stopping: Work = { kind: "pool", size: 5, ms: 100, stopsWhenCancelled: true };
const quarters = { critical: 0.25, high: 0.25, normal: 0.375, low: 0.125 } as const;

export const slowThenLoad: Incident = {
  ...fewOnPool,
  name: "few-calls-slow-then-4x",
  what: "There are 24 calls a second to handlers of 100 ms, which wait for a pool that can do 50 a second, and stop when their callers leave. For four seconds they take three times as long. Three seconds later, 100 calls a second come for six seconds.",
  work: stopping,
  load: { ...load, perSecond: 24, priorities: quarters },
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 4_000 },
    { name: "during", ms: 3_000 },
    { name: "during", ms: 6_000, load: 100 / 24 },
    { name: "after", ms: 4_000 },
  ],
  events: [
    { atMs: 2_000, event: "slow", factor: 3 },
    { atMs: 6_000, event: "slow", factor: 1 },
  ],
};

const relay: Work = { kind: "wait", ms: 1 };
const behind: readonly Tier[] = [
  { work: relay, fixedLimit: 1_000 },
  { work: stopping, fixedLimit: 40 },
];

export const shop: Incident = {
  ...slowThenLoad,
  name: "few-calls-all-troubles",
  what: "Three services with 24 calls a second, as in `npm start`. One trouble follows another: the last service fails a quarter of its calls for three seconds, takes three times as long for four, and loses its connections twice a second for three. Then it is killed and back after a second, and gets 100 calls a second for six seconds, which is twice of what it can do.",
  work: relay,
  behind,
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 13_000 },
    { name: "during", ms: 6_000, load: 100 / 24 },
    { name: "after", ms: 4_000 },
  ],
  fixedLimit: 1_000,
  events: [
    { atMs: 2_000, tier: 2, event: "fail", share: 0.25 },
    { atMs: 5_000, tier: 2, event: "fail", share: 0 },
    { atMs: 5_000, tier: 2, event: "slow", factor: 3 },
    { atMs: 9_000, tier: 2, event: "slow", factor: 1 },
    ...[9_500, 10_000, 10_500, 11_000, 11_500].map(
      (atMs) => ({ atMs, tier: 2, event: "cut" }) as const,
    ),
    { atMs: 12_000, tier: 2, event: "kill" },
    { atMs: 13_000, tier: 2, event: "start" },
  ],
};

const two: Work = { kind: "pool", size: 2, ms: 20 };

export const tinyPool: Incident = {
  ...fewOnPool,
  name: "tiny-pool-2x",
  what: "The load rises from 80 calls a second to 200, for four seconds, and falls back. Handlers of 20 ms wait for a pool of two, which can do 100 a second.",
  work: two,
  load: { ...load, perSecond: 0.8 * capacity(two), deadlineMs: 500 },
  phases: [
    { name: "before", ms: 3_000 },
    { name: "during", ms: 4_000, load: 2.5 },
    { name: "after", ms: 5_000 },
  ],
  fixedLimit: 10,
};

export const tinyPoolStops: Incident = {
  ...tinyPool,
  name: "tiny-pool-5x",
  what: "The load rises from 16 calls a second to 100, for six seconds, and falls back. Handlers of 100 ms wait for a pool of two, which can do 20 a second, and stop when their callers leave, after half a second. The critical calls alone are more than it can do.",
  wanted: "As many calls are served in time as the pool can do, the critical ones first.",
  work: { kind: "pool", size: 2, ms: 100, stopsWhenCancelled: true },
  load: { ...load, perSecond: 16, deadlineMs: 500 },
  phases: [
    { name: "before", ms: 4_000 },
    { name: "during", ms: 6_000, load: 6.25 },
    { name: "after", ms: 5_000 },
  ],
  fixedLimit: 5,
  criticalFits: false,
};

export const tinyPoolGoesOn: Incident = {
  ...tinyPoolStops,
  name: "tiny-pool-5x-goes-on",
  what: "The same, and handlers go on when their callers have left.",
  work: { kind: "pool", size: 2, ms: 100 },
};
