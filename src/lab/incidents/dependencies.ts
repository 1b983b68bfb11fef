import { capacity, type Incident, type Work } from "../incident.js";

const work: Work = { kind: "pool", size: 10, ms: 20 };

const phases = [
  { name: "before", ms: 3_000 },
  { name: "during", ms: 4_000 },
  { name: "after", ms: 5_000 },
] as const;

export const slowDependency: Incident = {
  name: "dependency-slow-3x",
  what: "The pool behind the server takes three times as long for four seconds, and can do half of what is asked of it.",
  wanted:
    "As many calls as it can do are served in time, the more important ones first, and all as soon as it is quick again.",
  work,
  load: { perSecond: 0.66 * capacity(work), deadlineMs: 500 },
  phases,
  fixedLimit: 40,
  overload: true,
  events: [
    { atMs: 3_050, event: "slow", factor: 3 },
    { atMs: 7_000, event: "slow", factor: 1 },
  ],
};

export const quarterFails: Incident = {
  name: "errors-25",
  what: "A quarter of all calls to each of three servers fails with UNAVAILABLE for four seconds.",
  wanted:
    "Most of them are served by another attempt. Nobody stops calling servers that serve three of four calls.",
  servers: 3,
  work,
  load: { perSecond: 0.4 * capacity(work, 3), deadlineMs: 500 },
  phases,
  fixedLimit: 20,
  events: [
    { atMs: 3_050, event: "fail", share: 0.25 },
    { atMs: 7_000, event: "fail", share: 0 },
  ],
};
