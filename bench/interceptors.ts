import { Client } from "@grpc/grpc-js";
import { inMemoryTransport, type Link, VirtualClock } from "grpc-weir/testing";
import { Echo, echoService, payload } from "./echo.js";
import { bare, type Row, rows } from "./interceptors-rows.js";
import { callerOf, closedLoop, type Done } from "./overhead-load.js";
import { printTable, printTitle, signed } from "./report.js";
import { interleaved, type Rounds } from "./rounds.js";
import { difference, lowest, pairwise, spreadOf } from "./statistics.js";
import { clientCalls, type StubbedCalls, serverCalls } from "./stub-calls.js";

const load = { calls: 250, concurrent: 25 };
const rounds: Rounds = { warmUp: 8, kept: 40 };
const stubbed = 4_000;
/** So many calls are made before their ends are waited for. */
const batch = 50;

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
  const calls = new Map<Row, () => Promise<number>>();
  let refused = 0;
  for (const row of rows) {
    const link = await open(row);
    links.push(link);
    const client = link.client(Client);
    const { unary } = callerOf(client);
    const call = (done: Done) => unary("unary", payload, done);
    calls.set(row, () => link.until(closedLoop(load, call)));
  }
  const measured = await interleaved(rows, rounds, async (row) => {
    const before = process.cpuUsage();
    refused += (await calls.get(row)?.()) ?? 0;
    return cpuUs(before) / load.calls;
  });
  if (refused > 0)
    console.log(`${refused} calls were refused: the numbers are of calls served and refused\n`);
  for (const link of links) await link.close();
  return measured;
}

/** The interceptors live by the system's clock, as they would; only the network is under virtual time. */
function open(row: Row): Promise<Link> {
  const clock = new VirtualClock({ wallStartMs: Date.now() });
  return inMemoryTransport({ clock }).open({
    service: echoService,
    implementation: { ...new Echo().handlers },
    ...(row.client === undefined ? {} : { clientOptions: row.client }),
    ...(row.server === undefined ? {} : { serverInterceptors: row.server }),
  });
}

/** @returns what each row adds to the stub, in nanoseconds */
async function onStubs(): Promise<Map<Row, number>> {
  const calls = new Map<Row, StubbedCalls>();
  const peers = new Map<Row, StubbedCalls>();
  const bareClient = clientCalls([]);
  const bareServer = serverCalls([]);
  for (const row of rows) {
    const { server } = row;
    calls.set(
      row,
      server === undefined ? clientCalls(row.client?.interceptors ?? []) : serverCalls(server),
    );
    peers.set(row, server === undefined ? bareClient : bareServer);
  }
  const measured = await interleaved(rows, rounds, async (row) => ({
    with: await nsOf(calls.get(row) ?? bareClient),
    without: await nsOf(peers.get(row) ?? bareClient),
  }));
  return new Map(
    [...measured].map(([row, costs]) => [
      row,
      lowest(costs.map((cost) => cost.with)) - lowest(costs.map((cost) => cost.without)),
    ]),
  );
}

async function nsOf(calls: StubbedCalls): Promise<number> {
  const before = process.cpuUsage();
  const endedBefore = calls.ended;
  for (let made = 0; made < stubbed; made += batch) {
    for (let call = 0; call < batch; call += 1) calls.make();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const costNs = (cpuUs(before) * 1_000) / stubbed;
  const ended = calls.ended - endedBefore;
  if (ended !== stubbed) throw new Error(`${ended} of ${stubbed} calls have ended`);
  return costNs;
}

function cpuUs(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return user + system;
}
