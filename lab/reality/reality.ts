import { setTimeout as wait } from "node:timers/promises";
import { Peer } from "../../bench/peer.js";
import { printTable, printTitle } from "../../bench/report.js";
import { bareCosts } from "../../src/lab/costs.js";
import type { Incident } from "../../src/lab/incident.js";
import { slowDependency } from "../../src/lab/incidents/dependencies.js";
import { twiceOnCpu, twiceOnPool } from "../../src/lab/incidents/overload.js";
import { usualShares } from "../../src/lab/load.js";
import { bare } from "../../src/lab/peers/bare.js";
import type { Peer as LabPeer } from "../../src/lab/peers/peer.js";
import { weirDefaults } from "../../src/lab/peers/weir.js";
import { runIncident } from "../../src/lab/run.js";
import { goodput, type PhaseReport, refusals, together } from "../../src/lab/tally.js";
import { type Compared, differenceText, disagree, mean } from "./agreement.js";
import type { ClientAnswer, ClientOrder } from "./client.js";
import type { ServerAnswer, ServerOrder } from "./server.js";

/** Few calls, which take long: what the lab says of a learnt limit depends on how little it sees of such calls. */
const fewSlowCalls: Incident = {
  ...twiceOnPool,
  name: "few-slow-calls",
  work: { kind: "pool", size: 10, ms: 150 },
  load: { perSecond: 53, deadlineMs: 2_000 },
  phases: [
    { name: "before", ms: 4_000 },
    { name: "during", ms: 6_000, load: 2.5 },
    { name: "after", ms: 6_000 },
  ],
};

/** Nothing happens in them but load and a slow dependency: what can be done to a real process as well. */
const incidents: readonly Incident[] = [twiceOnPool, slowDependency, twiceOnCpu, fewSlowCalls];

const peers = [bare, weirDefaults] as const;
const seeds = [1, 2, 3] as const;

/** How long real processes run before the incident, so that their code is compiled as it is in the lab's costs. */
const warmMs = 3_000;

/**
 * Runs incidents on real sockets too, with real processes and the real interceptors, and prints what came of them beside
 * what the lab says. A run takes as long as its incident: a quarter of a minute.
 *
 * @param names The incidents; all, where there are none.
 * @returns Whether the lab and reality agree.
 */
export async function compareWithReality(names: readonly string[]): Promise<boolean> {
  printTitle(
    "The lab and real sockets",
    "One run each on sockets, three in the lab. Real handlers hold the event loop by the clock, so other programs on the machine take from what is served.",
  );
  const rows: string[][] = [];
  const phaseRows: string[][] = [];
  const chosen = incidents.filter(({ name }) => names.length === 0 || names.includes(name));
  const times = await costsOfThisMachine();
  console.log(`A call costs this machine ${times.toFixed(1)} times what it costs in the lab.`);
  let wrong = 0;
  for (const given of chosen) {
    // The load is a multiple of what the server can do, here and there.
    const { work, load } = given;
    const perSecond =
      work.kind === "cpu"
        ? (0.8 * 1_000) / (work.ms + times * (bareCosts.server.accept + bareCosts.server.answer))
        : load.perSecond;
    const incident = { ...given, load: { ...load, perSecond } };
    for (const peer of peers) {
      const inLab: (readonly PhaseReport[])[] = [];
      for (const seed of seeds) {
        inLab.push((await runIncident(incident, onThisMachine(peer, times), seed)).phases);
      }
      const { phases: inReality } = await runOnSockets(incident, peer === weirDefaults);
      for (const phase of ["before", "during", "after"]) {
        phaseRows.push([
          `${incident.name}, ${peer.name}, ${phase}`,
          percent(mean(inLab.map((phases) => numbersOf(phases, phase).good))),
          percent(numbersOf(inReality, phase).good),
          percent(mean(inLab.map((phases) => numbersOf(phases, phase).critical))),
          percent(numbersOf(inReality, phase).critical),
        ]);
      }
      for (const [what, text] of compared) {
        const lab = mean(inLab.map((phases) => numbersOf(phases)[what]));
        const measured = numbersOf(inReality)[what];
        const agrees = !disagree(what, lab, measured);
        if (!agrees) wrong += 1;
        rows.push([
          `${incident.name}, ${peer.name}`,
          what,
          text(lab),
          text(measured),
          `${differenceText(lab, measured)}${agrees ? "" : "  DISAGREE"}`,
        ]);
      }
    }
  }
  printTable(["", "good, lab", "sockets", "critical, lab", "sockets"], phaseRows);
  printTable(["", "", "lab", "sockets", "difference"], rows);
  console.log(wrong === 0 ? "The lab and the sockets agree." : `${wrong} numbers disagree.`);
  return wrong === 0;
}

