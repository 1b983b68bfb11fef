import {
  byMethodOrService,
  durationMs,
  finiteNumber,
  InvalidOptionError,
  isRecord,
  methodOrService,
  nameText,
  oneOf,
  ratio,
  readOptions,
  wholeNumber,
} from "../core/options.js";
import { type Priority, priorities } from "../core/priority.js";
import type {
  ClientEvent,
  Incident,
  IncidentEvent,
  IncidentPhase,
  ServerEvent,
  Tier,
  Work,
} from "./incident.js";
import type { LoadOptions, ReloadOptions } from "./load.js";
import type { Peer } from "./peers/peer.js";
import { readPolicies } from "./policies.js";
import type { CpuQuota } from "./process.js";

/** A scenario that was read: what happens, and the policies in it. */
export interface Scenario {
  readonly incident: Incident;
  /** `undefined` where it has none. */
  readonly policies: Peer | undefined;
}

/** The longest run, in milliseconds of virtual time: an hour. */
const longestMs = 3_600_000;

/**
 * Reads a scenario, which may come from JSON.
 *
 * @param name What it is called where it has no name.
 * @throws InvalidOptionError naming the field, its rule and what was given.
 */
export function readScenario(value: unknown, name: string): Scenario {
  const at = "scenario";
  const given = fields(at, value, [
    "name",
    "what",
    "wanted",
    "servers",
    "clients",
    "subsetSize",
    "work",
    "works",
    "behind",
    "load",
    "others",
    "phases",
    "balancing",
    "latencyMs",
    "lossShare",
    "resolveMs",
    "maxConnectionAgeMs",
    "coldStart",
    "bareServers",
    "fixedLimit",
    "overload",
    "events",
    "policies",
  ]);
  const servers = wholeNumber(`${at}.servers`, given.servers ?? 1, 1, 10_000);
  const phases = readPhases(`${at}.phases`, given.phases);
  const endMs = phases.reduce((sum, { ms }) => sum + ms, 0);
  const { policies, balancing, latencyMs, lossShare, fixedLimit, overload, events } = given;
  const behind = list(`${at}.behind`, given.behind ?? []).map(readTier);
  const tiers = [servers, ...behind.map((tier) => tier.servers)];
  const clients = wholeNumber(`${at}.clients`, given.clients ?? 2, 1, 100_000);
  const loadOf = (path: string, load: unknown) => readLoad(path, load, phases.length);
  const own = given.name === undefined ? name : nameText(`${at}.name`, given.name);
  const incident: Incident = {
    name: own,
    what: textIn(`${at}.what`, given.what),
    wanted: textIn(`${at}.wanted`, given.wanted),
    servers,
    clients,
    work: readWork(`${at}.work`, given.work, ["cpu", "pool", "wait"]),
    behind,
    load: loadOf(`${at}.load`, given.load),
    others: list(`${at}.others`, given.others ?? []).map(([path, load]) => loadOf(path, load)),
    phases,
    bareServers: wholeNumber(`${at}.bareServers`, given.bareServers ?? 0, 0, servers),
    ...optional(at, given, "subsetSize", (path, size) => wholeNumber(path, size, 1, servers)),
    ...optional(at, given, "works", readWorks),
    ...optional(at, given, "resolveMs", durationMs),
    ...optional(at, given, "maxConnectionAgeMs", (path, ms) => durationMs(path, ms, 1)),
    ...optional(at, given, "coldStart", readColdStart),
    balancing: oneOf(`${at}.balancing`, balancing ?? "round_robin", ["pick_first", "round_robin"]),
    network: {
      latencyMs: durationMs(`${at}.latencyMs`, latencyMs ?? 0.25),
      lossShare: finiteNumber(`${at}.lossShare`, lossShare ?? 0, 0, 1),
    },
    fixedLimit: readFixedLimit(`${at}.fixedLimit`, fixedLimit),
    overload: yesOrNo(`${at}.overload`, overload),
    events: list(`${at}.events`, events ?? []).map(([path, event]) =>
      readEvent(path, event, { tiers, clients, endMs }),
    ),
  };
  return {
    incident,
    policies:
      policies === undefined ? undefined : readPolicies(`${at}.policies`, policies, "policies"),
  };
}

