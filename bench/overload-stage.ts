import type { Column } from "./overload-columns.js";
import type { GeneratorAnswer, GeneratorOrder } from "./overload-generator.js";
import { measureRoundsPerMs, type WorkName, works } from "./overload-handlers.js";
import type { Fates, LoadResult } from "./overload-load.js";
import { type PriorityName, priorityNames } from "./overload-mix.js";
import type { ServerAnswer, ServerOrder } from "./overload-server.js";
import { Peer } from "./peer.js";

/** One load on one server. */
export interface Cell {
  readonly work: WorkName;
  readonly column: Column;
  /** The load that was meant, as a multiple of the peak. */
  readonly load: number;
  /** Calls per second that bare grpc-js answered to a closed loop in the same run. */
  readonly peak: number;
  readonly intendedPerSecond: number;
  readonly offeredPerSecond: number;
  /** Calls that were served within the deadline, per second. */
  readonly goodPerSecond: number;
  /** Share of the offered calls that was served within the deadline. */
  readonly success: Readonly<Record<PriorityName, number>>;
  /** How many were offered, and of those that were not served, why. */
  readonly calls: number;
  readonly refused: number;
  readonly heldBack: number;
  readonly late: number;
  readonly other: number;
  /** Of the calls that were served. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** `undefined`: not while it was watched, or there was no overload. */
  readonly recoveredMs: number | undefined;
  readonly lagMs: number;
  /** How busy the busier of the generators was, from 0 to 1. */
  readonly generatorBusy: number;
}

/** CPU time of the server for each call, in microseconds. */
export interface CallCosts {
  readonly accepted: Readonly<Record<"bare" | "limit" | "weir", number>>;
  readonly refused: Readonly<Record<"limit" | "weir", number>>;
}

type Generator = Peer<GeneratorOrder, GeneratorAnswer>;

/** With more, they take each other's CPU on the machines that this runs on; one alone is too slow for 0.2 ms. */
const crowd = 2;
const calmLoad = 0.5;
/** Long enough for what learns to have learnt something. */
const calmSeconds = 1;
/** Until a server's code is compiled: some ten thousand calls. */
const warmSeconds = 3;
/** How long a peer may take to answer. */
const patienceMs = 60_000;
export const watchedSeconds = 2.5;

