import { type Group, type GroupName, groupNames, groups, type Row } from "./overhead-groups.js";
import type { OverheadOptions } from "./overhead-options.js";
import type { Answer, Heap, Order } from "./overhead-peer.js";
import type { ClientName, ServerName } from "./overhead-variants.js";
import { Peer } from "./peer.js";
import { interleaved } from "./rounds.js";
import { spreadOf } from "./statistics.js";

/** What one turn of a row cost, for each call, or for each message where calls have many. */
interface Turn {
  readonly cpuUs: number;
  readonly perSecond: number;
  /** Calls that were refused. */
  readonly refused: number;
  /** How often calls came to a handler. */
  readonly attempts: number;
}

/** A row as one set of processes has it. */
export interface Measured {
  /** By rounds: the same place in two rows is the same round. */
  readonly turns: readonly Turn[];
  readonly p99Ms?: number;
  readonly allocatedBytes?: number;
  readonly survivingBytes?: number;
}

export type GroupResult = ReadonlyMap<Row, Measured>;

/** What one set of processes measured. */
export interface SetResult {
  readonly groups: ReadonlyMap<GroupName, GroupResult>;
  /** What was not as it should be. */
  readonly notes: readonly string[];
}

/** Many times what the longest order takes on a busy machine. */
const patienceMs = 300_000;
const pacedCalls = 1_000;
const heapCalls = 1_000;
const mostHeapCalls = 30_000;
/** Of each process before anything counts. After half of them, much of a server is not compiled yet. */
export const warmCalls = 20_000;

/**
 * One set of processes: a process for each client and each server, all new, with the same calls behind them when a
 * measurement begins. They take turns, so that only two of them are at work at a time.
 */
export class Stage {
  readonly #node: string;
  readonly #options: OverheadOptions;
  readonly #clients = new Map<ClientName, Peer<Order, Answer>>();
  readonly #servers = new Map<ServerName, { readonly peer: Peer<Order, Answer>; port: number }>();
  /** Which clients know which servers, and which of them have made calls of a kind. */
  readonly #connected = new Set<string>();
  readonly #warm = new Set<string>();
  readonly #notes: string[] = [];

  /** @param node Path of the Node that runs the processes. */
  constructor(node: string, options: OverheadOptions) {
    this.#node = node;
    this.#options = options;
  }

