import { capacity, type Incident, type Work } from "../incident.js";

const work: Work = { kind: "pool", size: 10, ms: 20 };

const threeServers = {
  servers: 3,
  clients: 3,
  work,
  load: { perSecond: 0.4 * capacity(work, 3), deadlineMs: 500 },
  fixedLimit: 20,
} as const;

export const oneKilled: Incident = {
  ...threeServers,
  name: "one-of-three-killed",
  what: "One of three servers is killed, and comes back after three seconds. The others have room for its calls.",
  wanted:
    "The calls that it had are lost, unless they say that they may run twice. All others go to the two that are left.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000 },
    { name: "after", ms: 4_000 },
  ],
  events: [
    { atMs: 2_050, server: 0, event: "kill" },
    { atMs: 5_000, server: 0, event: "start" },
  ],
};

export const goneForTwoSeconds: Incident = {
  name: "server-gone-2s",
  what: "The only server is killed, and comes back after two seconds.",
  wanted: "Calls fail while nobody is there, and are served as soon as it is back.",
  work,
  load: { perSecond: 0.5 * capacity(work), deadlineMs: 500 },
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 2_000 },
    { name: "after", ms: 5_000 },
  ],
  fixedLimit: 20,
  events: [
    { atMs: 2_050, server: 0, event: "kill" },
    { atMs: 4_000, server: 0, event: "start" },
  ],
};

export const oneReset: Incident = {
  name: "connection-reset",
  what: "Something on the way cuts all connections to one of three servers, which is well.",
  wanted:
    "The calls on them are lost. The clients connect again, and think no worse of the server.",
  ...threeServers,
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 1_000 },
    { name: "after", ms: 4_000 },
  ],
  events: [{ atMs: 2_050, server: 0, event: "cut" }],
};

export const oneFails: Incident = {
  ...threeServers,
  name: "one-of-three-fails",
  what: "One of three servers answers every call with UNAVAILABLE for three seconds, as one does that has lost its database.",
  wanted:
    "Its calls are served by the two others, and it gets some now and then, so that it is noticed when it is well.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000 },
    { name: "after", ms: 3_000 },
  ],
  events: [
    { atMs: 2_050, server: 0, event: "fail", share: 1 },
    { atMs: 5_000, server: 0, event: "fail", share: 0 },
  ],
};

export const oneSlow: Incident = {
  ...threeServers,
  name: "one-of-three-slow",
  what: "The pool behind one of three servers takes ten times as long for three seconds.",
  wanted:
    "The calls of the two others are as well as ever. The slow one serves as many as it can in time.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000 },
    { name: "after", ms: 4_000 },
  ],
  overload: true,
  events: [
    { atMs: 2_050, server: 0, event: "slow", factor: 10 },
    { atMs: 5_000, server: 0, event: "slow", factor: 1 },
  ],
};