function readWork<const K extends Work["kind"]>(
  at: string,
  value: unknown,
  kinds: readonly K[],
): Work {
  const kind: Work["kind"] = oneOf(`${at}.kind`, propertyOf(at, value, "kind"), kinds);
  if (kind === "stream") {
    const given = fields(at, value, ["kind", "messages", "everyMs"]);
    return {
      kind,
      messages: wholeNumber(`${at}.messages`, given.messages, 1, 1_000_000),
      everyMs: durationMs(`${at}.everyMs`, given.everyMs),
    };
  }
  if (kind === "pool") {
    const given = fields(at, value, ["kind", "ms", "size", "stopsWhenCancelled"]);
    const size = wholeNumber(`${at}.size`, given.size, 1, 1_000_000);
    const ms = workMs(at, given.ms);
    return { kind, ms, size, ...optional(at, given, "stopsWhenCancelled", yesOrNo) };
  }
  return { kind, ms: workMs(at, fields(at, value, ["kind", "ms"]).ms) };
}

function workMs(at: string, value: unknown): number {
  return finiteNumber(`${at}.ms`, value, 0.001, 600_000);
}

function readWorks(at: string, value: unknown): Readonly<Record<string, Work>> {
  if (!isRecord(value)) throw new InvalidOptionError(at, "an object", value);
  return Object.fromEntries(
    byMethodOrService(at, value).map(({ at: path, name, value: work }) => [
      methodName(path, name),
      readWork(path, work, ["cpu", "pool", "wait", "stream"]),
    ]),
  );
}

/** A tier whose number of servers is known. */
type ReadTier = Tier & { readonly servers: number };

function readTier([at, value]: readonly [at: string, tier: unknown]): ReadTier {
  const given = fields(at, value, ["servers", "work", "fixedLimit"]);
  return {
    servers: wholeNumber(`${at}.servers`, given.servers ?? 1, 1, 10_000),
    work: readWork(`${at}.work`, given.work, ["cpu", "pool", "wait"]),
    fixedLimit: readFixedLimit(`${at}.fixedLimit`, given.fixedLimit),
  };
}

/** Only a peer that is told it needs it. */
function readFixedLimit(at: string, value: unknown): number {
  return value === undefined ? Number.POSITIVE_INFINITY : wholeNumber(at, value, 1);
}

function readColdStart(at: string, value: unknown): Required<Incident>["coldStart"] {
  const given = fields(at, value, ["ms", "factor", "calls", "extraMs"]);
  if (given.calls !== undefined || given.extraMs !== undefined) {
    fields(at, value, ["calls", "extraMs"]);
    return {
      calls: wholeNumber(`${at}.calls`, given.calls, 1, 1_000_000),
      extraMs: durationMs(`${at}.extraMs`, given.extraMs),
    };
  }
  return {
    ms: durationMs(`${at}.ms`, given.ms),
    factor: finiteNumber(`${at}.factor`, given.factor, 1, 1_000),
  };
}

function readLoad(at: string, value: unknown, phases: number): LoadOptions {
  const given = fields(at, value, [
    "perSecond",
    "deadlineMs",
    "methods",
    "priorities",
    "reload",
    "tenant",
    "loads",
    "bareClients",
  ]);
  return {
    perSecond: finiteNumber(`${at}.perSecond`, given.perSecond, 0.001, 1_000_000),
    deadlineMs: durationMs(`${at}.deadlineMs`, given.deadlineMs, 1),
    ...optional(at, given, "methods", readMethods),
    ...optional(at, given, "priorities", readShares),
    ...optional(at, given, "reload", readReload),
    ...optional(at, given, "tenant", nameText),
    ...optional(at, given, "loads", (path, loads) => readLoads(path, loads, phases)),
    ...optional(at, given, "bareClients", (path, count) => wholeNumber(path, count, 1, 100_000)),
  };
}

function readLoads(at: string, value: unknown, phases: number): readonly number[] {
  const loads = list(at, value).map(([path, load]) => loadFactor(path, load));
  if (loads.length === phases) return loads;
  throw new InvalidOptionError(
    at,
    `an array with a number for each of the ${phases} phases`,
    value,
  );
}

function loadFactor(at: string, value: unknown): number {
  return finiteNumber(at, value, 0.001, 1_000);
}

function readMethods(at: string, value: unknown): readonly string[] {
  const methods = list(at, value).map(([path, name]) => methodName(path, name));
  if (methods.length === 0) throw new InvalidOptionError(at, "an array of at least one", value);
  return methods;
}

