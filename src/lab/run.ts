import { AsyncResource } from "node:async_hooks";
import { status as Status } from "@grpc/grpc-js";
import { LabClient } from "./client.js";
import { Dependency } from "./dependency.js";
import {
  type ClientEvent,
  computeMs,
  type Incident,
  type IncidentEvent,
  type ServerEvent,
  type Tier,
  type Work,
} from "./incident.js";
import { type Caller, type LoadOptions, Users } from "./load.js";
import { Network } from "./network.js";
import { bare } from "./peers/bare.js";
import type { Peer, ServerSide } from "./peers/peer.js";
import { LabProcess } from "./process.js";
import { type HandlerCall, LabServer } from "./server.js";
import { subsetOf } from "./subset.js";
import { goodput, type PhaseReport, Tally } from "./tally.js";
import {
  type OutcomeKind,
  type ServerReading,
  type Timeline,
  TimelineRecorder,
} from "./timeline.js";
import { World } from "./world.js";

/** What became of an incident with one kind of policies. */
export interface IncidentReport {
  readonly incident: string;
  readonly peer: string;
  readonly seed: number;
  readonly phases: readonly PhaseReport[];
  /** How long after the incident all was back to normal, in milliseconds; `null` for not before the end. */
  readonly recoveryMs: number | null;
  /** What became of each call, of each process with users: those of `Users.outcomes`. */
  readonly outcomes: readonly (readonly (OutcomeKind | undefined)[])[];
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
  const { phases, load, others = [] } = incident;
  const endMs = phases.reduce((sum, { ms }) => sum + ms, 0);
  const recorder = options.timeline === true ? new TimelineRecorder(endMs) : undefined;
  const stage = new Stage(incident, peer, seed, recorder);
  const users = [load, ...others].flatMap((each) => stage.users(each));
  for (const each of users) each.start();
  for (const event of incident.events ?? []) stage.plan(event);
  if (recorder !== undefined) takeReadings(stage.world, recorder, 0, endMs);
  const deadlines = [load, ...others].map(({ deadlineMs }) => deadlineMs);
  await stage.world.run(endMs + Math.max(restMs, ...deadlines));
  const report = reportOf(incident, peer, seed, stage, users);
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
  { tally, world }: Stage,
  users: readonly Users[],
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
    outcomes: users.map(({ outcomes }) => outcomes),
    pieces: world.pieces,
  };
}

/** A client process of an incident. */
interface StagedClient {
  readonly process: LabProcess;
  readonly client: LabClient;
  readonly caller: Caller;
}

/** The world of an incident: its servers and clients, and what happens to them. */
class Stage {
  readonly world: World;
  readonly tally: Tally;
  readonly incident: Incident;
  readonly peer: Peer;
  readonly network: Network;
  readonly #tiers: readonly (readonly StagedServer[])[];
  readonly #clients: StagedClient[] = [];
  /** Those of `clients`, which share the load. */
  readonly #shared: readonly StagedClient[];

  readonly #recorder: TimelineRecorder | undefined;

