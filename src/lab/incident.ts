import { status as Status } from "@grpc/grpc-js";
import { LabClient } from "./client.js";
import { bareCosts } from "./costs.js";
import { Dependency } from "./dependency.js";
import { type LoadOptions, Users } from "./load.js";
import { Network, type NetworkOptions } from "./network.js";
import type { Peer } from "./peers/peer.js";
import { LabProcess } from "./process.js";
import { type HandlerCall, LabServer } from "./server.js";
import { goodput, type PhaseReport, Tally } from "./tally.js";
import { World } from "./world.js";

/** What the handlers of an incident do. */
export type Work =
  /** They compute. */
  | { readonly kind: "cpu"; readonly ms: number }
  /** They compute a little, and wait for a dependency of their server's that serves `size` calls at a time. */
  | { readonly kind: "pool"; readonly size: number; readonly ms: number }
  /** They compute a little, and wait for something that serves any number of calls. */
  | { readonly kind: "wait"; readonly ms: number };

/** What handlers that wait compute, in milliseconds. */
const computeMs = 0.1;

export interface IncidentPhase {
  /** `before` and `after` are normal times. */
  readonly name: "before" | "during" | "after";
  readonly ms: number;
  /** The load as a multiple of the usual one. @defaultValue 1 */
  readonly load?: number;
}

/** Something that happens to clients and servers, as data. */
export interface Incident {
  /** In lower case, with hyphens. */
  readonly name: string;
  /** What happens, in a sentence. */
  readonly what: string;
  /** What a person would want to happen. */
  readonly wanted: string;
  /** @defaultValue 1 */
  readonly servers?: number;
  /** @defaultValue 2 */
  readonly clients?: number;
  readonly work: Work;
  readonly load: LoadOptions;
  readonly phases: readonly IncidentPhase[];
  /** @defaultValue `round_robin` */
  readonly balancing?: "pick_first" | "round_robin";
  readonly network?: NetworkOptions;
  /** The right number for a fixed limit of running calls in each server. */
  readonly fixedLimit: number;
  /**
   * More is asked for than can be done: what is refused is a choice, and the fixed limit with the right number is a peer to
   * be measured by. @defaultValue false
   */
  readonly overload?: boolean;
  /** Plans what happens to the servers. @defaultValue nothing but the load */
  readonly happens?: (stage: Stage) => void;
}

/** What can be done to the world of an incident. */
export interface Stage {
  readonly at: (atMs: number, act: () => void) => void;
  readonly server: (index: number) => StageServer;
}

/** What can be done to a server. */
export interface StageServer {
  /** The process dies. */
  kill(): void;
  /** A new process takes its address. */
  start(): void;
  /** The process stops for so long, as for a garbage collection. */
  block(ms: number): void;
  /** The process gets this share of its CPU, from 0 to 1. */
  squeeze(cpuShare: number): void;
  /** The dependency takes so many times as long. */
  slow(factor: number): void;
  /** This share of the calls, from 0 to 1, fails with UNAVAILABLE when it would be answered. */
  fail(share: number): void;
  /** Its connections break. */
  cut(): void;
}

/** How many calls a second so many servers can serve at most, without the toolkit. */
export function capacity(work: Work, servers = 1): number {
  const { accept, answer } = bareCosts.server;
  if (work.kind === "cpu") return (servers * 1_000) / (work.ms + accept + answer);
  const byCpu = 1_000 / (computeMs + accept + answer);
  if (work.kind === "wait") return servers * byCpu;
  return servers * Math.min(byCpu, (work.size * 1_000) / work.ms);
}

/** What became of an incident with one kind of policies. */
export interface IncidentReport {
  readonly incident: string;
  readonly peer: string;
  readonly seed: number;
  readonly phases: readonly PhaseReport[];
  /** How long after the incident all was back to normal, in milliseconds; `null` for not before the end. */
  readonly recoveryMs: number | null;
  /** Pieces of work of the model, to judge its speed. */
  readonly pieces: number;
}

/** The phases in which the incident is felt: all, where nothing but calm is asked for. */
export function troubled({ phases }: IncidentReport): readonly PhaseReport[] {
  const later = phases.filter(({ name }) => name !== "before");
  return later.length === 0 ? phases : later;
}

/** After the load has ended, calls have so long to end. */
const restMs = 10_000;

