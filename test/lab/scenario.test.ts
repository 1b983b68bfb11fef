import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import { runIncident } from "../../src/lab/run.js";
import { readScenario } from "../../src/lab/scenario.js";
import { together } from "../../src/lab/tally.js";

const least = {
  work: { kind: "wait", ms: 5 },
  load: { perSecond: 100, deadlineMs: 500 },
  phases: [{ name: "before", ms: 200 }],
};

const full = {
  name: "checkout",
  what: "Something happens.",
  wanted: "Nothing does.",
  servers: 3,
  clients: 4,
  subsetSize: 2,
  work: { kind: "pool", size: 10, ms: 20, stopsWhenCancelled: true },
  works: {
    "shop.Cart/Get": { kind: "cpu", ms: 1 },
    "shop.Cart/Watch": { kind: "stream", messages: 3, everyMs: 10 },
  },
  behind: [{ servers: 2, work: { kind: "wait", ms: 5 }, fixedLimit: 9 }],
  load: {
    perSecond: 300,
    deadlineMs: 400,
    methods: ["shop.Cart/Add", "/shop.Cart/Get", "shop.Cart/Watch"],
    priorities: { critical: 0.5, low: 0.5 },
    reload: { share: 0.2, afterMs: 100, times: 2 },
  },
  phases: [
    { name: "before", ms: 100 },
    { name: "during", ms: 300, load: 2 },
    { name: "after", ms: 100 },
  ],
  others: [{ perSecond: 50, deadlineMs: 100, tenant: "batch", loads: [1, 3, 1], bareClients: 2 }],
  balancing: "pick_first",
  latencyMs: 1,
  lossShare: 0.01,
  resolveMs: 5,
  maxConnectionAgeMs: 200,
  coldStart: { ms: 50, factor: 2 },
  bareServers: 1,
  fixedLimit: 20,
  overload: true,
  events: [
    { atMs: 100, server: 0, event: "kill" },
    { atMs: 150, event: "slow", factor: 2 },
    { atMs: 150, server: 1, event: "fail", share: 0.5 },
    { atMs: 200, server: 1, event: "block", ms: 20 },
    { atMs: 250, server: 2, event: "squeeze", cpuShare: 0.5 },
    { atMs: 300, server: 2, event: "cut" },
    { atMs: 310, server: 1, tier: 1, event: "vanish" },
    { atMs: 320, server: 1, tier: 1, event: "appear" },
    { atMs: 330, server: 1, event: "delay", ms: 3 },
    { atMs: 340, server: 1, event: "quota", quota: { periodMs: 100, cpuMs: 50 } },
    { atMs: 350, server: 1, event: "quota", quota: null },
    { atMs: 360, event: "slow", factor: 3, method: "shop.Cart/Get" },
    { atMs: 370, client: 3, event: "tokens-fail" },
    { atMs: 380, event: "step-clock", ms: -50 },
    { atMs: 390, server: 2, event: "drain" },
    { atMs: 400, server: 0, event: "start" },
  ],
  policies: {
    name: "ours",
    client: { retry: { maxAttempts: 2 } },
    server: { admission: { limit: 40 } },
  },
};

function refusalOf(value: unknown): string {
  try {
    readScenario(value, "file");
  } catch (error) {
    if (error instanceof InvalidOptionError) return error.message;
    throw error;
  }
  throw new Error("it was read");
}

