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

export const goneForAMoment: Incident = {
  ...goneForTwoSeconds,
  name: "server-gone-300ms",
  what: "The only server is killed, and comes back after 0.3 seconds.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 300 },
    { name: "after", ms: 4_000 },
  ],
  events: [
    { atMs: 2_010, event: "kill" },
    { atMs: 2_300, event: "start" },
  ],
};

export const goneForTwentySeconds: Incident = {
  ...goneForTwoSeconds,
  name: "server-gone-20s",
  what: "The only server, which has little to do, is killed, and comes back after 20 seconds.",
  load: { perSecond: 50, deadlineMs: 500 },
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 20_000 },
    { name: "after", ms: 30_000 },
  ],
  events: [
    { atMs: 2_050, event: "kill" },
    { atMs: 22_000, event: "start" },
  ],
};

export const goneForTenMinutes: Incident = {
  ...goneForTwoSeconds,
  name: "server-gone-600s",
  what: "The only server, which has next to nothing to do, is killed, and comes back after ten minutes.",
  load: { perSecond: 8, deadlineMs: 500 },
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 600_000 },
    { name: "after", ms: 180_000 },
  ],
  events: [
    { atMs: 2_050, event: "kill" },
    { atMs: 602_000, event: "start" },
  ],
};

export const goneForPatient: Incident = {
  ...goneForTwoSeconds,
  name: "server-gone-2s-patient",
  what: "The only server, which works at four fifths of what it can do, is killed, and comes back after two seconds. Callers wait for two seconds.",
  wanted:
    "Calls that wait for the server are served when it is back, and do not keep it from those that come then.",
  load: { perSecond: 0.8 * capacity(work), deadlineMs: 2_000 },
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 2_000 },
    { name: "after", ms: 8_000 },
  ],
};

export const oneVanishes: Incident = {
  ...threeServers,
  name: "one-of-three-vanishes",
  what: "For three seconds, nothing gets to one of three servers and back, and its connections look alive.",
  wanted: "The two others get its calls soon, and it is found again when it is back.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000 },
    { name: "after", ms: 6_000 },
  ],
  events: [
    { atMs: 2_050, server: 0, event: "vanish" },
    { atMs: 5_000, server: 0, event: "appear" },
  ],
};

export const oneLosesPower: Incident = {
  ...oneVanishes,
  name: "one-of-three-loses-power",
  what: "The machine of one of three servers loses its power without a word to anybody, and is back after three seconds.",
  events: [
    { atMs: 2_050, server: 0, event: "vanish" },
    { atMs: 2_050, server: 0, event: "kill" },
    { atMs: 5_000, server: 0, event: "start" },
    { atMs: 5_000, server: 0, event: "appear" },
  ],
};

export const oneFarAway: Incident = {
  ...threeServers,
  name: "one-of-three-far-away",
  what: "For three seconds, messages to one of three servers and back take 80 ms longer.",
  wanted: "All calls are served, some of them later than usual.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000 },
    { name: "after", ms: 3_000 },
  ],
  events: [
    { atMs: 2_050, server: 0, event: "delay", ms: 80 },
    { atMs: 5_000, server: 0, event: "delay", ms: 0 },
  ],
};

export const lossyNetwork: Incident = {
  ...threeServers,
  name: "lossy-network",
  what: "One in two hundred messages gets lost, and what follows it on its connection waits until it is sent again.",
  wanted: "All calls are served, some of them later than usual.",
  network: { lossShare: 0.005 },
  phases: [{ name: "before", ms: 6_000 }],
};
