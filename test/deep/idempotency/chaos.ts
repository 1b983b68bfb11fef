import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Random } from "../../../src/core/clock.js";
import { seededRandom } from "../../../src/testing.js";
import { freePort } from "../ops/ports.js";
import { type RedisProcess, startRedis } from "../redis/redis-server.js";
import { type CallEnd, check, type Execution, type Invocation, type Violation } from "./checker.js";
import { Ledger, type LedgerFaults, listen } from "./ledger.js";
import { type PlanCounts, type PlannedCall, plan } from "./plan.js";

export interface ChaosOptions {
  readonly seed: number;
  readonly orders: number;
  /** One of `programs/stores.mjs`. */
  readonly store?: "redis" | "completes without a token" | "claims in two steps";
  readonly ledger?: LedgerFaults;
  /** The share of orders that a handler declines, which it decides anew in each run. @defaultValue 0.03 */
  readonly declines?: number;
  /** How long handlers take to decide, at most. @defaultValue 5 */
  readonly thinkMs?: number;
  /** The time from one fault to the next, on average. @defaultValue 800 */
  readonly faultEveryMs?: number;
  /** What happens, in turns of a random order. @defaultValue all */
  readonly faults?: readonly Fault[];
  /** After this time, what has been seen is checked although the clients are not done. */
  readonly patienceMs: number;
  /** Whether Redis writes to a file before it answers, and so has its data after it was killed. @defaultValue true */
  readonly persistent?: boolean;
  /** Whether the journals stay behind where something is wrong. @defaultValue false */
  readonly keepsJournals?: boolean;
}

export const allFaults = [
  "server killed",
  "server frozen",
  "client killed",
  "redis killed",
  "redis frozen",
] as const;
export type Fault = (typeof allFaults)[number];

/** A fault that has happened. */
interface Happened {
  readonly fault: Fault;
  readonly to: string;
  readonly atMs: number;
}

export interface ChaosReport {
  readonly violations: readonly Violation[];
  readonly counts: PlanCounts;
  /** Calls of the plan that no client has brought to an answer. */
  readonly unsettled: readonly PlannedCall[];
  readonly faults: readonly Happened[];
  readonly seen: {
    readonly invocations: number;
    readonly answers: number;
    readonly replayed: number;
    readonly reused: number;
    /** Keys whose clients were told that the order is declined. */
    readonly declined: number;
    /** Calls that ended without saying what has happened, by how. */
    readonly unsettled: Readonly<Record<string, number>>;
    /** Keys that a second run took over. */
    readonly takenOver: number;
    /** Orders in the ledger. */
    readonly applied: number;
    /** Steps that the ledger has refused for their token. */
    readonly fenced: number;
  };
  readonly seconds: number;
  /** The folder of the journals and the faults, where something was wrong. */
  readonly journals: string | undefined;
}

const leaseMs = 500;
const deadlineMs = 8_000;
const serverCount = 2;
const clientCount = 2;
const concurrent = 40;

/**
 * Clients place orders at servers that share a Redis, while processes of all three kinds are killed and frozen. Then what
 * all of them have seen is checked. The ledger lives in this process, which is not killed.
 *
 * The seed decides the plan of calls and the order of faults. What meets what is up to the machine.
 */
export async function chaos(options: ChaosOptions): Promise<ChaosReport> {
  const random = seededRandom(options.seed);
  const dir = await mkdtemp(join(tmpdir(), "weir-chaos-"));
  const persistence = ["--appendonly", "yes", "--appendfsync", "always"];
  const redis = await startRedis(options.persistent === false ? [] : persistence);
  const ledger = new Ledger(nowUs, options.ledger);
  const listening = await listen(ledger);
  const fleet = new Fleet(dir);
  let keep = false;
  try {
    const { calls, counts } = plan(random, options.orders, clientCount);
    const beganMs = performance.now();
    const servers = await Promise.all(
      Array.from({ length: serverCount }, async (_, n) => {
        const name = `s${n + 1}`;
        const port = await freePort();
        const settings = {
          name,
          port,
          redisPort: redis.port,
          ledgerPort: listening.port,
          leaseMs,
          store: options.store ?? "redis",
          declines: options.declines ?? 0.03,
          thinkMs: options.thinkMs ?? 5,
        };
        const server = new Member(fleet, "server", name, () => Promise.resolve(settings));
        await server.start();
        return { server, port };
      }),
    );
    const targets = servers.map(({ port }) => `127.0.0.1:${port}`);
    const clients = await Promise.all(
      calls.map(async (own, n) => {
        const name = `c${n + 1}`;
        const file = join(dir, `${name}.plan.json`);
        await writeFile(file, JSON.stringify(own));
        const client = new Member(fleet, "client", name, async () => ({
          plan: file,
          settled: settledIn(await fleet.journalOf<ClientLine>(name)),
          targets,
          concurrent,
          deadlineMs,
        }));
        await client.start();
        return client;
      }),
    );
    const allDone = Promise.race([Promise.all(clients.map((client) => client.done)), fleet.failed]);
    const faults = await trouble(random, options, {
      servers: servers.map(({ server }) => server),
      clients,
      redis,
      until: allDone,
    });
    const seconds = (performance.now() - beganMs) / 1_000;
    // From here on nobody writes any more.
    await fleet.close();
    const journals = {
      clients: await Promise.all(clients.map(({ name }) => fleet.journalOf<ClientLine>(name))),
      servers: (
        await Promise.all(servers.map(({ server }) => fleet.journalOf<Execution>(server.name)))
      ).flat(),
    };
    const found = judged(journals, ledger, calls);
    keep = options.keepsJournals === true && found.violations.length + found.unsettled.length > 0;
    if (keep) await writeFile(join(dir, "faults.json"), JSON.stringify(faults));
    return { ...found, counts, faults, seconds, journals: keep ? dir : undefined };
  } finally {
    await fleet.close();
    await listening.close();
    await redis.close();
    if (!keep) await rm(dir, { recursive: true, force: true });
  }
}

