import type { Kind, Load } from "./overhead-load.js";
import type { Variant } from "./overhead-peer.js";
import { Side } from "./overhead-side.js";
import { printTable, printTitle, signed, withQuartiles } from "./report.js";
import { interleaved, type Rounds } from "./rounds.js";
import { difference, lowest, pairwise, ratio, spreadOf } from "./statistics.js";

/** Who is on either side of a measurement. */
interface Pairing {
  readonly client: Variant;
  readonly server: Variant;
}

/** What one round of a pairing cost, for each call, or for each message where calls have many. */
interface Cost {
  readonly clientUs: number;
  readonly serverUs: number;
  readonly perSecond: number;
  /** Calls that a policy refused. */
  readonly refused: number;
}

const bare: Pairing = { client: "bare", server: "bare" };
const pairings: readonly Pairing[] = [
  bare,
  { client: "weir", server: "bare" },
  { client: "bare", server: "weir" },
  { client: "weir", server: "weir" },
];

const loads: Readonly<Record<Kind, { readonly title: string; readonly load: Load }>> = {
  unary: {
    title: "unary calls, no deadline",
    load: { kind: "unary", calls: 500, messages: 1, concurrent: 32 },
  },
  deadline: {
    title: "unary calls, each with a deadline",
    load: { kind: "deadline", calls: 500, messages: 1, concurrent: 32 },
  },
  "server-stream": {
    title: "server streaming, 250 messages a call",
    load: { kind: "server-stream", calls: 8, messages: 250, concurrent: 8 },
  },
  bidi: {
    title: "bidi streaming, 250 messages a call each way",
    load: { kind: "bidi", calls: 8, messages: 250, concurrent: 8 },
  },
};

const rounds: Rounds = { warmUp: 6, kept: 30 };

const noise =
  "Four processes, one for each side and variant, no OpenTelemetry SDK. The pairings take turns, " +
  `${rounds.kept} rounds after ${rounds.warmUp} of warm-up.\nCPU is user and system time of the process. Medians; ` +
  "what is added, and ratios, are medians (quartiles) taken round by round against bare/bare;\n" +
  "quietest: the difference of the lowest tenth of the rounds, because what a busy machine adds is never negative.";

/** The standard pipelines against bare grpc-js over loopback: CPU for each call on each side, and throughput. */
export async function overhead(): Promise<void> {
  printTitle("overhead: the standard pipelines over loopback", noise);
  const clients = { bare: new Side("bare"), weir: new Side("weir") };
  const servers = { bare: new Side("bare"), weir: new Side("weir") };
  try {
    await servers.bare.listen();
    await servers.weir.listen();
    for (const { title, load } of Object.values(loads)) {
      const measured = await interleaved(pairings, rounds, ({ client, server }) =>
        measure(clients[client], servers[server], load),
      );
      console.log(`${title}; ${load.concurrent} under way`);
      printCosts(measured, load.messages > 1 ? "message" : "call");
      printRefused(measured, load.calls);
      console.log();
    }
  } finally {
    for (const peer of [...Object.values(clients), ...Object.values(servers)]) peer.stop();
  }
}

async function measure(client: Side, server: Side, load: Load): Promise<Cost> {
  const before = await server.cpuUs();
  const { cpuUs, elapsedMs, refused } = await client.load(server, load);
  const serverUs = (await server.cpuUs()) - before;
  const units = load.calls * load.messages;
  return {
    clientUs: cpuUs / units,
    serverUs: serverUs / units,
    perSecond: (units * 1_000) / elapsedMs,
    refused,
  };
}

/** A refused call costs less than one that is served, so it is said where there were any. */
function printRefused(measured: ReadonlyMap<Pairing, readonly Cost[]>, calls: number): void {
  for (const [{ client, server }, costs] of measured) {
    const refused = costs.reduce((sum, cost) => sum + cost.refused, 0);
    if (refused === 0) continue;
    console.log(`${client} / ${server}: ${refused} of ${calls * costs.length} calls were refused`);
  }
}

function printCosts(measured: ReadonlyMap<Pairing, readonly Cost[]>, unit: string): void {
  const peers = measured.get(bare) ?? [];
  const rows = [...measured].map(([pairing, costs]) => {
    const series = (of: keyof Cost) => costs.map((cost) => cost[of]);
    const against = (of: keyof Cost, compare: typeof ratio) =>
      pairwise(
        series(of),
        peers.map((cost) => cost[of]),
        compare,
      );
    const quietest = (of: keyof Cost) => lowest(series(of)) - lowest(peers.map((cost) => cost[of]));
    const isBare = pairing === bare;
    return [
      `${pairing.client} / ${pairing.server}`,
      spreadOf(series("clientUs")).median.toFixed(1),
      isBare ? "" : signed(against("clientUs", difference), 1),
      isBare ? "" : quietest("clientUs").toFixed(1),
      spreadOf(series("serverUs")).median.toFixed(1),
      isBare ? "" : signed(against("serverUs", difference), 1),
      isBare ? "" : quietest("serverUs").toFixed(1),
      spreadOf(series("perSecond")).median.toFixed(0),
      isBare ? "1" : withQuartiles(against("perSecond", ratio), 2),
    ];
  });
  printTable(
    [
      "client / server",
      `client µs/${unit}`,
      "added",
      "quietest",
      `server µs/${unit}`,
      "added",
      "quietest",
      `${unit}s/s`,
      "ratio to bare",
    ],
    rows,
  );
}