function methodName(at: string, value: unknown): string {
  const method = methodOrService(at, nameText(at, value));
  if (method.includes("/")) return method;
  throw new InvalidOptionError(at, "named pkg.Service/Method", value);
}

function readShares(at: string, value: unknown): Readonly<Record<Priority, number>> {
  const given = fields(at, value, priorities);
  const share = (priority: Priority) =>
    finiteNumber(`${at}.${priority}`, given[priority] ?? 0, 0, 1);
  const shares = {
    critical: share("critical"),
    high: share("high"),
    normal: share("normal"),
    low: share("low"),
  };
  const sum = priorities.reduce((all, priority) => all + shares[priority], 0);
  if (Math.abs(sum - 1) <= 0.001) return shares;
  throw new InvalidOptionError(at, "shares that are 1 together", Number(sum.toFixed(3)));
}

function readReload(at: string, value: unknown): ReloadOptions {
  const given = fields(at, value, ["share", "afterMs", "times"]);
  return {
    share: ratio(`${at}.share`, given.share),
    afterMs: durationMs(`${at}.afterMs`, given.afterMs),
    times: wholeNumber(`${at}.times`, given.times, 1, 100),
  };
}

const phaseNames = ["before", "during", "after"] as const;

function readPhases(at: string, value: unknown): readonly IncidentPhase[] {
  let sumMs = 0;
  let latest = 0;
  const phases = list(at, value).map(([path, phase]): IncidentPhase => {
    const given = fields(path, phase, ["name", "ms", "load"]);
    const name = oneOf(`${path}.name`, given.name, phaseNames);
    if (phaseNames.indexOf(name) < latest) {
      const rule = `${phaseNames[latest]} or later: phases stand in the order ${phaseNames.join(", ")}`;
      throw new InvalidOptionError(`${path}.name`, rule, name);
    }
    latest = phaseNames.indexOf(name);
    const ms = durationMs(`${path}.ms`, given.ms, 1);
    sumMs += ms;
    return { name, ms, load: loadFactor(`${path}.load`, given.load ?? 1) };
  });
  if (phases.length === 0) throw new InvalidOptionError(at, "an array of at least one", value);
  if (sumMs > longestMs) {
    throw new InvalidOptionError(at, `at most ${longestMs} ms (an hour) together`, sumMs);
  }
  return phases;
}

/** The events of servers and of clients, and what each of them says besides its time and its place. */
const serverEvents = {
  kill: [],
  start: [],
  drain: [],
  cut: [],
  vanish: [],
  appear: [],
  hang: [],
  resume: [],
  block: ["ms"],
  squeeze: ["cpuShare"],
  quota: ["quota"],
  slow: ["factor", "method"],
  fail: ["share", "method"],
  "step-server-clock": ["ms"],
  delay: ["ms"],
} as const satisfies Record<ServerEvent["event"], readonly string[]>;
const clientEvents = {
  "tokens-fail": [],
  "tokens-work": [],
  "step-clock": ["ms"],
} as const satisfies Record<ClientEvent["event"], readonly string[]>;

const serverEventNames = Object.keys(serverEvents) as ServerEvent["event"][];
const clientEventNames = Object.keys(clientEvents) as ClientEvent["event"][];

/** What events can be about. */
interface EventScope {
  /** How many servers each tier has. */
  readonly tiers: readonly number[];
  readonly clients: number;
  readonly endMs: number;
}

function readEvent(at: string, value: unknown, scope: EventScope): IncidentEvent {
  const given = propertyOf(at, value, "event");
  const event = oneOf(`${at}.event`, given, [...serverEventNames, ...clientEventNames]);
  const atMs = finiteNumber(`${at}.atMs`, propertyOf(at, value, "atMs"), 0, scope.endMs);
  const ofClients = clientEventNames.find((name) => name === event);
  const ofServers = serverEventNames.find((name) => name === event);
  if (ofClients !== undefined) return { atMs, ...readClientEvent(at, value, ofClients, scope) };
  if (ofServers !== undefined) return { atMs, ...readServerEvent(at, value, ofServers, scope) };
  throw new Error("every event is one of servers or one of clients");
}