/** A line in the journal of a client: the start of a call, or its end. */
interface ClientLine {
  readonly id: string;
  /** Its place in the plan. */
  readonly index: number;
  readonly start?: PlannedCall & { readonly startUs: number };
  readonly end?: CallEnd & { readonly why?: string };
}

function settledIn(lines: readonly ClientLine[]): number[] {
  return lines
    .filter(({ end }) => end !== undefined && end.kind !== "unsettled")
    .map(({ index }) => index);
}

function judged(
  journals: {
    readonly clients: readonly (readonly ClientLine[])[];
    readonly servers: readonly Execution[];
  },
  ledger: Ledger,
  calls: readonly (readonly PlannedCall[])[],
): Pick<ChaosReport, "violations" | "unsettled" | "seen"> {
  const invocations = journals.clients.flatMap((lines, n) => invocationsIn(lines, `c${n + 1}`));
  const executions = journals.servers;
  const violations = check({ invocations, executions, ledger: ledger.steps });
  const unsettled = calls.flatMap((own, n) => {
    const settled = new Set(settledIn(journals.clients[n] ?? []));
    return own.filter((_, index) => !settled.has(index));
  });
  const ends = invocations.flatMap(({ end }) => end ?? []);
  const answers = ends.filter((end) => end.kind === "answer");
  const failures: Record<string, number> = {};
  for (const { end } of journals.clients.flat()) {
    if (end?.why !== undefined) failures[end.why] = (failures[end.why] ?? 0) + 1;
  }
  const runs = new Map<string, number>();
  for (const { caller, key } of executions) {
    const name = JSON.stringify([caller, key]);
    runs.set(name, (runs.get(name) ?? 0) + 1);
  }
  return {
    violations,
    unsettled,
    seen: {
      invocations: invocations.length,
      answers: answers.length,
      replayed: answers.filter(({ replayed }) => replayed).length,
      reused: ends.filter(({ kind }) => kind === "reused").length,
      declined: new Set(
        answers
          .filter(({ answer }) => answer.kind === "declined")
          .map(({ answer: { caller, key } }) => JSON.stringify([caller, key])),
      ).size,
      unsettled: failures,
      takenOver: [...runs.values()].filter((count) => count > 1).length,
      applied: ledger.steps.filter(({ applied }) => applied !== undefined).length,
      fenced: ledger.steps.filter(({ fenced }) => fenced === true).length,
    },
  };
}

/** In the ledger and in the answers, a key is that of a method. */
function invocationsIn(lines: readonly ClientLine[], client: string): Invocation[] {
  const ends = new Map(lines.flatMap(({ id, end }) => (end === undefined ? [] : [[id, end]])));
  return lines.flatMap(({ id, start }) => {
    if (start === undefined) return [];
    const { method, caller, key, request, startUs } = start;
    const end = ends.get(id);
    return {
      client,
      caller,
      key: `${method} ${key}`,
      request,
      startUs,
      ...(end !== undefined && { end }),
    };
  });
}

function nowUs(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}

/** What the chaos happens to. */
interface Scene {
  readonly servers: readonly Member[];
  readonly clients: readonly Member[];
  readonly redis: RedisProcess;
  readonly until: Promise<unknown>;
}

