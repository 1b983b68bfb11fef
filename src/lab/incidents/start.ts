import { capacity, type Incident, type Work } from "../incident.js";

const work: Work = { kind: "pool", size: 10, ms: 20 };

export const coldStart: Incident = {
  name: "cold-start",
  what: "Clients and server have just been started, and all users come at once.",
  wanted:
    "Calls wait for the connection and for the pool, and are served. Nothing that was learnt is needed for that.",
  work,
  load: { perSecond: 0.7 * capacity(work), deadlineMs: 500 },
  phases: [
    { name: "during", ms: 1_000 },
    { name: "after", ms: 4_000 },
  ],
  fixedLimit: 20,
};
