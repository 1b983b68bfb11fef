import { beforeAll, describe, expect, it } from "vitest";
import type { Incident } from "../../../src/lab/incident.js";
import { bare } from "../../../src/lab/peers/bare.js";
import { weirPeer } from "../../../src/lab/peers/weir.js";
import { page } from "../../../src/lab/report/page.js";
import { roundUp, ticks } from "../../../src/lab/report/plot.js";
import { verdicts } from "../../../src/lab/report/verdict.js";
import { runIncident } from "../../../src/lab/run.js";
import { type Run, table } from "../../../src/lab/table.js";

const hostile = `<script>alert("it's & all")</script>`;

const incident: Incident = {
  name: `short ${hostile}`,
  what: "The only server gets twice as much as it can do, and then fails.",
  wanted: "Half of the calls are served.",
  work: { kind: "pool", size: 4, ms: 20 },
  load: { perSecond: 160, deadlineMs: 200 },
  phases: [
    { name: "before", ms: 200 },
    { name: "during", ms: 1_000, load: 2.5 },
    { name: "after", ms: 400 },
  ],
  fixedLimit: 10,
  events: [
    { atMs: 900, server: 0, event: "fail", share: 1 },
    { atMs: 1_200, server: 0, event: "fail", share: 0 },
  ],
};

let runs: readonly Run[];
let html: string;
beforeAll(async () => {
  const peers = [
    bare,
    weirPeer(hostile),
    weirPeer("strict", { server: { admission: { limit: 4 } } }),
  ];
  runs = await Promise.all(
    peers.map(async (peer) => ({
      peer: peer.name,
      reports: [await runIncident(incident, peer, 1, { timeline: true })],
    })),
  );
  const given = [{ title: `Given: ${hostile}`, value: { text: hostile } }];
  html = page({ incident, runs, seeds: [1], given, command: `run ${hostile}`, version: "1.2.3" });
});

const count = (pattern: RegExp) => [...html.matchAll(pattern)].length;

describe("the report", () => {
  it("escapes all names", () => {
    expect(html).not.toContain("alert(\"it's");
    expect(html).toContain("&lt;script&gt;alert(&quot;it&#39;s &amp; all&quot;)&lt;/script&gt;");
    // Each plot has its values, and the page has its program.
    expect(count(/<script/g)).toBe(count(/<figure/g) + 1);
  });

  it("needs nothing else: no address, and a policy that forbids requests", () => {
    expect(html).not.toMatch(/https?:|\/\/\w|url\(|@import|<(img|iframe|object|embed)/);
    expect(html).not.toMatch(/\s(src|srcset)=/);
    expect([...html.matchAll(/\shref="([^"]*)"/g)].map(([, to]) => to)).toEqual([
      "data:,",
      "#numbers",
    ]);
    expect(html).toContain("default-src 'none'");
  });

  it("has a plot of each thing for each of the compared, with a text for those who do not see it", () => {
    expect(count(/<figure/g)).toBe(5 * 3);
    expect(
      count(/<svg [^>]*role="img" aria-label="[^"]+"><title>[^<]+<\/title><desc>[^<]+<\/desc>/g),
    ).toBe(5 * 3);
    for (const title of [
      "What became of the calls",
      "Served in time, by priority",
      "Latency of the calls that were served",
      "Calls on the servers",
      "Circuit breakers of the clients",
    ]) {
      expect(html).toMatch(new RegExp(`<h3 id="row-\\w+">${title}</h3>`));
    }
  });

  it("says of a plot from where to where its values go", () => {
    expect(html).toMatch(/<desc>low: from 0 % to 100 %; normal: /);
    expect(html).toMatch(/<desc>running: from 0 to \d+; queued: from 0 to \d+; limit: from /);
  });

  it("has the table, all verdicts, what happens, the command and what was given", () => {
    expect(count(/<tr>/g)).toBe(1 + 2 * 3);
    for (const sentence of verdicts(runs).slice(2)) expect(html).toContain(sentence.slice(-40));
    expect(html).toContain("<b>0.2 s</b> the load is 2.5 times the usual");
    expect(html).toContain("<b>0.9 s</b> fail: server 0, share 1");
    expect(html).toContain("<code>run &lt;script&gt;");
    expect(html).toContain("<summary>Given: &lt;script&gt;");
    expect(html).toContain("grpc-weir 1.2.3");
  });

  it("has no number that is none", () => {
    const [shown] = html.split("<script>");
    expect(/.{30}(NaN|Infinity|undefined)/.exec(shown ?? "NaN")).toBeNull();
  });
});

describe("the verdicts", () => {
  it("compare each with the first one, and the last one with the one before", () => {
    const [first, second, third] = verdicts(runs);
    expect(first?.startsWith(`Against bare, ${hostile} serves `)).toBe(true);
    expect(second).toMatch(/^Against bare, strict serves /);
    expect(third?.startsWith(`Against ${hostile}, strict serves `)).toBe(true);
    expect(verdicts(runs)).toHaveLength(3);
  });

  it("say nothing of what is the same", () => {
    const [one] = runs;
    if (one === undefined) throw new Error("there is no run");
    const [same] = verdicts([one, { ...one, peer: "other" }]);
    expect(same).toMatch(
      /^Against bare, other serves as many of the calls in time \([\d.]+ %\)\.$/,
    );
  });

  it("are none for a single run", () => {
    expect(verdicts(runs.slice(0, 1))).toEqual([]);
  });
});

describe("the table", () => {
  it("has a row for each phase of the incident and each of the compared", () => {
    const lines = table(incident, runs).split("\n");
    const head = lines.findIndex((line) => line.startsWith("phase"));
    expect(lines[head]).toMatch(/good +critical +high +normal +low +amplif\./);
    expect(lines.slice(head + 1).filter((line) => /^(during|after) /.test(line))).toHaveLength(6);
  });
});

describe("an axis", () => {
  it.each([
    [1, [0, 0.5, 1]],
    [13_000, [0, 5_000, 10_000]],
    [800, [0, 200, 400, 600, 800]],
    [3, [0, 1, 2, 3]],
  ])("to %d has round numbers", (most, expected) => {
    expect(ticks(most, 4).map((tick) => Number(tick.toFixed(6)))).toEqual(expected);
  });

  it.each([
    [0, 1],
    [0.9, 1],
    [7, 8],
    [130, 150],
    [999, 1_000],
  ])("for values up to %d ends at %d", (value, end) => {
    expect(roundUp(value)).toBeCloseTo(end);
  });
});