/** Runs an incident. The same seed gives the same report. */
export async function runIncident(
  incident: Incident,
  peer: Peer,
  seed: number,
): Promise<IncidentReport> {
  const { servers = 1, clients = 2, balancing = "round_robin" } = incident;
  const world = new World(seed);
  const network = new Network(world, incident.network);
  const tally = new Tally(incident.phases);
  const staged = Array.from(
    { length: servers },
    (_, index) => new StagedServer(world, network, incident, peer, tally, `server-${index}:443`),
  );
  for (const server of staged) server.start();
  const addresses = staged.map(({ address }) => address);
  const phases = incident.phases.map(({ ms, load = 1 }) => ({ ms, load }));
  for (let index = 0; index < clients; index += 1) {
    const process = new LabProcess(world, `client-${index}`);
    const side = peer.client(process);
    // Each client has them in another order, as from DNS.
    const own = addresses.map((_, place) => addresses[(place + index) % servers] ?? "");
    const client = new LabClient({
      network,
      process,
      addresses: own,
      balancing,
      costs: side.costs,
      options: side.options ?? {},
      retryPolicy: side.retryPolicy,
    });
    const caller = side.around?.(client) ?? client;
    new Users(world, incident.load, clients, process, caller, tally, phases).start();
  }
  incident.happens?.({
    at: (atMs, act) => world.at(atMs, act),
    server: (index) => {
      const server = staged[index];
      if (server === undefined) throw new RangeError(`there is no server ${index}`);
      return server;
    },
  });
  const endMs = phases.reduce((sum, { ms }) => sum + ms, 0);
  await world.run(endMs + restMs);
  return reportOf(incident, peer, seed, tally, world.pieces);
}

function reportOf(
  incident: Incident,
  peer: Peer,
  seed: number,
  tally: Tally,
  pieces: number,
): IncidentReport {
  const phases = tally.report();
  let overMs = 0;
  let untilMs = 0;
  for (const { name, ms } of incident.phases) {
    untilMs += ms;
    if (name !== "after") overMs = untilMs;
  }
  const before = phases.find(({ name }) => name === "before");
  const recoveryMs = tally.recoveryMs(overMs, before === undefined ? 1 : goodput(before));
  return {
    incident: incident.name,
    peer: peer.name,
    seed,
    phases,
    recoveryMs: Number.isFinite(recoveryMs) ? recoveryMs : null,
    pieces,
  };
}

class StagedServer implements StageServer {
  readonly address: string;
  readonly #world: World;
  readonly #network: Network;
  readonly #incident: Incident;
  readonly #peer: Peer;
  readonly #tally: Tally;
  readonly #random: () => number;
  #process: LabProcess | undefined;
  #dependency: Dependency | undefined;
  #factor = 1;
  #failing = 0;

  constructor(
    world: World,
    network: Network,
    incident: Incident,
    peer: Peer,
    tally: Tally,
    address: string,
  ) {
    this.address = address;
    this.#world = world;
    this.#network = network;
    this.#incident = incident;
    this.#peer = peer;
    this.#tally = tally;
    this.#random = world.newRandom();
  }

  start(): void {
    const { work } = this.#incident;
    const process = new LabProcess(this.#world, this.address);
    this.#process = process;
    if (work.kind !== "cpu") {
      const size = work.kind === "pool" ? work.size : Number.POSITIVE_INFINITY;
      this.#dependency = new Dependency(this.#world, size, work.ms);
      this.#dependency.factor = this.#factor;
    }
    const side = this.#peer.server(process, this.#incident.fixedLimit);
    new LabServer({
      network: this.#network,
      process,
      address: this.address,
      costs: side.costs,
      interceptors: side.interceptors,
      handler: (call) => this.#handle(call),
      onRequest: () => this.#tally.arrived(process.now()),
    });
  }

  kill(): void {
    this.#process?.kill();
  }

  block(ms: number): void {
    this.#process?.block(ms);
  }

  squeeze(cpuShare: number): void {
    if (this.#process !== undefined) this.#process.cpuShare = cpuShare;
  }

  slow(factor: number): void {
    this.#factor = factor;
    if (this.#dependency !== undefined) this.#dependency.factor = factor;
  }

  fail(share: number): void {
    this.#failing = share;
  }

  cut(): void {
    for (const connection of this.#network.connectionsTo(this.address)) connection.cut();
  }

  #handle(call: HandlerCall): void {
    const { work } = this.#incident;
    const { process } = call;
    const end = () => {
      if (this.#random() < this.#failing) call.fail(Status.UNAVAILABLE, "the dependency is down");
      else call.answer();
    };
    if (work.kind === "cpu") {
      process.spend(work.ms * this.#factor * (0.5 + this.#random()));
      end();
      return;
    }
    process.spend(computeMs);
    this.#dependency?.work(process, end);
  }
}
