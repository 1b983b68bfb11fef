import { Client } from "@grpc/grpc-js";
import { inMemoryTransport, type Link, VirtualClock } from "grpc-weir/testing";
import { echoHandlers, echoService } from "./echo.js";
import { bare, type Row, rows } from "./interceptors-rows.js";
import { type Load, runLoad } from "./overhead-load.js";
import { printTable, printTitle, signed } from "./report.js";
import { interleaved, type Rounds } from "./rounds.js";
import { difference, lowest, pairwise, spreadOf } from "./statistics.js";
import { clientCall, serverCall } from "./stub-calls.js";

const load: Load = { kind: "unary", calls: 250, messages: 1, concurrent: 25 };
const rounds: Rounds = { warmUp: 8, kept: 40 };
const stubbed = 4_000;

const noise =
  `Unary calls of the real client over a channel in memory, ${load.calls} a turn; the rows take turns, ` +
  `${rounds.kept} rounds after ${rounds.warmUp} of warm-up.\n` +
  "CPU time of the process, the collector's included. Added: median (quartiles) of the differences round by round.\n" +
  "Quietest: the difference of the lowest tenth of the rounds, because what a busy machine adds is never negative.\n" +
  "Alone: the same, with a stub in place of client, channel and server, so that nothing else is in the number.";

/** What each interceptor costs a call that it lets pass, without a network to hide it. */
export async function interceptors(): Promise<void> {
  printTitle("interceptors: each by itself, in memory", noise);
  const whole = await inMemory();
  const alone = await onStubs();
  const peers = whole.get(bare) ?? [];
  printTable(
    ["interceptor", "µs/call", "added", "quietest", "alone ns"],
    rows.map((row) => {
      const costs = whole.get(row) ?? [];
      const isBare = row === bare;
      return [
        row.name,
        spreadOf(costs).median.toFixed(1),
        isBare ? "" : signed(pairwise(costs, peers, difference), 1),
        isBare ? "" : (lowest(costs) - lowest(peers)).toFixed(1),
        isBare ? "" : (alone.get(row) ?? Number.NaN).toFixed(0),
      ];
    }),
  );
}

async function inMemory(): Promise<Map<Row, number[]>> {
  const links: Link[] = [];
  const calls = new Map<Row, () => Promise<void>>();
  for (const row of rows) {
    const link = await open(row);
    links.push(link);
    const client = link.client(Client);
    calls.set(row, () => link.until(runLoad(client, load, () => ({}))));
  }
  const measured = await interleaved(rows, rounds, async (row) => {
    const before = process.cpuUsage();
    await calls.get(row)?.();
    return cpuUs(before) / load.calls;
  });
  for (const link of links) await link.close();
  return measured;
}

/** The interceptors live by the system's clock, as they would; only the network is under virtual time. */
function open(row: Row): Promise<Link> {
  const clock = new VirtualClock({ wallStartMs: Date.now() });
  return inMemoryTransport({ clock }).open({
    service: echoService,
    implementation: echoHandlers,
    ...(row.client === undefined ? {} : { clientOptions: row.client }),
    ...(row.server === undefined ? {} : { serverInterceptors: row.server }),
  });
}

/** @returns what each row adds to the stub, in nanoseconds */
async function onStubs(): Promise<Map<Row, number>> {
  const calls = new Map<Row, () => void>();
  const peers = new Map<Row, () => void>();
  const bareClient = clientCall([]);
  const bareServer = serverCall([]);
  for (const row of rows) {
    const { server } = row;
    calls.set(
      row,
      server === undefined ? clientCall(row.client?.interceptors ?? []) : serverCall(server),
    );
    peers.set(row, server === undefined ? bareClient : bareServer);
  }
  const measure = (call: (() => void) | undefined) => {
    const before = process.cpuUsage();
    for (let made = 0; made < stubbed; made += 1) call?.();
    return (cpuUs(before) * 1_000) / stubbed;
  };
  const measured = await interleaved(rows, rounds, (row) => ({
    with: measure(calls.get(row)),
    without: measure(peers.get(row)),
  }));
  return new Map(
    [...measured].map(([row, costs]) => [
      row,
      lowest(costs.map((cost) => cost.with)) - lowest(costs.map((cost) => cost.without)),
    ]),
  );
}

function cpuUs(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return user + system;
}
