import { capacity, type Incident, type Work } from "../incident.js";

const pool: Work = { kind: "pool", size: 10, ms: 20 };
const poll = "lab.Service/Poll";
const watch = "lab.Service/Watch";

const phases = [
  { name: "before", ms: 2_000 },
  { name: "during", ms: 3_000 },
  { name: "after", ms: 4_000 },
] as const;

/** 60 long polls wait at a time, beside short calls. */
const besidePolls = {
  work: pool,
  works: { [poll]: { kind: "wait", ms: 2_000 } },
  load: { perSecond: 0.5 * capacity(pool), deadlineMs: 500 },
  others: [{ perSecond: 30, deadlineMs: 10_000, methods: [poll] }],
  phases,
  fixedLimit: 120,
} as const satisfies Partial<Incident>;

export const longPolls: Incident = {
  ...besidePolls,
  name: "long-polls",
  what: "Nothing happens. Beside short calls, 60 long polls wait at any time, for two seconds each.",
  wanted: "Every call is served, once. That a call takes long says nothing of the server.",
  phases: [{ name: "before", ms: 8_000 }],
};

export const longPollsUnderLoad: Incident = {
  ...besidePolls,
  name: "long-polls-load-2x",
  what: "Sixty long polls wait at any time. The load of short calls rises to twice of what the server can do, for three seconds.",
  wanted:
    "As many short calls are served in time as it can do, and the long polls cost nobody anything.",
  others: [{ ...besidePolls.others[0], loads: [1, 1, 1] }],
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000, load: 4 },
    { name: "after", ms: 4_000 },
  ],
  overload: true,
};

export const morePolls: Incident = {
  ...besidePolls,
  name: "long-polls-5x",
  what: "Beside short calls, five times as many long polls come for three seconds: 300 wait at a time. They need nothing to speak of.",
  wanted: "Every call is served, once.",
  others: [{ ...besidePolls.others[0], loads: [1, 5, 1] }],
};

/** 40 streams run at a time, beside short calls. */
const besideStreams = {
  servers: 2,
  work: pool,
  works: { [watch]: { kind: "stream", messages: 20, everyMs: 100 } },
  load: { perSecond: 0.4 * capacity(pool, 2), deadlineMs: 500 },
  others: [{ perSecond: 20, deadlineMs: 10_000, methods: [watch] }],
  phases,
  fixedLimit: 100,
} as const satisfies Partial<Incident>;

export const streams: Incident = {
  ...besideStreams,
  name: "streams",
  what: "Nothing happens. Beside short calls, 40 streams run at any time, each of 20 messages in two seconds.",
  wanted: "Every call is served, once.",
  phases: [{ name: "before", ms: 8_000 }],
};

export const oldConnections: Incident = {
  ...besideStreams,
  name: "connection-age",
  what: "Connections are closed when they are a second old, and what runs on them then may end. Beside short calls, 40 streams run at any time.",
  wanted: "Nobody notices.",
  maxConnectionAgeMs: 1_000,
  phases: [{ name: "before", ms: 8_000 }],
};

export const streamsCut: Incident = {
  ...besideStreams,
  name: "streams-server-killed",
  what: "One of two servers is killed with its streams, and comes back after three seconds. The other has room for its calls.",
  wanted: "The calls and streams that it had are lost. All others go to the one that is left.",
  load: { perSecond: 0.3 * capacity(pool, 2), deadlineMs: 500 },
  events: [
    { atMs: 2_050, server: 0, event: "kill" },
    { atMs: 5_000, server: 0, event: "start" },
  ],
};