  constructor(
    incident: Incident,
    peer: Peer,
    seed: number,
    recorder: TimelineRecorder | undefined,
  ) {
    this.#recorder = recorder;
    this.incident = incident;
    this.peer = peer;
    this.world = new World(seed);
    this.network = new Network(this.world, incident.network);
    this.tally = new Tally(incident.phases, recorder);
    const { servers = 1, work, fixedLimit, behind = [], clients = 2, bareServers = 0 } = incident;
    this.#tiers = [{ servers, work, fixedLimit }, ...behind].map((tier, depth) =>
      Array.from({ length: tier.servers ?? 1 }, (_, index) => {
        const own = depth === 0 && index < bareServers ? bare : peer;
        return new StagedServer(this, own, tier, depth, index);
      }),
    );
    for (const server of this.#tiers.flat()) {
      server.start();
      recorder?.readServer(() => server.read());
    }
    this.#shared = this.#newClients(clients, peer);
  }

  /** The users of a load, in the processes of clients. */
  users(options: LoadOptions): Users[] {
    const { bareClients } = options;
    const clients = bareClients === undefined ? this.#shared : this.#newClients(bareClients, bare);
    const phases = this.incident.phases.map(({ ms, load = 1 }) => ({ ms, load }));
    const { world, tally } = this;
    return clients.map(({ process, caller }) => {
      return new Users({ world, options, clients: clients.length, process, caller, tally, phases });
    });
  }

  /** A client in a process, of the servers of a tier. @param place The number of the client among those of the tier. */
  client(process: LabProcess, peer: Peer, tier: number, place: number): StagedClient {
    const side = peer.client(process);
    const { incident, network } = this;
    const all = this.addresses(tier);
    const { balancing = "round_robin", works = {}, resolveMs, subsetSize } = incident;
    const size = tier === 0 ? (subsetSize ?? all.length) : all.length;
    const streams = Object.keys(works).filter((method) => works[method]?.kind === "stream");
    const client = new LabClient({
      network,
      process,
      addresses: subsetOf(place, all.length, size).map((server) => all[server] ?? ""),
      balancing,
      costs: side.costs,
      options: side.options ?? {},
      retryPolicy: side.retryPolicy,
      resolveMs: tier === 0 ? resolveMs : undefined,
      streams: tier === 0 && streams.length > 0 ? new Set(streams) : undefined,
    });
    if (side.breakers !== undefined) this.#recorder?.readClient(side.breakers);
    return { process, client, caller: side.around?.(client) ?? client };
  }

  /** The addresses of a tier; none where there is no such tier. */
  addresses(tier: number): readonly string[] {
    const { servers = 1, behind = [] } = this.incident;
    const count =
      tier === 0 ? servers : tier > behind.length ? 0 : (behind[tier - 1]?.servers ?? 1);
    return Array.from({ length: count }, (_, index) => addressOf(tier, index));
  }

  plan({ atMs, ...event }: IncidentEvent): void {
    if (isOfClients(event)) {
      const { client } = event;
      const told = client === undefined ? this.#clients : [this.#at(this.#clients, client)];
      this.world.at(atMs, () => {
        for (const each of told) happenToClient(each, event);
      });
      return;
    }
    const tier = this.#at(this.#tiers, event.tier ?? 0);
    const told = event.server === undefined ? tier : [this.#at(tier, event.server)];
    this.world.at(atMs, () => {
      for (const server of told) server.happen(event);
    });
  }

  #at<T>(all: readonly T[], index: number): T {
    const one = all[index];
    if (one === undefined) {
      throw new RangeError(
        `${this.incident.name}: an event is for number ${index} of ${all.length}`,
      );
    }
    return one;
  }

  #newClients(count: number, peer: Peer): readonly StagedClient[] {
    const made = Array.from({ length: count }, () => {
      const place = this.#clients.length;
      const process = new LabProcess(this.world, `client-${place}`);
      const client = this.client(process, peer, 0, place);
      this.#clients.push(client);
      return client;
    });
    return made;
  }
}

function addressOf(tier: number, index: number): string {
  return tier === 0 ? `server-${index}:443` : `tier-${tier}-${index}:443`;
}

function isOfClients(event: ServerEvent | ClientEvent): event is ClientEvent {
  const { event: name } = event;
  return name === "tokens-fail" || name === "tokens-work" || name === "step-clock";
}

function happenToClient({ process, client }: StagedClient, event: ClientEvent): void {
  if (event.event === "step-clock") process.stepClock(event.ms);
  else {
    client.channel.tokenFailure =
      event.event === "tokens-fail" ? "connect ECONNREFUSED 10.0.0.1:443" : undefined;
  }
}

/** The work of one kind of handlers of a server, and how it is with it. */
interface Line {
  readonly work: Work;
  readonly dependency: Dependency | undefined;
}

/** A server of an incident: its processes, one after another, and what is behind them. */
class StagedServer {
  readonly #address: string;
  readonly #stage: Stage;
  readonly #peer: Peer;
  readonly #tier: Tier;
  readonly #depth: number;
  readonly #index: number;
  readonly #random: () => number;
  #process: LabProcess | undefined;
  #server: LabServer | undefined;
  #side: ServerSide | undefined;
  #next: Caller | undefined;
  /** By method; those of methods without a work of their own under "". */
  #lines = new Map<string, Line>();
  readonly #factors = new Map<string, number>();
  readonly #failing = new Map<string, number>();

  constructor(stage: Stage, peer: Peer, tier: Tier, depth: number, index: number) {
    this.#address = addressOf(depth, index);
    this.#stage = stage;
    this.#peer = peer;
    this.#tier = tier;
    this.#depth = depth;
    this.#index = index;
    this.#random = stage.world.newRandom();
  }

