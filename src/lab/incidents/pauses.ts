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
