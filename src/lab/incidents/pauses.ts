import { capacity, type Incident, type Work } from "../incident.js";

const work: Work = { kind: "cpu", ms: 2 };

export const garbage: Incident = {
  name: "gc-200ms",
  what: "The only server stops for 200 ms, three times, at 70 % load: a major garbage collection.",
  wanted: "All calls are served, later than usual: each has time enough.",
  work,
  load: { perSecond: 0.7 * capacity(work), deadlineMs: 1_000 },
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 4_000 },
    { name: "after", ms: 4_000 },
  ],
  fixedLimit: 20,
  events: [2_050, 3_350, 4_650].map((atMs) => ({ atMs, event: "block", ms: 200 })),
};

export const squeezed: Incident = {
  name: "cpu-taken-by-others",
  what: "Other programs take half of the server's CPU for four seconds. It still can do what is asked of it, barely.",
  wanted: "All calls are served, later than usual.",
  work,
  load: { perSecond: 0.45 * capacity(work), deadlineMs: 1_000 },
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 4_000 },
    { name: "after", ms: 4_000 },
  ],
  fixedLimit: 20,
  events: [
    { atMs: 2_050, event: "squeeze", cpuShare: 0.5 },
    { atMs: 6_000, event: "squeeze", cpuShare: 1 },
  ],
};

const pauses = [2_050, 3_350, 4_650];

export const shortGarbage: Incident = {
  ...garbage,
  name: "gc-50ms",
  what: "The only server stops for 50 ms, three times, at 70 % load.",
  wanted: "All calls are served, some of them a little later.",
  events: pauses.map((atMs) => ({ atMs, event: "block", ms: 50 })),
};

export const longGarbage: Incident = {
  ...garbage,
  name: "gc-500ms",
  what: "The only server stops for half a second, three times, at 60 % load.",
  wanted:
    "All calls are served, later than usual: each has time enough, though the queue is long after each stop.",
  load: { perSecond: 0.6 * capacity(work), deadlineMs: 2_000 },
  events: pauses.map((atMs) => ({ atMs, event: "block", ms: 500 })),
};

export const throttled: Incident = {
  ...squeezed,
  name: "container-throttled",
  what: "The container of the server may use 60 ms of CPU in each 100 ms, and stops when it has. It needs 45 ms on average.",
  wanted: "All calls are served, some of them later than usual.",
  events: [
    { atMs: 2_050, event: "quota", quota: { periodMs: 100, cpuMs: 60 } },
    { atMs: 6_000, event: "quota", quota: null },
  ],
};

export const clockBack: Incident = {
  ...garbage,
  name: "clock-set-back",
  what: "The wall clocks of all clients and of the server are set back by a minute, one client before the others.",
  wanted: "Nobody notices: deadlines are times from now.",
  phases: [
    { name: "before", ms: 1_000 },
    { name: "during", ms: 2_000 },
    { name: "after", ms: 2_000 },
  ],
  events: [
    { atMs: 1_050, client: 0, event: "step-clock", ms: -60_000 },
    { atMs: 2_000, client: 1, event: "step-clock", ms: -60_000 },
    { atMs: 2_500, server: 0, event: "step-server-clock", ms: -60_000 },
  ],
};

export const clockAhead: Incident = {
  ...clockBack,
  name: "clock-set-ahead",
  what: "The wall clocks of all clients and of the server are set ahead by a minute, one client before the others.",
  events: [
    { atMs: 1_050, client: 0, event: "step-clock", ms: 60_000 },
    { atMs: 2_000, client: 1, event: "step-clock", ms: 60_000 },
    { atMs: 2_500, server: 0, event: "step-server-clock", ms: 60_000 },
  ],
};
