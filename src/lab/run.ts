import { status as Status } from "@grpc/grpc-js";
import { LabClient } from "./client.js";
import { Dependency } from "./dependency.js";
import { computeMs, type Incident, type IncidentEvent } from "./incident.js";
import { Users } from "./load.js";
import { Network } from "./network.js";
import type { Peer } from "./peers/peer.js";
import { LabProcess } from "./process.js";
import { type HandlerCall, LabServer } from "./server.js";
import { subsetOf } from "./subset.js";
import { goodput, type PhaseReport, Tally } from "./tally.js";
import { type ServerReading, type Timeline, TimelineRecorder } from "./timeline.js";
import { World } from "./world.js";

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
  /** The run over its time, where that was asked for. */
  readonly timeline?: Timeline;
}

/** The phases in which the incident is felt: all, where nothing but calm is asked for. */
export function troubled({ phases }: IncidentReport): readonly PhaseReport[] {
  const later = phases.filter(({ name }) => name !== "before");
  return later.length === 0 ? phases : later;
}

/** After the load has ended, calls have so long to end. */
const restMs = 10_000;

export interface RunOptions {
  /** Whether the report has the run over its time. It changes nothing else. @defaultValue false */
  readonly timeline?: boolean;
}

/** Runs an incident. The same seed gives the same report. */
export async function runIncident(
  incident: Incident,
  peer: Peer,
  seed: number,
  options: RunOptions = {},
): Promise<IncidentReport> {
  const { servers = 1, clients = 2, subsetSize = servers, balancing = "round_robin" } = incident;
  const world = new World(seed);
  const network = new Network(world, incident.network);
  const endMs = incident.phases.reduce((sum, { ms }) => sum + ms, 0);
  const recorder = options.timeline === true ? new TimelineRecorder(endMs) : undefined;
  const tally = new Tally(incident.phases, recorder);
  const staged = Array.from(
    { length: servers },
    (_, index) => new StagedServer(world, network, incident, peer, tally, `server-${index}:443`),
  );
  for (const server of staged) {
    server.start();
    recorder?.readServer(() => server.read());
  }
  const addresses = staged.map(({ address }) => address);
  const phases = incident.phases.map(({ ms, load = 1 }) => ({ ms, load }));
  for (let index = 0; index < clients; index += 1) {
    const process = new LabProcess(world, `client-${index}`);
    const side = peer.client(process);
    const own = subsetOf(index, servers, subsetSize).map((server) => addresses[server] ?? "");
    const client = new LabClient({
      network,
      process,
      addresses: own,
      balancing,
      costs: side.costs,
      options: side.options ?? {},
      retryPolicy: side.retryPolicy,
    });
    if (side.breakers !== undefined) recorder?.readClient(side.breakers);
    const caller = side.around?.(client) ?? client;
    new Users(world, incident.load, clients, process, caller, tally, phases).start();
  }
  for (const event of incident.events ?? []) {
    const { server: index } = event;
    const one = index === undefined ? undefined : staged[index];
    if (index !== undefined && one === undefined)
      throw new RangeError(`there is no server ${index}`);
    for (const server of one === undefined ? staged : [one]) {
      world.at(event.atMs, () => server.happen(event));
    }
  }
  if (recorder !== undefined) takeReadings(world, recorder, 0, endMs);
  await world.run(endMs + restMs);
  const report = reportOf(incident, peer, seed, tally, world.pieces);
  return recorder === undefined ? report : { ...report, timeline: recorder.timeline() };
}

function takeReadings(world: World, recorder: TimelineRecorder, atMs: number, endMs: number): void {
  world.at(atMs, () => {
    recorder.takeReadings();
    const nextMs = atMs + recorder.everyMs;
    if (nextMs <= endMs) takeReadings(world, recorder, nextMs, endMs);
  });
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

/** A server of an incident: its processes, one after another, and what is behind them. */
class StagedServer {
  readonly address: string;
  readonly #world: World;
  readonly #network: Network;
  readonly #incident: Incident;
  readonly #peer: Peer;
  readonly #tally: Tally;
  readonly #random: () => number;
  #process: LabProcess | undefined;
  #server: LabServer | undefined;
  #reading: (() => ServerReading | undefined) | undefined;
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
    this.#reading = side.reading;
    this.#server = new LabServer({
      network: this.#network,
      process,
      address: this.address,
      costs: side.costs,
      interceptors: side.interceptors,
      handler: (call) => this.#handle(call),
      onRequest: () => this.#tally.arrived(process.now()),
    });
  }

  /** A server that is down has no calls. */
  read(): ServerReading {
    const alive = this.#process?.alive === true;
    if (!alive) return { running: 0, queued: 0, limit: undefined };
    return this.#reading?.() ?? { running: this.#server?.open ?? 0, queued: 0, limit: undefined };
  }

  happen(event: IncidentEvent): void {
    const process = this.#process;
    switch (event.event) {
      case "kill":
        process?.kill();
        return;
      case "start":
        this.start();
        return;
      case "cut":
        for (const connection of this.#network.connectionsTo(this.address)) connection.cut();
        return;
      case "block":
        process?.block(event.ms);
        return;
      case "squeeze":
        if (process !== undefined) process.cpuShare = event.cpuShare;
        return;
      case "slow":
        this.#factor = event.factor;
        if (this.#dependency !== undefined) this.#dependency.factor = event.factor;
        return;
      case "fail":
        this.#failing = event.share;
        return;
      default:
        event satisfies never;
    }
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
