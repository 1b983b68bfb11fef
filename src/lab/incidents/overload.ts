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
