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

export const slowForPatient: Incident = {
  ...slowDependency,
  name: "dependency-slow-3x-patient",
  what: "The same, and callers wait for five seconds.",
  load: { perSecond: 0.66 * capacity(work), deadlineMs: 5_000 },
};

export const verySlowDependency: Incident = {
  ...slowDependency,
  name: "dependency-slow-20x",
  what: "The pool behind the server takes twenty times as long for four seconds. A call takes nearly as long as its caller waits.",
  wanted: "A few calls are served, and all as soon as it is quick again.",
  // A pool that serves 25 calls a second has no room for the 33 critical ones.
  criticalFits: false,
  fixedLimit: 12,
  events: [
    { atMs: 3_050, event: "slow", factor: 20 },
    { atMs: 7_000, event: "slow", factor: 1 },
  ],
};

export const hungDependency: Incident = {
  ...slowDependency,
  name: "dependency-hangs",
  what: "The pool behind the server does not answer for two seconds. Then it answers again, also what it was asked meanwhile.",
  wanted: "Calls fail meanwhile, and are served as soon as it answers again.",
  criticalFits: false,
  phases: [
    { name: "before", ms: 3_000 },
    { name: "during", ms: 2_000 },
    { name: "after", ms: 4_000 },
  ],
  events: [
    { atMs: 3_050, event: "hang" },
    { atMs: 5_000, event: "resume" },
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

export const fewFail: Incident = {
  ...quarterFails,
  name: "errors-1",
  what: "One in a hundred calls to each of three servers fails with UNAVAILABLE for four seconds.",
  wanted: "They are served by another attempt, where methods may run twice.",
  events: [
    { atMs: 3_050, event: "fail", share: 0.01 },
    { atMs: 7_000, event: "fail", share: 0 },
  ],
};

export const allFail: Incident = {
  ...quarterFails,
  name: "errors-100",
  what: "All calls to all three servers fail with UNAVAILABLE for four seconds.",
  wanted:
    "Servers get no more calls than usual, and calls are served as soon as the servers are well.",
  events: [
    { atMs: 3_050, event: "fail", share: 1 },
    { atMs: 7_000, event: "fail", share: 0 },
  ],
};

export const oneMethodFails: Incident = {
  ...quarterFails,
  name: "errors-of-one-method",
  what: "One of four methods fails with UNAVAILABLE on all three servers for four seconds.",
  wanted: "The other methods are as well as ever.",
  load: {
    ...quarterFails.load,
    methods: ["lab.Service/A", "lab.Service/B", "lab.Service/C", "lab.Service/D"],
  },
  events: [
    { atMs: 3_050, event: "fail", share: 1, method: "lab.Service/D" },
    { atMs: 7_000, event: "fail", share: 0, method: "lab.Service/D" },
  ],
};

export const tokensDown: Incident = {
  ...quarterFails,
  name: "token-source-down",
  what: "For two seconds, the call credentials of one of three clients get no token: all of its calls fail before they are sent.",
  wanted: "The others do not notice, and it is well as soon as it gets tokens again.",
  clients: 3,
  phases: [
    { name: "before", ms: 2_000 },
    { name: "during", ms: 2_000 },
    { name: "after", ms: 3_000 },
  ],
  events: [
    { atMs: 2_050, client: 0, event: "tokens-fail" },
    { atMs: 4_000, client: 0, event: "tokens-work" },
  ],
};