/** One fault after the other until the clients are done, or the patience is over. */
async function trouble(
  random: Random,
  { faultEveryMs = 800, faults = allFaults, patienceMs }: ChaosOptions,
  { servers, clients, redis, until }: Scene,
): Promise<Happened[]> {
  const oneOf = (all: readonly Member[]): Member | undefined =>
    all[Math.floor(random() * all.length)];
  /** Each says to whom it has happened; `undefined` where nobody is left for it. */
  const carryOut: Readonly<Record<Fault, () => Promise<string | undefined>>> = {
    "server killed": async () => {
      const server = oneOf(servers);
      await server?.kill();
      await sleep(100 + 300 * random());
      await server?.start();
      return server?.name;
    },
    "server frozen": async () => {
      const server = oneOf(servers);
      server?.signal("SIGSTOP");
      await sleep(leaseMs * (0.5 + 2.5 * random()));
      server?.signal("SIGCONT");
      return server?.name;
    },
    "client killed": async () => {
      const client = oneOf(clients.filter(({ isDone }) => !isDone));
      await client?.kill();
      await client?.start();
      return client?.name;
    },
    "redis killed": async () => {
      await redis.kill();
      await sleep(50 + 250 * random());
      await redis.restart();
      return "redis";
    },
    "redis frozen": async () => {
      redis.pause();
      await sleep(100 + 500 * random());
      redis.resume();
      return "redis";
    },
  };
  const happened: Happened[] = [];
  const beganMs = performance.now();
  let over = false;
  const ended = until.then(() => {
    over = true;
  });
  let turn: Fault[] = [];
  for (;;) {
    await Promise.race([ended, sleep(faultEveryMs * (0.5 + random()))]);
    const atMs = Math.round(performance.now() - beganMs);
    if (over || atMs > patienceMs) return happened;
    if (turn.length === 0) turn = shuffled(random, faults);
    const fault = turn.pop();
    const to = fault && (await carryOut[fault]());
    if (fault !== undefined && to !== undefined) happened.push({ fault, to, atMs });
  }
}

function shuffled<T>(random: Random, all: readonly T[]): T[] {
  const drawn = all.map((one) => ({ one, place: random() }));
  return drawn.sort((a, b) => a.place - b.place).map(({ one }) => one);
}

type Settings = Readonly<Record<string, unknown>>;

/** A process that is started again after each time that it was killed, with a journal for each of its lives. */
class Member {
  readonly #fleet: Fleet;
  readonly #role: "server" | "client";
  readonly name: string;
  readonly #settings: () => Promise<Settings>;
  #life = 0;
  #child: ChildProcess | undefined;
  readonly done: Promise<void>;
  isDone = false;
  #isDone: () => void = () => {};

  constructor(
    fleet: Fleet,
    role: "server" | "client",
    name: string,
    settings: () => Promise<Settings>,
  ) {
    this.#fleet = fleet;
    this.#role = role;
    this.name = name;
    this.#settings = settings;
    this.done = new Promise((resolve) => {
      this.#isDone = resolve;
    });
  }

  /** A server listens when the promise is kept; a client begins. */
  async start(): Promise<void> {
    this.#life += 1;
    const journalPath = join(this.#fleet.dir, `${this.name}.${this.#life}.jsonl`);
    const settings = JSON.stringify({ ...(await this.#settings()), journalPath });
    const child = this.#fleet.fork(this.#role, this.name, settings);
    this.#child = child;
    if (this.#role === "server") {
      await Promise.race([once(child, "message"), this.#fleet.failed]);
      return;
    }
    child.once("message", () => {
      this.#fleet.expectEnd(child);
      this.isDone = true;
      this.#isDone();
    });
  }

  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    this.#child?.kill(signal);
  }

  async kill(): Promise<void> {
    if (this.#child !== undefined) await this.#fleet.kill(this.#child);
  }
}

/** All processes of one run. None outlives it, and one that ends by itself fails it. */
class Fleet {
  readonly dir: string;
  readonly failed: Promise<never>;
  readonly #running = new Set<ChildProcess>();
  readonly #expected = new WeakSet<ChildProcess>();
  #fail: (reason: Error) => void = () => {};

  constructor(dir: string) {
    this.dir = dir;
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  fork(role: "server" | "client", name: string, settings: string): ChildProcess {
    const program = fileURLToPath(new URL(`./programs/${role}.mjs`, import.meta.url));
    const child = fork(program, [settings], { stdio: ["ignore", "ignore", "pipe", "ipc"] });
    this.#running.add(child);
    let said = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-4_000);
    });
    child.once("exit", (code, signal) => {
      this.#running.delete(child);
      if (this.#expected.has(child)) return;
      this.#fail(new Error(`${name} ended by itself, ${code ?? signal}: ${said}`));
    });
    return child;
  }

  expectEnd(child: ChildProcess): void {
    this.#expected.add(child);
  }

  async kill(child: ChildProcess): Promise<void> {
    this.expectEnd(child);
    if (!this.#running.has(child)) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#running].map((child) => this.kill(child)));
  }

  /** What all lives of a process have written down. */
  async journalOf<Line>(name: string): Promise<Line[]> {
    const files = (await readdir(this.dir)).filter((file) => {
      return file.startsWith(`${name}.`) && file.endsWith(".jsonl");
    });
    const texts = await Promise.all(files.map((file) => readFile(join(this.dir, file), "utf8")));
    // The last line of a process that was killed may be half of one.
    const lines = texts.flatMap((text) => text.split("\n").slice(0, -1));
    return lines.map((line): Line => JSON.parse(line));
  }
}
