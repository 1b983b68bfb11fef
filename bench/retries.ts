import { Peer } from "./peer.js";
import { printTable, printTitle, withQuartiles } from "./report.js";
import type { Load } from "./retries-call.js";
import type { Contestant } from "./retries-clients.js";
import type { Answer, Order } from "./retries-peer.js";
import { interleaved, type Rounds } from "./rounds.js";
import { lowest, pairwise, ratio, spreadOf } from "./statistics.js";

/** What one turn of a client cost, for each call. */
interface Cost {
  readonly clientUs: number;
  readonly perSecond: number;
  readonly attempts: number;
}

const titles: Readonly<Record<Contestant, string>> = {
  "grpc-js": "grpc-js, retryPolicy of a service config",
  weir: "grpc-weir, retry and deadline",
  cockatiel: "grpc-js, wrapped by hand with cockatiel",
  "nice-grpc": "nice-grpc, retry and deadline middleware",
};
const contestants = ["grpc-js", "weir", "cockatiel", "nice-grpc"] as const;

interface Scene {
  readonly title: string;
  readonly load: Load;
  readonly rounds: Rounds;
}

// Turns are short, so that a busy machine disturbs some and leaves others alone. Rounds are a multiple of the four
// clients: each stands as often in each place. The code of retries is still cold at the second scene.
const scenes: readonly Scene[] = [
  {
    title: "each call succeeds at once",
    load: { kind: "success", calls: 200, concurrent: 32 },
    rounds: { warmUp: 20, kept: 36 },
  },
  {
    title: "each call needs exactly one retry",
    load: { kind: "retry", calls: 100, concurrent: 32 },
    rounds: { warmUp: 20, kept: 36 },
  },
];

const noise =
  "Unary calls, each with a deadline, up to 3 attempts, 1 ms before the first retry. The server and each client have " +
  "a process of their own, and the clients take turns.\n" +
  "CPU is user and system time of the client's process. Medians (quartiles); weir / it: weir's number divided by this " +
  "client's, round by round;\n" +
  "quietest: the lowest tenth of the rounds, because what a busy machine adds is never negative.\n" +
  "The target: on success at most 1.05 of grpc-js's own retries, and below the other two.";

/** The server, or one of its clients. */
function peer(name: string): Peer<Order, Answer> {
  return new Peer("retries-peer", name);
}

/** What retries cost, against the other ways of having them. */
export async function retries(): Promise<void> {
  printTitle("retries: four clients that retry, over loopback", noise);
  const server = peer("the server");
  const clients = new Map(contestants.map((name) => [name, peer(name)]));
  try {
    const { target = "" } = await server.ask({ do: "listen" });
    for (const { title, load, rounds } of scenes) {
      const measured = await interleaved([...clients], rounds, ([by, client]) =>
        measure(client, server, { do: "load", by, target, load }),
      );
      console.log(
        `${title}; ${load.calls} calls a turn, ${load.concurrent} under way; ` +
          `${rounds.kept} rounds after ${rounds.warmUp} of warm-up`,
      );
      printCosts(new Map([...measured].map(([[name], costs]) => [name, costs])));
      console.log();
    }
  } finally {
    for (const peer of [server, ...clients.values()]) peer.stop();
  }
}

async function measure(
  client: Peer<Order, Answer>,
  server: Peer<Order, Answer>,
  order: { do: "load"; by: Contestant; target: string; load: Load },
): Promise<Cost> {
  const { calls } = order.load;
  const { attempts: before = Number.NaN } = await server.ask({ do: "attempts" });
  const { cpuUs = Number.NaN, elapsedMs = Number.NaN } = await client.ask(order);
  const { attempts: after = Number.NaN } = await server.ask({ do: "attempts" });
  return {
    clientUs: cpuUs / calls,
    perSecond: (calls * 1_000) / elapsedMs,
    attempts: (after - before) / calls,
  };
}

function printCosts(measured: ReadonlyMap<Contestant, readonly Cost[]>): void {
  const ours = measured.get("weir") ?? [];
  const seriesOf = (costs: readonly Cost[], of: keyof Cost) => costs.map((cost) => cost[of]);
  const rows = [...measured].map(([name, costs]) => {
    const against = (of: keyof Cost) =>
      name === "weir"
        ? "1"
        : withQuartiles(pairwise(seriesOf(ours, of), seriesOf(costs, of), ratio), 2);
    const quietest = lowest(seriesOf(costs, "clientUs"));
    return [
      titles[name],
      withQuartiles(spreadOf(seriesOf(costs, "clientUs")), 0),
      against("clientUs"),
      quietest.toFixed(0),
      name === "weir" ? "1" : (lowest(seriesOf(ours, "clientUs")) / quietest).toFixed(2),
      spreadOf(seriesOf(costs, "perSecond")).median.toFixed(0),
      against("perSecond"),
      spreadOf(seriesOf(costs, "attempts")).median.toFixed(2),
    ];
  });
  printTable(
    [
      "client",
      "CPU µs/call",
      "weir / it",
      "quietest",
      "weir / it",
      "calls/s",
      "weir / it",
      "attempts/call",
    ],
    rows,
  );
}
