import {
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
import type { Incident, IncidentEvent, IncidentPhase, Work } from "./incident.js";
import type { LoadOptions, ReloadOptions } from "./load.js";
import type { Peer } from "./peers/peer.js";
import { readPolicies } from "./policies.js";

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
    "load",
    "phases",
    "balancing",
    "latencyMs",
    "fixedLimit",
    "overload",
    "events",
    "policies",
  ]);
  const servers = wholeNumber(`${at}.servers`, given.servers ?? 1, 1, 10_000);
  const phases = readPhases(`${at}.phases`, given.phases);
  const endMs = phases.reduce((sum, { ms }) => sum + ms, 0);
  const { policies, subsetSize, balancing, latencyMs, fixedLimit, overload, events } = given;
  const own = given.name === undefined ? name : nameText(`${at}.name`, given.name);
  const incident: Incident = {
    name: own,
    what: textIn(`${at}.what`, given.what),
    wanted: textIn(`${at}.wanted`, given.wanted),
    servers,
    clients: wholeNumber(`${at}.clients`, given.clients ?? 2, 1, 100_000),
    ...(subsetSize === undefined
      ? {}
      : { subsetSize: wholeNumber(`${at}.subsetSize`, subsetSize, 1, servers) }),
    work: readWork(`${at}.work`, given.work),
    load: readLoad(`${at}.load`, given.load),
    phases,
    balancing: oneOf(`${at}.balancing`, balancing ?? "round_robin", ["pick_first", "round_robin"]),
    network: { latencyMs: durationMs(`${at}.latencyMs`, latencyMs ?? 0.25) },
    fixedLimit:
      fixedLimit === undefined
        ? Number.POSITIVE_INFINITY
        : wholeNumber(`${at}.fixedLimit`, fixedLimit, 1),
    overload: yesOrNo(`${at}.overload`, overload),
    events: list(`${at}.events`, events ?? []).map(([path, event]) =>
      readEvent(path, event, servers, endMs),
    ),
  };
  return {
    incident,
    policies:
      policies === undefined ? undefined : readPolicies(`${at}.policies`, policies, "policies"),
  };
}

function readWork(at: string, value: unknown): Work {
  const kind = oneOf(`${at}.kind`, propertyOf(at, value, "kind"), ["cpu", "pool", "wait"]);
  const given = fields(at, value, kind === "pool" ? ["kind", "ms", "size"] : ["kind", "ms"]);
  const ms = finiteNumber(`${at}.ms`, given.ms, 0.001, 600_000);
  if (kind !== "pool") return { kind, ms };
  return { kind, ms, size: wholeNumber(`${at}.size`, given.size, 1, 1_000_000) };
}

function readLoad(at: string, value: unknown): LoadOptions {
  const given = fields(at, value, ["perSecond", "deadlineMs", "methods", "priorities", "reload"]);
  const { methods, priorities: shares, reload } = given;
  return {
    perSecond: finiteNumber(`${at}.perSecond`, given.perSecond, 0.001, 1_000_000),
    deadlineMs: durationMs(`${at}.deadlineMs`, given.deadlineMs, 1),
    ...(methods === undefined ? {} : { methods: readMethods(`${at}.methods`, methods) }),
    ...(shares === undefined ? {} : { priorities: readShares(`${at}.priorities`, shares) }),
    ...(reload === undefined ? {} : { reload: readReload(`${at}.reload`, reload) }),
  };
}

function readMethods(at: string, value: unknown): readonly string[] {
  const methods = list(at, value).map(([path, name]) => {
    const method = methodOrService(path, nameText(path, name));
    if (!method.includes("/")) throw new InvalidOptionError(path, "named pkg.Service/Method", name);
    return method;
  });
  if (methods.length === 0) throw new InvalidOptionError(at, "an array of at least one", value);
  return methods;
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
    return { name, ms, load: finiteNumber(`${path}.load`, given.load ?? 1, 0.001, 1_000) };
  });
  if (phases.length === 0) throw new InvalidOptionError(at, "an array of at least one", value);
  if (sumMs > longestMs) {
    throw new InvalidOptionError(at, `at most ${longestMs} ms (an hour) together`, sumMs);
  }
  return phases;
}

/** The events, and what each of them says besides its time and its server. */
const events = {
  kill: [],
  start: [],
  cut: [],
  block: ["ms"],
  squeeze: ["cpuShare"],
  slow: ["factor"],
  fail: ["share"],
} as const satisfies Record<IncidentEvent["event"], readonly string[]>;

const eventNames = Object.keys(events) as (keyof typeof events)[];

function readEvent(at: string, value: unknown, servers: number, endMs: number): IncidentEvent {
  const event = oneOf(`${at}.event`, propertyOf(at, value, "event"), eventNames);
  const given = fields(at, value, ["atMs", "event", "server", ...events[event]]);
  const { server } = given;
  const where = {
    atMs: finiteNumber(`${at}.atMs`, given.atMs, 0, endMs),
    ...(server === undefined
      ? {}
      : { server: wholeNumber(`${at}.server`, server, 0, servers - 1) }),
  };
  switch (event) {
    case "block":
      return { ...where, event, ms: durationMs(`${at}.ms`, given.ms) };
    case "squeeze":
      return { ...where, event, cpuShare: ratio(`${at}.cpuShare`, given.cpuShare) };
    case "slow":
      return { ...where, event, factor: finiteNumber(`${at}.factor`, given.factor, 0.001, 1e6) };
    case "fail":
      return { ...where, event, share: finiteNumber(`${at}.share`, given.share, 0, 1) };
    default:
      return { ...where, event };
  }
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
