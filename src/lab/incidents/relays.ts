import { capacity, type Incident, type Work } from "../incident.js";

const work: Work = { kind: "wait", ms: 5 };
const back: Work = { kind: "pool", size: 10, ms: 20 };

const phases = [
  { name: "before", ms: 2_000 },
  { name: "during", ms: 3_000 },
  { name: "after", ms: 4_000 },
] as const;

/** Each call goes through three services: two servers, two behind them, and one behind those, which has a pool. */
const threeTiers = {
  servers: 2,
  work,
  behind: [
    { servers: 2, work, fixedLimit: 40 },
    { servers: 1, work: back, fixedLimit: 40 },
  ],
  load: { perSecond: 0.5 * capacity(back), deadlineMs: 500 },
  phases,
  fixedLimit: 40,
} as const;

export const frontKilled: Incident = {
  ...threeTiers,
  name: "tiers-front-killed",
  what: "Each call goes through three services. One of the two servers of the first is killed, and comes back after three seconds.",
  wanted: "The calls that it had are lost. The rest goes to the other one.",
  events: [
    { atMs: 2_050, server: 0, event: "kill" },
    { atMs: 5_000, server: 0, event: "start" },
  ],
};

export const middleKilled: Incident = {
  ...threeTiers,
  name: "tiers-middle-killed",
  what: "Each call goes through three services. One of the two servers of the second is killed, and comes back after three seconds.",
  wanted: "The calls that it had are lost. The rest goes to the other one.",
  events: [
    { atMs: 2_050, tier: 1, server: 0, event: "kill" },
    { atMs: 5_000, tier: 1, server: 0, event: "start" },
  ],
};

export const middleFails: Incident = {
  ...threeTiers,
  name: "tiers-middle-fails",
  what: "Each call goes through three services. One of the two servers of the second fails all calls with UNAVAILABLE for three seconds.",
  wanted: "The other one gets its calls, and no service in front of it gets more calls for that.",
  events: [
    { atMs: 2_050, tier: 1, server: 0, event: "fail", share: 1 },
    { atMs: 5_000, tier: 1, server: 0, event: "fail", share: 0 },
  ],
};

export const backFails: Incident = {
  ...threeTiers,
  name: "tiers-back-fails",
  what: "Each call goes through three services. The last one fails a quarter of its calls with UNAVAILABLE for three seconds.",
  wanted: "Retries of one service are enough: those of three do not multiply.",
  events: [
    { atMs: 2_050, tier: 2, event: "fail", share: 0.25 },
    { atMs: 5_000, tier: 2, event: "fail", share: 0 },
  ],
};

export const backDown: Incident = {
  ...threeTiers,
  name: "tiers-back-killed",
  what: "Each call goes through three services. The only server of the last one is killed, and comes back after two seconds.",
  wanted: "Calls fail at once, and are served as soon as it is back.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 2_000 },
    { name: "after", ms: 5_000 },
  ],
  events: [
    { atMs: 2_050, tier: 2, event: "kill" },
    { atMs: 4_000, tier: 2, event: "start" },
  ],
};

export const backSlow: Incident = {
  ...threeTiers,
  name: "tiers-back-slow",
  what: "Each call goes through three services. The pool of the last one takes three times as long for three seconds, and can do two thirds of what is asked of it.",
  wanted:
    "As many calls as it can do are served in time, the more important ones first, and nobody works for calls that nobody waits for.",
  overload: true,
  events: [
    { atMs: 2_050, tier: 2, event: "slow", factor: 3 },
    { atMs: 5_000, tier: 2, event: "slow", factor: 1 },
  ],
};

export const backOverloaded: Incident = {
  ...threeTiers,
  name: "tiers-load-2x",
  what: "Each call goes through three services. The load rises from 0.5 to twice of what the last one can do, for three seconds.",
  wanted: "As many calls as it can do are served in time, all critical ones among them.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000, load: 4 },
    { name: "after", ms: 4_000 },
  ],
  overload: true,
};