  start(): void {
    const { world, network, incident, tally } = this.#stage;
    const { coldStart, maxConnectionAgeMs } = incident;
    const coldCalls = coldStart !== undefined && "calls" in coldStart ? coldStart : undefined;
    const process = new LabProcess(world, this.#address, { coldCalls });
    this.#process = process;
    if (coldStart !== undefined && "factor" in coldStart) {
      process.costFactor = coldStart.factor;
      world.at(world.nowMs + coldStart.ms, () => {
        process.costFactor = 1;
      });
    }
    const works = Object.entries(this.#depth === 0 ? (incident.works ?? {}) : {});
    this.#lines = new Map(
      [["", this.#tier.work] as const, ...works].map(([method, work]) => [
        method,
        { work, dependency: this.#dependencyOf(method, work) },
      ]),
    );
    const side = this.#peer.server(process, this.#tier.fixedLimit);
    this.#side = side;
    this.#server = new LabServer({
      network,
      process,
      address: this.#address,
      costs: side.costs,
      interceptors: side.interceptors,
      handler: (call) => this.#handle(call),
      onRequest: ({ sentMs }) => tally.arrived(sentMs, this.#depth),
      maxConnectionAgeMs,
    });
    if (this.#stage.addresses(this.#depth + 1).length === 0) return;
    this.#next = this.#stage.client(process, this.#peer, this.#depth + 1, this.#index).caller;
  }

  /** A server that is down has no calls. */
  read(): ServerReading {
    const alive = this.#process?.alive === true;
    if (!alive) return { running: 0, queued: 0, limit: undefined };
    return (
      this.#side?.reading?.() ?? { running: this.#server?.open ?? 0, queued: 0, limit: undefined }
    );
  }

  happen(event: ServerEvent): void {
    const { network } = this.#stage;
    const process = this.#process;
    switch (event.event) {
      case "kill":
        process?.kill();
        return;
      case "start":
        this.start();
        return;
      case "drain":
        this.#drain();
        return;
      case "cut":
        for (const connection of network.connectionsTo(this.#address)) connection.cut();
        return;
      case "vanish":
        network.interrupt(this.#address);
        return;
      case "appear":
        network.resume(this.#address);
        return;
      case "hang":
        for (const { dependency } of this.#lines.values()) dependency?.hang();
        return;
      case "resume":
        for (const { dependency } of this.#lines.values()) dependency?.resume();
        return;
      case "block":
        process?.block(event.ms);
        return;
      case "squeeze":
        if (process !== undefined) process.cpuShare = event.cpuShare;
        return;
      case "quota":
        if (process !== undefined) process.quota = event.quota ?? undefined;
        return;
      case "slow":
        this.#slow(event.method ?? "", event.factor);
        return;
      case "fail":
        this.#failing.set(event.method ?? "", event.share);
        return;
      case "step-server-clock":
        process?.stepClock(event.ms);
        return;
      case "delay":
        network.delay(this.#address, event.ms);
        return;
      default:
        event satisfies never;
    }
  }

  #drain(): void {
    const process = this.#process;
    const server = this.#server;
    if (process === undefined || server === undefined) return;
    // What has been answered is on its way when the process exits.
    const exit = () => void process.schedule(exitMs, () => process.kill());
    process.deliver(this.#stage.world.nowMs, () => {
      if (this.#side?.drain === undefined) server.tryShutdown(exit);
      else this.#side.drain(server, exit);
    });
  }

  #slow(method: string, factor: number): void {
    this.#factors.set(method, factor);
    const dependency = this.#lines.get(method)?.dependency;
    if (dependency !== undefined) dependency.factor = factor;
  }

  #dependencyOf(method: string, work: Work): Dependency | undefined {
    if (work.kind !== "pool" && work.kind !== "wait") return undefined;
    const size = work.kind === "pool" ? work.size : Number.POSITIVE_INFINITY;
    const dependency = new Dependency(this.#stage.world, size, work.ms);
    dependency.factor = this.#factors.get(method) ?? 1;
    return dependency;
  }

  #handle(call: HandlerCall): void {
    const { process, method } = call;
    const own = this.#lines.has(method) ? method : "";
    const line = this.#lines.get(own);
    if (line === undefined) return;
    const { work, dependency } = line;
    const end = () => {
      const failing = Math.max(this.#failing.get("") ?? 0, this.#failing.get(method) ?? 0);
      if (this.#random() < failing) call.fail(Status.UNAVAILABLE, "the dependency is down");
      else if (this.#next === undefined) call.answer();
      else this.#relay(this.#next, call);
    };
    if (work.kind === "cpu") {
      process.spend(work.ms * (this.#factors.get(own) ?? 1) * (0.5 + this.#random()));
      end();
      return;
    }
    process.spend(computeMs);
    if (work.kind === "stream") stream(call, work.messages, work.everyMs, end);
    // What a handler does later runs in its async context, where policies find the call that it serves.
    else {
      const takeBack = dependency?.work(
        process,
        this.#next === undefined ? end : AsyncResource.bind(end),
      );
      if (work.kind !== "pool" || work.stopsWhenCancelled !== true) return;
      call.whenCancelled(() => {
        if (takeBack?.() === true) call.fail(Status.CANCELLED, "the caller has left");
      });
    }
  }

  /** Calls the next tier, and ends as that call ends. */
  #relay(next: Caller, call: HandlerCall): void {
    const { process, method } = call;
    const deadline = process.wallNow() + this.#stage.incident.load.deadlineMs;
    next.request({ method, deadline }, ({ code, details, metadata }) => {
      if (code === Status.OK) call.answer();
      else call.fail(code, details, metadata);
    });
  }
}

/** A process that exits takes so long, in milliseconds. */
const exitMs = 10;

/** Sends messages, one after another, as long as somebody listens. */
function stream(call: HandlerCall, messages: number, everyMs: number, end: () => void): void {
  if (call.cancelled) return;
  if (messages === 0) {
    end();
    return;
  }
  call.send();
  call.process.schedule(everyMs, () => stream(call, messages - 1, everyMs, end));
}