describe("a scenario", () => {
  it("needs work, load and phases, and has the name of its file", () => {
    const { incident, policies } = readScenario(least, "file");
    expect(incident).toMatchObject({ name: "file", servers: 1, clients: 2, events: [] });
    expect(policies).toBeUndefined();
  });

  it("may say everything, in JSON, and can be run", async () => {
    const { incident, policies } = readScenario(JSON.parse(JSON.stringify(full)), "file");
    const { latencyMs, lossShare, policies: _, ...rest } = full;
    expect(incident).toEqual({
      ...rest,
      load: {
        ...full.load,
        methods: ["shop.Cart/Add", "shop.Cart/Get", "shop.Cart/Watch"],
        priorities: { critical: 0.5, high: 0, normal: 0, low: 0.5 },
      },
      phases: full.phases.map((phase) => ({ load: 1, ...phase })),
      network: { latencyMs, lossShare },
    });
    if (policies === undefined) throw new Error("it has policies");
    const report = await runIncident(incident, policies, 1);
    expect(report.peer).toBe("ours");
    expect(together(report.phases).sent).toBeGreaterThan(100);
  });

  it("may have code that is compiled call by call, or within a time, and not both", () => {
    const calls = { calls: 600, extraMs: 1.2 };
    expect(readScenario({ ...least, coldStart: calls }, "file").incident.coldStart).toEqual(calls);
    expect(refusalOf({ ...least, coldStart: { ...calls, ms: 50 } })).toContain(
      "scenario.coldStart.ms is not an option",
    );
  });

  it.each([
    ["nothing", undefined, "scenario must be an object, got undefined"],
    ["an array", [], "scenario must be an object, got an array"],
    ["no work", { ...least, work: undefined }, "scenario.work must be an object, got undefined"],
    [
      "a misspelt field",
      { ...least, polices: {} },
      "scenario.polices is not an option; did you mean policies? The options are name, what,",
    ],
    [
      "a misspelt field inside",
      { ...least, load: { ...least.load, persecond: 1 } },
      "scenario.load.persecond is not an option; did you mean perSecond?",
    ],
    [
      "a number as text",
      { ...least, load: { ...least.load, perSecond: "9" } },
      'scenario.load.perSecond must be a number from 0.001 to 1000000, got "9"',
    ],
    [
      "work of an unknown kind",
      { ...least, work: { kind: "io", ms: 1 } },
      'scenario.work.kind must be one of cpu, pool, wait, got "io"',
    ],
    [
      "a pool without a size",
      { ...least, work: { kind: "pool", ms: 1 } },
      "scenario.work.size must be a whole number from 1 to 1000000, got undefined",
    ],
    [
      "a size of what is no pool",
      { ...least, work: { kind: "cpu", ms: 1, size: 4 } },
      "scenario.work.size is not an option; the options are kind, ms",
    ],
    [
      "more servers for each client than there are",
      { ...least, servers: 3, subsetSize: 4 },
      "scenario.subsetSize must be a whole number from 1 to 3, got 4",
    ],
    ["no phases", { ...least, phases: [] }, "scenario.phases must be an array of at least one"],
    [
      "phases that go back",
      { ...full, phases: full.phases.toReversed() },
      'scenario.phases[1].name must be after or later: phases stand in the order before, during, after, got "during"',
    ],
    [
      "phases of days",
      { ...least, phases: [{ name: "before", ms: 86_400_000 }] },
      "scenario.phases must be at most 3600000 ms (an hour) together, got 86400000",
    ],
    [
      "shares that are not 1 together",
      { ...least, load: { ...least.load, priorities: { critical: 0.1 } } },
      "scenario.load.priorities must be shares that are 1 together, got 0.1",
    ],
    [
      "an event on a server that is not there",
      { ...least, events: [{ atMs: 1, server: 1, event: "kill" }] },
      "scenario.events[0].server must be a whole number from 0 to 0, got 1",
    ],
    [
      "an event after the end",
      { ...least, events: [{ atMs: 201, event: "kill" }] },
      "scenario.events[0].atMs must be a number from 0 to 200, got 201",
    ],
    [
      "an unknown event",
      { ...least, events: [{ atMs: 1, event: "explode" }] },
      'scenario.events[0].event must be one of kill, start, drain, cut, vanish, appear, hang, resume, block, squeeze, quota, slow, fail, step-server-clock, delay, tokens-fail, tokens-work, step-clock, got "explode"',
    ],
    [
      "a number of another event",
      { ...least, events: [{ atMs: 1, event: "slow", share: 1 }] },
      "scenario.events[0].share is not an option; the options are atMs, event, server, tier, factor, method",
    ],
    [
      "an event on a tier that is not there",
      { ...least, events: [{ atMs: 1, tier: 1, event: "kill" }] },
      "scenario.events[0].tier must be a whole number from 0 to 0, got 1",
    ],
    [
      "an event on a client that is not there",
      { ...least, events: [{ atMs: 1, client: 2, event: "tokens-fail" }] },
      "scenario.events[0].client must be a whole number from 0 to 1, got 2",
    ],
    [
      "a stream in a tier behind",
      { ...full, behind: [{ work: { kind: "stream", messages: 1, everyMs: 1 } }] },
      'scenario.behind[0].work.kind must be one of cpu, pool, wait, got "stream"',
    ],
    [
      "loads of fewer phases than there are",
      { ...full, others: [{ ...least.load, loads: [1] }] },
      "scenario.others[0].loads must be an array with a number for each of the 3 phases",
    ],
    [
      "work of what is no method",
      { ...least, works: { "shop.Cart": { kind: "cpu", ms: 1 } } },
      'scenario.works["shop.Cart"] must be named pkg.Service/Method, got "shop.Cart"',
    ],
    ["a yes that is none", { ...least, overload: 1 }, "scenario.overload must be true or false"],
    ["a text that is none", { ...least, what: 1 }, "scenario.what must be a text, got 1"],
    [
      "policies with a misspelt option",
      { ...least, policies: { client: { retry: { maxAttemps: 3 } } } },
      "scenario.policies.client.retry.maxAttemps is not an option; did you mean maxAttempts?",
    ],
    [
      "policies of servers that make no sense",
      { ...least, policies: { server: { admission: { maxQueued: -1 } } } },
      "scenario.policies.server.admission.maxQueued must be ",
    ],
    [
      "policies that are none",
      { ...least, policies: { server: null } },
      "scenario.policies.server must be an object of options, got null",
    ],
  ])("with %s is refused, and says where and why", (_, value, message) => {
    expect(refusalOf(value)).toContain(message);
  });
});
