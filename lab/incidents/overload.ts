import { capacity, type Incident, type Work } from "../../src/lab/incident.js";

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