  async measure(): Promise<SetResult> {
    try {
      const results = new Map<GroupName, GroupResult>();
      for (const name of groupNames) results.set(name, await this.#group(groups[name]));
      await this.#checkSpans();
      return { groups: results, notes: this.#notes };
    } finally {
      for (const peer of this.#clients.values()) peer.stop();
      for (const { peer } of this.#servers.values()) peer.stop();
    }
  }

  async #group(group: Group): Promise<GroupResult> {
    const { rows } = group;
    for (const row of rows) {
      await this.#connect(row, group);
      await this.#warmUp(row, group);
    }
    const rounds = { warmUp: 1, kept: this.#options.rounds };
    const turns = await interleaved(rows, rounds, (row) => this.#turn(row, group));
    for (const [row, ofRow] of turns) this.#check(row, group, ofRow);
    const p99s = group.paced ? await this.#latencies(rows, turns) : new Map<Row, number>();
    const measured = new Map<Row, Measured>();
    for (const row of rows) {
      const p99Ms = p99s.get(row);
      measured.set(row, {
        turns: turns.get(row) ?? [],
        ...(p99Ms === undefined ? {} : { p99Ms }),
        ...(group.heap ? await this.#heap(row, group) : {}),
      });
    }
    return measured;
  }

  async #warmUp(row: Row, { load, warmShare }: Group): Promise<void> {
    const key = `${row.client} ${row.server} ${load.kind}`;
    if (this.#warm.has(key)) return;
    this.#warm.add(key);
    const calls = (warmShare * warmCalls) / load.messages;
    await this.#load(row, { ...load, calls });
  }

  async #turn(row: Row, { side, load }: Group): Promise<Turn> {
    const server = this.#server(row.server).peer;
    const before = await server.ask({ do: "count" });
    const made = await this.#load(row, load);
    const after = await server.ask({ do: "count" });
    const { cpuUs: clientUs = Number.NaN, elapsedMs = Number.NaN, refused = 0 } = made;
    const serverUs = (after.cpuUs ?? Number.NaN) - (before.cpuUs ?? Number.NaN);
    const units = load.calls * load.messages;
    const cpuUs = { client: clientUs, server: serverUs, both: clientUs + serverUs }[side];
    return {
      cpuUs: cpuUs / units,
      perSecond: (units * 1_000) / elapsedMs,
      refused,
      attempts: (after.calls ?? 0) - (before.calls ?? 0),
    };
  }

  /** The 99th percentile of each row when calls come at half of the rate that the first row can do. */
  async #latencies(
    rows: Group["rows"],
    turns: ReadonlyMap<Row, readonly Turn[]>,
  ): Promise<Map<Row, number>> {
    const perSecond = turns.get(rows[0])?.map((turn) => turn.perSecond) ?? [];
    const rate = spreadOf(perSecond).median / 2;
    const tookMs = await interleaved(
      rows,
      { warmUp: 1, kept: this.#options.pacedTurns },
      async (row) => {
        const { port } = this.#server(row.server);
        const order = { do: "pace", port, calls: pacedCalls, rate } as const;
        return (await this.#client(row.client).ask(order)).tookMs ?? [];
      },
    );
    return new Map(
      [...tookMs].map(([row, all]) => {
        const sorted = all.flat().sort((a, b) => a - b);
        return [row, sorted[Math.floor(0.99 * sorted.length)] ?? Number.NaN];
      }),
    );
  }

  /** Makes calls until there were enough collections: how many that takes depends on the Node. */
  async #heap(
    row: Row,
    { side, load }: Group,
  ): Promise<{ allocatedBytes?: number; survivingBytes?: number }> {
    const peer = side === "server" ? this.#server(row.server).peer : this.#client(row.client);
    await peer.ask({ do: "watch-heap" });
    let heap: Heap | undefined;
    let calls = 0;
    while ((heap?.collections ?? 0) < this.#options.collections && calls < mostHeapCalls) {
      await this.#load(row, { ...load, calls: heapCalls });
      calls += heapCalls;
      heap = (await peer.ask({ do: "read-heap" })).heap;
    }
    await peer.ask({ do: "leave-heap" });
    if (heap === undefined) return {};
    const allocatedBytes = heap.allocatedBytes / calls;
    return { allocatedBytes, survivingBytes: allocatedBytes * heap.survivingShare };
  }

  #load({ client, server }: Row, load: Group["load"]): Promise<Answer> {
    return this.#client(client).ask({ do: "load", port: this.#server(server).port, load });
  }

  async #connect({ client, server: name }: Row, { attempts }: Group): Promise<void> {
    const server = this.#server(name);
    if (server.port === 0) {
      server.port = (await server.peer.ask({ do: "serve", as: name })).port ?? 0;
    }
    const key = `${client} ${name}`;
    if (this.#connected.has(key)) return;
    this.#connected.add(key);
    const peer = this.#client(client);
    await peer.ask({ do: "connect", as: client, port: server.port });
    // One call takes the only slot, and all others are refused.
    if (attempts === 0) await peer.ask({ do: "hold", port: server.port });
  }

  #client(name: ClientName): Peer<Order, Answer> {
    let peer = this.#clients.get(name);
    if (peer === undefined) {
      peer = this.#peer(`the client ${name}`);
      this.#clients.set(name, peer);
    }
    return peer;
  }

  #server(name: ServerName): { readonly peer: Peer<Order, Answer>; port: number } {
    let server = this.#servers.get(name);
    if (server === undefined) {
      server = { peer: this.#peer(`the server ${name}`), port: 0 };
      this.#servers.set(name, server);
    }
    return server;
  }

  #peer(name: string): Peer<Order, Answer> {
    return new Peer("overhead-peer", name, { patienceMs, node: this.#node });
  }

  /** A call that was refused, or was tried more or less often than it should be, is not what the row says. */
  #check(row: Row, { title, attempts, load }: Group, turns: readonly Turn[]): void {
    const calls = turns.length * load.calls;
    const refused = turns.reduce((sum, turn) => sum + turn.refused, 0);
    const made = turns.reduce((sum, turn) => sum + turn.attempts, 0);
    if (refused === (attempts === 0 ? calls : 0) && made === attempts * calls) return;
    this.#notes.push(
      `${title}, ${row.title}: ${refused} of ${calls} calls were refused, and ${made} came to the handler`,
    );
  }

  /** Two spans for each call of the toolkit's, one for each of the instrumentation's: otherwise some were dropped. */
  async #checkSpans(): Promise<void> {
    const expected = [
      ["spans", 2],
      ["instrumentation", 1],
    ] as const;
    for (const [client, each] of expected) {
      const { spans = 0, made = 0 } = await this.#client(client).ask({ do: "count" });
      if (spans === each * made) continue;
      this.#notes.push(`${client}: ${spans} spans were recorded in ${made} calls`);
    }
  }
}
