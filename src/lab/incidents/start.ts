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

export const lateName: Incident = {
  ...coldStart,
  name: "name-resolves-late",
  what: "Clients have just been started, and the name of the target takes 800 ms to resolve.",
  wanted: "Calls that have time enough wait for it. All are served from then on.",
  load: { perSecond: 0.5 * capacity(work), deadlineMs: 1_000 },
  resolveMs: 800,
};

const threeServers = {
  servers: 3,
  clients: 3,
  work,
  load: { perSecond: 0.4 * capacity(work, 3), deadlineMs: 500 },
  fixedLimit: 20,
} as const;

const deploys = [0, 1, 2].flatMap(
  (server) =>
    [
      { atMs: 2_050 + 1_500 * server, server, event: "drain" },
      { atMs: 3_050 + 1_500 * server, server, event: "start" },
    ] as const,
);

export const deployOneByOne: Incident = {
  ...threeServers,
  name: "deploy-one-by-one",
  what: "Three servers are drained and started again, one after another.",
  wanted: "Nobody notices.",
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 4_500 },
    { name: "after", ms: 3_000 },
  ],
  events: deploys,
};

const cpu: Work = { kind: "cpu", ms: 2 };

export const deployColdCode: Incident = {
  ...deployOneByOne,
  name: "deploy-cold-code",
  what: "The same with handlers that compute. In its first 400 ms, all that a new process does takes four times as long, because its code is not compiled yet.",
  wanted: "The others do more of the work meanwhile, and next to nobody notices.",
  work: cpu,
  load: { perSecond: 0.4 * capacity(cpu, 3), deadlineMs: 500 },
  coldStart: { ms: 400, factor: 4 },
};

export const coldServer: Incident = {
  ...coldStart,
  name: "cold-server",
  what: "A server has just been started and has no compiled code: its first call costs 1.2 ms more, and each one less, down to nothing after 600. It is asked for four fifths of what it can do when its code is compiled.",
  wanted: "All calls are served: they wait for a moment, and nobody runs out of time.",
  work: cpu,
  load: { perSecond: 0.8 * capacity(cpu), deadlineMs: 500 },
  phases: [
    { name: "during", ms: 6_000 },
    { name: "after", ms: 4_000 },
  ],
  coldStart: { calls: 600, extraMs: 1.2 },
};

export const drainUnderLoad: Incident = {
  ...deployOneByOne,
  name: "drain-under-load",
  what: "One of two servers is drained and comes back after three seconds. The other cannot do all of the work: it gets 1.2 times of what it can do.",
  wanted:
    "No call is lost to the drain. Of the rest, as many are served as one server can, the more important ones first.",
  servers: 2,
  load: { perSecond: 0.6 * capacity(work, 2), deadlineMs: 500 },
  fixedLimit: 40,
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000 },
    { name: "after", ms: 4_000 },
  ],
  overload: true,
  events: [
    { atMs: 2_050, server: 0, event: "drain" },
    { atMs: 5_000, server: 0, event: "start" },
  ],
};
