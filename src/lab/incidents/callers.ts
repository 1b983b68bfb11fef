import { capacity, type Incident, type Work } from "../incident.js";

const pool: Work = { kind: "pool", size: 10, ms: 20 };

const phases = [
  { name: "before", ms: 2_000 },
  { name: "during", ms: 3_000 },
  { name: "after", ms: 4_000 },
] as const;

const half = { perSecond: 0.5 * capacity(pool), deadlineMs: 500 } as const;

export const tinyDeadlines: Incident = {
  name: "tiny-deadlines",
  what: "For three seconds, a third of the calls have deadlines of 15 ms, which is less than most of them take.",
  wanted:
    "Those fail as they do anyway. The others are as well as ever: nobody thinks worse of the server.",
  work: pool,
  load: half,
  others: [{ perSecond: 0.25 * capacity(pool), deadlineMs: 15, loads: [0, 1, 0] }],
  phases,
  fixedLimit: 40,
};

export const tenantFloods: Incident = {
  name: "tenant-floods",
  what: "One of two tenants asks for twice of what the server can do, for three seconds. The other one asks for a third of it, as ever.",
  wanted: "As many calls as it can do are served in time, all critical ones among them.",
  work: pool,
  load: { perSecond: 0.33 * capacity(pool), deadlineMs: 500, tenant: "quiet" },
  others: [
    { perSecond: 2 * capacity(pool), deadlineMs: 500, tenant: "loud", loads: [0.1, 1, 0.1] },
  ],
  phases,
  fixedLimit: 40,
  overload: true,
};

const alike = { critical: 0, high: 0, normal: 1, low: 0 } as const;

export const tenTimesItsShare: Incident = {
  name: "tenant-ten-times",
  what: "Ten tenants ask for a twelfth of what the server can do, each, and all calls have the same priority. For three seconds, one of them asks for ten times as much.",
  wanted: "The nine others lose next to nothing.",
  work: pool,
  clients: 9,
  load: { perSecond: 0.75 * capacity(pool), deadlineMs: 500, priorities: alike, tenant: "quiet" },
  others: [
    {
      perSecond: (10 / 12) * capacity(pool),
      deadlineMs: 500,
      priorities: alike,
      tenant: "loud",
      bareClients: 1,
      loads: [0.1, 1, 0.1],
    },
  ],
  phases,
  fixedLimit: 40,
  overload: true,
  fair: true,
};

export const impatientClient: Incident = {
  name: "client-ignores-pushback",
  what: "A client without the toolkit makes each call that has failed again at once, up to three times, whatever it is told. For three seconds, the load is 1.5 times of what the server can do.",
  wanted: "As many calls as it can do are served in time. The others do not pay for that client.",
  work: pool,
  load: half,
  others: [
    {
      perSecond: 0.25 * capacity(pool),
      deadlineMs: 500,
      bareClients: 1,
      reload: { share: 1, afterMs: 0, times: 3 },
    },
  ],
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000, load: 2 },
    { name: "after", ms: 4_000 },
  ],
  fixedLimit: 40,
  overload: true,
};

export const halfOfClients: Incident = {
  name: "half-of-clients-without",
  what: "Half of the clients have no policies at all. The load rises to twice of what the server can do, for three seconds.",
  wanted: "As many calls as it can do are served in time, all critical ones among them.",
  work: pool,
  load: { perSecond: 0.4 * capacity(pool), deadlineMs: 500 },
  others: [{ perSecond: 0.4 * capacity(pool), deadlineMs: 500, bareClients: 2 }],
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000, load: 2.5 },
    { name: "after", ms: 4_000 },
  ],
  fixedLimit: 40,
  overload: true,
};

export const halfOfServers: Incident = {
  name: "half-of-servers-without",
  what: "One of two servers has no policies at all. The load rises to 1.5 times of what they can do, for three seconds.",
  wanted:
    "The server with a limit serves as many as it can, and no worse than if the other had one too.",
  servers: 2,
  bareServers: 1,
  work: pool,
  load: { perSecond: 0.75 * capacity(pool, 2), deadlineMs: 500 },
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 3_000, load: 2 },
    { name: "after", ms: 6_000 },
  ],
  fixedLimit: 40,
  overload: true,
};
