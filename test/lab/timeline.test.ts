import { beforeAll, describe, expect, it } from "vitest";
import { catalogue } from "../../src/lab/catalogue.js";
import type { Incident } from "../../src/lab/incident.js";
import { bare } from "../../src/lab/peers/bare.js";
import { weirDefaults } from "../../src/lab/peers/weir.js";
import { type IncidentReport, runIncident } from "../../src/lab/run.js";
import { together } from "../../src/lab/tally.js";
import { goodShares, sentIn, type Timeline, TimelineRecorder } from "../../src/lab/timeline.js";

const overload: Incident = {
  name: "short-overload",
  what: "The only server gets twice as much as it can do, and is killed in the end.",
  wanted: "Half of the calls are served.",
  work: { kind: "pool", size: 4, ms: 20 },
  load: { perSecond: 160, deadlineMs: 300 },
  phases: [
    { name: "before", ms: 400 },
    { name: "during", ms: 1_600, load: 2.5 },
  ],
  fixedLimit: 10,
  events: [{ atMs: 1_700, server: 0, event: "kill" }],
};

const sum = (numbers: readonly number[]) => numbers.reduce((all, each) => all + each, 0);

function timelineOf({ timeline }: IncidentReport): Timeline {
  if (timeline === undefined) throw new Error("no timeline was recorded");
  return timeline;
}

describe("the run of an incident over its time", () => {
  let report: IncidentReport;
  let timeline: Timeline;
  beforeAll(async () => {
    report = await runIncident(overload, weirDefaults, 2, { timeline: true });
    timeline = timelineOf(report);
  });

  it("is not recorded unless it is asked for, and changes nothing else", async () => {
    const { pieces: _, ...plain } = await runIncident(overload, weirDefaults, 2);
    expect(plain).not.toHaveProperty("timeline");
    expect(report).toMatchObject(plain);
  });

  it("has each call once, in the slice in which it was due", () => {
    const all = together(report.phases);
    expect(sum(sentIn(timeline))).toBe(all.sent);
    expect(sum(timeline.outcomes.flatMap(({ counts }) => counts))).toBe(all.sent);
    const [good, ...others] = timeline.outcomes;
    expect(good).toMatchObject({ kind: "good", why: "OK" });
    expect(sum(good?.counts ?? [])).toBe(all.good);
    for (const { kind, why, counts } of others) {
      if (kind !== "good") expect(sum(counts)).toBe(all[kind][why]);
    }
  });

  it("has refusals before failures", () => {
    const kinds = timeline.outcomes.map(({ kind }) => kind);
    expect(kinds).toEqual(kinds.toSorted((a, b) => rank(b) - rank(a)));
    expect(new Set(kinds).size).toBe(3);
  });

  it("has the share of good calls of each priority", () => {
    // Before the overload, all are served.
    expect(goodShares(timeline, "low")[0]).toBe(1);
    expect(goodShares(timeline, "critical")[1]).toBe(1);
    expect(goodShares(timeline, "low")[5]).toBeLessThan(0.5);
  });

  it("has what runs, what waits and the limit, every 50 ms, and nothing of a server that is down", () => {
    expect(timeline.everyMs).toBe(50);
    expect(timeline.servers).toHaveLength(41);
    const busy = timeline.servers[20];
    expect(busy?.running).toBeGreaterThan(0);
    expect(busy?.limit).toBeGreaterThan(0);
    expect(timeline.servers.at(-1)).toEqual({ running: 0, queued: 0, limit: undefined });
  });

  it("has the breakers of the clients by their state", async () => {
    // One for the server in each of two clients, once it has made a call.
    expect(timeline.breakers[10]).toEqual({ closed: 2, halfOpen: 0, open: 0 });
    const failing: Incident = {
      ...overload,
      events: [{ atMs: 1_000, server: 0, event: "fail", share: 1 }],
    };
    const run = await runIncident(failing, weirDefaults, 2, { timeline: true });
    const { breakers } = timelineOf(run);
    expect(Math.max(...breakers.map(({ open }) => open))).toBe(2);
    for (const { closed, halfOpen, open } of breakers.slice(10)) {
      expect(closed + halfOpen + open).toBe(2);
    }
  });

  it("has the calls on a server without any policy, which has no limit", async () => {
    const { servers } = timelineOf(await runIncident(overload, bare, 2, { timeline: true }));
    expect(servers.every(({ queued, limit }) => queued === 0 && limit === undefined)).toBe(true);
    expect(servers[30]?.running).toBeGreaterThan(50);
  });
});

const rank = (kind: string) => ["failed", "refused", "good"].indexOf(kind);

describe("a timeline", () => {
  it("is of the same size, however long the run is", () => {
    const recorder = new TimelineRecorder(3_600_000);
    expect(recorder.everyMs).toBe(9_000);
    recorder.sent(3_599_999, "low");
    recorder.ended(3_599_999, 10, "low", "failed", "UNAVAILABLE");
    const { sliceMs, outcomes } = recorder.timeline();
    expect(sliceMs).toBe(36_000);
    expect(outcomes[0]?.counts).toHaveLength(100);
    expect(outcomes[0]?.counts.at(-1)).toBe(1);
  });

  it("reads some servers of a large fleet, evenly spread", () => {
    const recorder = new TimelineRecorder(1_000);
    for (let index = 0; index < 1_000; index += 1) {
      recorder.readServer(() => ({ running: index, queued: 1, limit: 2 }));
    }
    recorder.takeReadings();
    const { read, servers } = recorder.timeline();
    expect(read.servers).toBeLessThanOrEqual(200);
    expect(read.servers).toBeGreaterThanOrEqual(100);
    expect(servers[0]).toMatchObject({ queued: read.servers, limit: 2 * read.servers });
    const mean = (servers[0]?.running ?? 0) / read.servers;
    expect(mean).toBeGreaterThan(450);
    expect(mean).toBeLessThan(550);
  });

  it("reads the incidents of the catalogue at least a hundred times", () => {
    for (const { phases } of catalogue) {
      const totalMs = sum(phases.map(({ ms }) => ms));
      expect(totalMs / new TimelineRecorder(totalMs).everyMs).toBeGreaterThanOrEqual(100);
    }
  });
});