function readServerEvent(
  at: string,
  value: unknown,
  event: ServerEvent["event"],
  { tiers }: EventScope,
): ServerEvent {
  const known = ["atMs", "event", "server", "tier", ...serverEvents[event]] as const;
  const given = fields(at, value, known);
  const tier = wholeNumber(`${at}.tier`, given.tier ?? 0, 0, tiers.length - 1);
  const last = (tiers[tier] ?? 1) - 1;
  const where = {
    ...optional(at, given, "server", (path, server) => wholeNumber(path, server, 0, last)),
    ...(given.tier === undefined ? {} : { tier }),
  };
  const method = optional(at, given, "method", methodName);
  switch (event) {
    case "block":
    case "delay":
      return { ...where, event, ms: durationMs(`${at}.ms`, given.ms) };
    case "step-server-clock":
      return { ...where, event, ms: clockStep(`${at}.ms`, given.ms) };
    case "squeeze":
      return { ...where, event, cpuShare: ratio(`${at}.cpuShare`, given.cpuShare) };
    case "quota":
      return { ...where, event, quota: readQuota(`${at}.quota`, given.quota) };
    case "slow": {
      const factor = finiteNumber(`${at}.factor`, given.factor, 0.001, 1e6);
      return { ...where, event, factor, ...method };
    }
    case "fail": {
      const share = finiteNumber(`${at}.share`, given.share, 0, 1);
      return { ...where, event, share, ...method };
    }
    case "kill":
    case "start":
    case "drain":
    case "cut":
    case "vanish":
    case "appear":
    case "hang":
    case "resume":
      return { ...where, event };
    default:
      return event satisfies never;
  }
}

function readQuota(at: string, value: unknown): CpuQuota | null {
  if (value === null) return null;
  const given = fields(at, value, ["periodMs", "cpuMs"]);
  return {
    periodMs: durationMs(`${at}.periodMs`, given.periodMs, 1),
    cpuMs: durationMs(`${at}.cpuMs`, given.cpuMs, 0.1),
  };
}

function readClientEvent(
  at: string,
  value: unknown,
  event: ClientEvent["event"],
  { clients }: EventScope,
): ClientEvent {
  const given = fields(at, value, ["atMs", "event", "client", ...clientEvents[event]] as const);
  const where = optional(at, given, "client", (path, client) =>
    wholeNumber(path, client, 0, clients - 1),
  );
  if (event !== "step-clock") return { ...where, event };
  return { ...where, event, ms: clockStep(`${at}.ms`, given.ms) };
}

/** How far a wall clock is set, in milliseconds: at most a day ahead or back. */
function clockStep(at: string, value: unknown): number {
  const dayMs = 86_400_000;
  return finiteNumber(at, value, -dayMs, dayMs);
}

/** A field of an object that is left out where it was not given. */
function optional<const K extends string, V>(
  at: string,
  given: Readonly<Partial<Record<K, unknown>>>,
  name: K,
  read: (at: string, value: unknown) => V,
): { readonly [N in K]?: V } {
  const value = given[name];
  if (value === undefined) return {};
  return { [name]: read(`${at}.${name}`, value) } as { readonly [N in K]?: V };
}

/** The fields of an object, and no others. */
function fields<const K extends string>(
  at: string,
  value: unknown,
  known: readonly K[],
): Readonly<Partial<Record<K, unknown>>> {
  if (!isRecord(value)) throw new InvalidOptionError(at, "an object", value);
  const found: Readonly<Record<string, unknown>> = readOptions(at, value, known);
  return found as Readonly<Partial<Record<K, unknown>>>;
}

/** The field that says which others there are. */
function propertyOf(at: string, value: unknown, name: string): unknown {
  if (!isRecord(value)) throw new InvalidOptionError(at, "an object", value);
  return value[name];
}

function list(at: string, value: unknown): readonly (readonly [at: string, each: unknown])[] {
  if (!Array.isArray(value)) throw new InvalidOptionError(at, "an array", value);
  return value.map((each: unknown, index) => [`${at}[${index}]`, each] as const);
}

function textIn(at: string, value: unknown): string {
  if (value === undefined) return "";
  if (typeof value === "string") return value;
  throw new InvalidOptionError(at, "a text", value);
}

function yesOrNo(at: string, value: unknown): boolean {
  if (value === undefined || typeof value === "boolean") return value === true;
  throw new InvalidOptionError(at, "true or false", value);
}