/** The processes of the bench: a crowd that calls, and a server for each column. */
export class Stage {
  readonly #generators: readonly Generator[] = Array.from(
    { length: crowd },
    () => new Peer("overload-generator", "the generator", { patienceMs }),
  );
  readonly #roundsPerMs = measureRoundsPerMs();
  readonly #servers = new Map<Column, Peer<ServerOrder, ServerAnswer>>();

  stop(): void {
    for (const peer of [...this.#generators, ...this.#servers.values()]) peer.kill();
  }

  /** What bare grpc-js answers to a closed loop, per second. */
  async peak(work: WorkName, seconds: number): Promise<number> {
    await this.#listen("bare", work);
    // The best of three: what a neighbour on the machine takes away is not the server's.
    let peak = 0;
    for (let round = 0; round < 3; round += 1) {
      const callers = works[work].callers / crowd;
      const answers = await this.#all({ do: "closed", method: "work", callers, seconds });
      peak = Math.max(peak, sum(answers.map(({ perSecond = 0 }) => perSecond)));
    }
    return peak;
  }

  /** A new server of the column: calm, the load, and calm again. */
  async measure(
    work: WorkName,
    column: Column,
    load: number,
    peak: number,
    seconds: number,
  ): Promise<Cell> {
    await this.#listen(column, work);
    const calm = (calmLoad * peak) / crowd;
    await this.#all({ do: "open", perSecond: calm, seconds: calmSeconds });
    const answers = await this.#all({ do: "open", perSecond: (load * peak) / crowd, seconds });
    let recoveredMs: number | undefined;
    if (load > 1) {
      const after = await this.#all({ do: "recover", perSecond: calm, seconds: watchedSeconds });
      const each = after.map(({ recovery }) => recovery?.recoveredMs ?? Number.POSITIVE_INFINITY);
      const worst = Math.max(...each);
      if (Number.isFinite(worst)) recoveredMs = worst;
      // It may have a backlog of seconds, which would be the next one's. With clients that hold back it has none.
      else if (column !== "client") this.#drop(column);
    }
    const loads = answers.flatMap((answer) => answer.load ?? []);
    return { work, column, load, peak, ...summed(loads, seconds), recoveredMs };
  }

  /** What calls without any work cost the server, accepted and refused. */
  async costs(): Promise<CallCosts> {
    const accepted = { bare: 0, limit: 0, weir: 0 };
    for (const column of ["bare", "limit", "weir"] as const) {
      await this.#listen(column, "cpu-2ms");
      accepted[column] = await this.#callUs(column);
    }
    const refused = { limit: 0, weir: 0 };
    for (const column of ["limit", "weir"] as const) {
      const server = this.#server(column);
      const { port = 0 } = await server.ask({ do: "listen-refusing", column });
      await this.#connect(port);
      await this.#generators[0]?.ask({ do: "hold" });
      refused[column] = await this.#callUs(column);
    }
    return { accepted, refused };
  }

  /** The lowest of five: what a neighbour adds is never negative. */
  async #callUs(column: Column): Promise<number> {
    const server = this.#server(column);
    const cpuUs = async () => (await server.ask({ do: "cpu" })).cpuUs ?? Number.NaN;
    const seconds = 0.4;
    let lowest = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 6; round += 1) {
      const before = await cpuUs();
      const answers = await this.#all({ do: "closed", method: "empty", callers: 16, seconds });
      const calls = sum(answers.map(({ perSecond = 0 }) => perSecond)) * seconds;
      // The first round warms the machine code up.
      if (round > 0) lowest = Math.min(lowest, ((await cpuUs()) - before) / calls);
    }
    return lowest;
  }

  #server(column: Column): Peer<ServerOrder, ServerAnswer> {
    let server = this.#servers.get(column);
    if (server === undefined) {
      server = new Peer("overload-server", "the server", { patienceMs });
      this.#servers.set(column, server);
    }
    return server;
  }

  #drop(column: Column): void {
    this.#servers.get(column)?.kill();
    this.#servers.delete(column);
  }

  async #listen(column: Column, work: WorkName): Promise<void> {
    const cold = !this.#servers.has(column);
    const order = { do: "listen", column, work, roundsPerMs: this.#roundsPerMs } as const;
    const { port = 0 } = await this.#server(column).ask(order);
    await this.#connect(port, column);
    if (!cold) return;
    // What a server does all day is compiled. This one has just begun, and a refusal would cost three times as much.
    // Nor has a client that does more than write frames.
    const seconds = column === "client" ? 2 * warmSeconds : warmSeconds;
    await this.#all({ do: "closed", method: "empty", callers: 8, seconds });
    if (column !== "bare") {
      await this.#all({ do: "open", perSecond: 3_000 / crowd, seconds });
    }
    await this.#listen(column, work);
  }

  async #connect(port: number, column?: Column): Promise<void> {
    await this.#all({ do: "connect", port, ...(column === undefined ? {} : { column }) });
  }

  #all(order: GeneratorOrder): Promise<GeneratorAnswer[]> {
    return Promise.all(this.#generators.map((generator) => generator.ask(order)));
  }
}

function summed(loads: readonly LoadResult[], seconds: number) {
  const of = (fate: keyof Fates, priority?: PriorityName) =>
    sum(
      loads.flatMap(({ byPriority }) =>
        (priority === undefined ? priorityNames : [priority]).map((name) => byPriority[name][fate]),
      ),
    );
  const share = (name: PriorityName) => of("ok", name) / Math.max(1, of("offered", name));
  const okMs = loads.flatMap((load) => load.okMs).sort((a, b) => a - b);
  const quantile = (at: number) => okMs[Math.floor(okMs.length * at)] ?? Number.NaN;
  return {
    intendedPerSecond: sum(loads.map(({ intended }) => intended)) / seconds,
    offeredPerSecond: of("offered") / seconds,
    goodPerSecond: of("ok") / seconds,
    success: {
      critical: share("critical"),
      high: share("high"),
      normal: share("normal"),
      low: share("low"),
    },
    calls: of("offered"),
    refused: of("refused"),
    heldBack: of("heldBack"),
    late: of("late"),
    other: of("other"),
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    lagMs: Math.max(...loads.map(({ lagMs }) => lagMs)),
    generatorBusy: Math.max(...loads.map(({ busy }) => busy)),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
