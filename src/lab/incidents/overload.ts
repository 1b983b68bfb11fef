import { capacity, type Incident, type Work } from "../incident.js";

const phases = [
  { name: "before", ms: 3_000 },
  { name: "during", ms: 4_000, load: 2.5 },
  { name: "after", ms: 6_000 },
] as const;

const twice =
  "The load rises from 0.8 to 2 times of what the server can do, for four seconds, and falls back.";

const cpu: Work = { kind: "cpu", ms: 2 };

export const twiceOnCpu: Incident = {
  name: "load-2x-cpu",
  what: `${twice} Its handlers compute.`,
  wanted:
    "About half of the calls are served in time, all critical ones among them, and all as soon as the load is back to normal.",
  work: cpu,
  load: { perSecond: 0.8 * capacity(cpu), deadlineMs: 500 },
  phases,
  // Handlers that compute run one at a time, so that a number of running calls limits nothing.
  fixedLimit: 20,
  overload: true,
};

const pool: Work = { kind: "pool", size: 10, ms: 20 };

export const twiceOnPool: Incident = {
  name: "load-2x-pool",
  what: `${twice} Its handlers wait for a pool.`,
  wanted:
    "About half of the calls are served in time, all critical ones among them, and all as soon as the load is back to normal.",
  work: pool,
  load: { perSecond: 0.8 * capacity(pool), deadlineMs: 500 },
  phases,
  fixedLimit: 40,
  overload: true,
};

export const reloadStorm: Incident = {
  ...twiceOnPool,
  name: "reload-storm",
  what: `${twice} Half of the users press reload when a call has failed, three times at most.`,
  wanted:
    "As many calls as the pool can do are served in time, and the storm is over soon after its cause.",
  load: {
    perSecond: 0.8 * capacity(pool),
    deadlineMs: 500,
    reload: { share: 0.5, afterMs: 200, times: 3 },
  },
};

const shortCpu: Work = { kind: "cpu", ms: 0.2 };

export const twiceOnShortCpu: Incident = {
  ...twiceOnCpu,
  name: "load-2x-short-cpu",
  what: `${twice} Its handlers compute for 0.2 ms, so that to refuse a call costs a sixth of a call.`,
  work: shortCpu,
  clients: 4,
  load: { perSecond: 0.8 * capacity(shortCpu), deadlineMs: 500 },
  phases: [
    { name: "before", ms: 1_000 },
    { name: "during", ms: 2_000, load: 2.5 },
    { name: "after", ms: 3_000 },
  ],
};

export const twiceOnWait: Incident = {
  ...twiceOnPool,
  name: "load-2x-wait",
  what: "The load rises to 2.5 times for four seconds. Its handlers wait for something that has no limit, and need no CPU to speak of.",
  wanted: "All calls are served: there is room for them.",
  work: { kind: "wait", ms: 100 },
  load: { perSecond: 300, deadlineMs: 500 },
  fixedLimit: 200,
  overload: false,
};

const shortPhases = (load: number) =>
  [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 2_000, load },
    { name: "after", ms: 5_000 },
  ] as const;

const fewServed =
  "As many calls are served in time as the server can do, the critical ones first, and all as soon as the load is back to normal.";

export const fiveTimesOnCpu: Incident = {
  ...twiceOnCpu,
  name: "load-5x-cpu",
  what: "The load rises from 0.8 to 5 times of what the server can do, for two seconds, and falls back. Its handlers compute.",
  wanted: fewServed,
  phases: shortPhases(6.25),
};

export const tenTimesOnCpu: Incident = {
  ...twiceOnCpu,
  name: "load-10x-cpu",
  what: "The load rises from 0.8 to 10 times of what the server can do, for two seconds, and falls back. Its handlers compute. The critical calls alone are as many as it can do.",
  wanted: fewServed,
  phases: shortPhases(12.5),
  criticalFits: false,
};

export const fiveTimesOnPool: Incident = {
  ...twiceOnPool,
  name: "load-5x-pool",
  what: "The load rises from 0.8 to 5 times of what the server can do, for two seconds, and falls back. Its handlers wait for a pool.",
  wanted: fewServed,
  phases: shortPhases(6.25),
};

