import { capacity, type Incident, type Work } from "../incident.js";

const work: Work = { kind: "cpu", ms: 2 };

export const calmAtHalf: Incident = {
  name: "calm-50",
  what: "Nothing happens. Three servers work at half of what they can.",
  wanted: "Every call is served, once.",
  servers: 3,
  work,
  load: { perSecond: 0.5 * capacity(work, 3), deadlineMs: 500 },
  phases: [{ name: "before", ms: 8_000 }],
  fixedLimit: 20,
};

export const calmAtTenth: Incident = {
  ...calmAtHalf,
  name: "calm-10",
  what: "Nothing happens. Three servers work at a tenth of what they can.",
  load: { perSecond: 0.1 * capacity(work, 3), deadlineMs: 500 },
};

export const calmAtNinety: Incident = {
  ...calmAtHalf,
  name: "calm-90",
  what: "Nothing happens. Three servers work at nine tenths of what they can: calls wait for each other.",
  wanted: "Every call is served, once. That servers are busy is no reason to refuse anything.",
  load: { perSecond: 0.9 * capacity(work, 3), deadlineMs: 500 },
};