/** How many times as much a call costs a bare server here as in the lab, beside its handler. */
async function costsOfThisMachine(): Promise<number> {
  const { costMs } = await runOnSockets({ ...twiceOnCpu, phases: [] }, false);
  const { accept, answer } = bareCosts.server;
  return Math.max(1, costMs / (accept + answer));
}

function scaled<Costs extends object>(costs: Costs, times: number): Costs {
  const entries = Object.entries(costs).map(([step, ms]) => [step, times * ms]);
  return Object.fromEntries(entries) as Costs;
}

/** A peer whose calls cost so many times as much. */
function onThisMachine(peer: LabPeer, times: number): LabPeer {
  return {
    name: peer.name,
    client: (process) => {
      const side = peer.client(process);
      return { ...side, costs: scaled(side.costs, times) };
    },
    server: (process, limit) => {
      const side = peer.server(process, limit);
      return { ...side, costs: scaled(side.costs, times) };
    },
  };
}

/** What is compared, of a whole run. */
type Numbers = Readonly<Record<Compared, number>>;

const compared = [
  ["good", percent],
  ["critical", percent],
  ["refused", percent],
  ["amplification", (value: number) => value.toFixed(2)],
] as const satisfies readonly (readonly [Compared, (value: number) => string])[];

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function numbersOf(phases: readonly PhaseReport[], name?: string): Numbers {
  const its = phases.filter((phase) => name === undefined || phase.name === name);
  const all = together(its);
  const requests = its.reduce((sum, { amplification, sent }) => sum + amplification * sent, 0);
  return {
    good: goodput(all),
    critical: goodput(together(its.map(({ priorities }) => priorities.critical))),
    refused: refusals(all) / all.sent,
    amplification: requests / all.sent,
  };
}

interface RealRun {
  readonly phases: readonly PhaseReport[];
  /** What a call cost the server beside its handler while it warmed up, in milliseconds of CPU. */
  readonly costMs: number;
}

async function runOnSockets(incident: Incident, policies: boolean): Promise<RealRun> {
  const { clients: count = 2, work, load, events = [] } = incident;
  const server = new Peer<ServerOrder, ServerAnswer>("../lab/reality/server", "the server");
  const clients = Array.from(
    { length: count },
    () => new Peer<ClientOrder, ClientAnswer>("../lab/reality/client", "a client"),
  );
  try {
    const { port = 0 } = await server.ask({ do: "listen", work, policies });
    const warming = clients.map((client) => client.ask({ do: "warm", port, policies, ms: warmMs }));
    await wait(warmMs / 2);
    await server.ask({ do: "count" });
    await Promise.all(warming);
    const { costMs = 0 } = await server.ask({ do: "tell" });
    const phases = incident.phases.map(({ name, ms, load: times = 1 }) => ({
      name,
      ms,
      load: times,
    }));
    // After the processes have their orders.
    const epochMs = Date.now() + 1_000;
    await server.ask({ do: "begin", epochMs });
    const running = clients.map((client) =>
      client.ask({
        do: "call",
        epochMs,
        phases,
        perSecond: load.perSecond / count,
        deadlineMs: load.deadlineMs,
        shares: load.priorities ?? usualShares,
      }),
    );
    for (const event of events.toSorted((a, b) => a.atMs - b.atMs)) {
      if (event.event !== "slow") throw new Error(`${event.event} cannot be done to a process`);
      await wait(Math.max(0, epochMs + event.atMs - Date.now()));
      await server.ask({ do: "slow", factor: event.factor });
    }
    const reports = (await Promise.all(running)).flatMap((answer) => answer.phases ?? []);
    const { arrivedMs = [] } = await server.ask({ do: "end" });
    let fromMs = 0;
    const withArrivals = phases.flatMap(({ name, ms }) => {
      const untilMs = fromMs + ms;
      const its = reports.filter((report) => report.name === name);
      const arrived = arrivedMs.filter((atMs) => atMs >= fromMs && atMs < untilMs).length;
      fromMs = untilMs;
      const amplification = arrived / its.reduce((sum, { sent }) => sum + sent, 0);
      return its.map((report) => ({ ...report, amplification }));
    });
    return { phases: withArrivals, costMs };
  } finally {
    for (const process of [server, ...clients]) process.kill();
  }
}