export const tenTimesOnPool: Incident = {
  ...twiceOnPool,
  name: "load-10x-pool",
  what: "The load rises from 0.8 to 10 times of what the server can do, for two seconds, and falls back. Its handlers wait for a pool. The critical calls alone are as many as it can do.",
  wanted: fewServed,
  phases: shortPhases(12.5),
  criticalFits: false,
};

export const fiveTimesOnShortCpu: Incident = {
  ...twiceOnShortCpu,
  name: "load-5x-short-cpu",
  what: "The load rises from 0.8 to 5 times of what the server can do, for half a second, and falls back. Its handlers compute for 0.2 ms: to refuse the rest takes more than half of its CPU.",
  wanted: fewServed,
  phases: [
    { name: "before", ms: 1_000 },
    { name: "during", ms: 500, load: 6.25 },
    { name: "after", ms: 3_500 },
  ],
};

export const fiveTimesOnWait: Incident = {
  ...twiceOnWait,
  name: "load-5x-wait",
  what: "The load rises to 5 times for two seconds. Its handlers wait for something that has no limit, and need no CPU to speak of.",
  phases: shortPhases(5),
};

export const barelyTooMuch: Incident = {
  ...twiceOnPool,
  name: "load-1.1x-pool",
  what: "The load rises from 0.8 to 1.1 times of what the server can do, for four seconds, and falls back. Its handlers wait for a pool.",
  wanted: "Nine in ten calls are served in time, all critical ones among them.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 4_000, load: 1.375 },
    { name: "after", ms: 4_000 },
  ],
};

/** A load that rises and falls as a parabola, in ten steps. */
function wave(highest: number, ms: number) {
  return Array.from({ length: 10 }, (_, step) => ({
    name: "during" as const,
    ms: ms / 10,
    load: 1 + (highest - 1) * 4 * ((step + 0.5) / 10) * (1 - (step + 0.5) / 10),
  }));
}

export const waveOnPool: Incident = {
  ...twiceOnPool,
  name: "wave-2x-pool",
  what: "The load rises in a wave of six seconds from 0.8 to 2 times of what the server can do, and falls again. Its handlers wait for a pool.",
  wanted: fewServed,
  phases: [{ name: "before", ms: 2_000 }, ...wave(2.5, 6_000), { name: "after", ms: 4_000 }],
};

export const waveOnCpu: Incident = {
  ...twiceOnCpu,
  name: "wave-2x-cpu",
  what: "The load rises in a wave of six seconds from 0.8 to 2 times of what the server can do, and falls again. Its handlers compute.",
  wanted: fewServed,
  phases: [{ name: "before", ms: 2_000 }, ...wave(2.5, 6_000), { name: "after", ms: 4_000 }],
};

export const calmWave: Incident = {
  ...twiceOnPool,
  name: "wave-within-capacity",
  what: "The load rises in a wave of six seconds from a quarter to nine tenths of what the server can do, and falls again.",
  wanted: "Every call is served, once.",
  load: { perSecond: 0.25 * capacity(pool), deadlineMs: 500 },
  phases: [{ name: "before", ms: 2_000 }, ...wave(3.6, 6_000), { name: "after", ms: 2_000 }],
  overload: false,
};

const reload = { share: 0.5, afterMs: 200, times: 3 } as const;

export const reloadStormOnCpu: Incident = {
  ...twiceOnCpu,
  name: "reload-storm-cpu",
  what: `${twice} Its handlers compute. Half of the users press reload when a call has failed, three times at most.`,
  wanted:
    "As many calls as the server can do are served in time, and the storm is over soon after its cause.",
  load: { perSecond: 0.8 * capacity(cpu), deadlineMs: 500, reload },
  phases: shortPhases(2.5),
};

export const shortTrigger: Incident = {
  ...twiceOnPool,
  name: "short-trigger",
  what: "The load rises to four times of what the server can do for 0.4 seconds only, and falls back to 0.8. Most users press reload when a call has failed, five times at most.",
  wanted: "All is well soon after: the load that is left does not keep the server down.",
  load: {
    perSecond: 0.8 * capacity(pool),
    deadlineMs: 500,
    reload: { share: 0.8, afterMs: 100, times: 5 },
  },
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 400, load: 5 },
    { name: "after", ms: 8_000 },
  ],
};
