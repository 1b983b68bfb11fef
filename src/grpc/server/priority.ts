import type { Metadata } from "@grpc/grpc-js";
import type { Random } from "../../core/clock.js";
import {
  InvalidOptionError,
  isRecord,
  methodOrService,
  oneOf,
  optionalFunction,
  readOptions,
} from "../../core/options.js";
import { cohortOf, cohorts, isPriority, type Priority, priorities } from "../../core/priority.js";
import { ask, keyText, type ReadAnswer, type ReportError, yesOrNo } from "../../core/user-code.js";
import type { InboundCall } from "../context/inbound-call.js";
import type { Environment } from "../environment.js";
import { priorityKey, readCohort } from "../metadata.js";
import { type AuthContext, type ServerCall, serviceOf } from "../types.js";

/** What is known of a call when its priority is read. The metadata is the call's own: read it only. */
export interface PrioritizedCall {
  /** `/pkg.Service/Method`. */
  readonly method: string;
  readonly peer: string;
  readonly metadata: Pick<Metadata, "get" | "getMap">;
  /** What the transport knows of the caller, such as its certificate; `null` without any. */
  readonly authContext: AuthContext | null;
}

/** How priorities and cohorts are read from the metadata of a request. */
export interface PriorityOptions {
  /** Priority of calls that name none, or something that is none. @defaultValue `normal` */
  readonly default?: Priority;
  /** Metadata key that names the priority. @defaultValue `x-request-priority` */
  readonly key?: string;
  /**
   * What the values of the key mean, for keys that speak another language; such as `googleCriticality`. A value that
   * it does not know is none. @defaultValue the four priorities by their names
   */
  readonly map?: Readonly<Record<string, Priority>> | ((value: string) => Priority | undefined);
  /** Priorities of single methods (`pkg.Service/Method`) or services (`pkg.Service`), whatever callers say. */
  readonly methods?: Readonly<Record<string, Priority>>;
  /**
   * Whether this caller may say how much its calls matter. What others say counts as `normal` at most, and their
   * cohorts not at all. If it throws, the caller is not trusted. @defaultValue everybody may
   */
  readonly trust?: (call: PrioritizedCall) => boolean;
  /**
   * Whose call it is, for the cohort: a metadata key that names the user or tenant, or a function. A cohort that a
   * trusted caller sends goes before it. @defaultValue a cohort by chance for each call
   */
  readonly cohort?: string | ((call: PrioritizedCall) => string | undefined);
}

/**
 * Google's criticality, for `priority.map`. Their CRITICAL is the ordinary class of interactive calls, one below
 * CRITICAL_PLUS (Site Reliability Engineering, "Handling Overload").
 */
export const googleCriticality = Object.freeze({
  CRITICAL_PLUS: "critical",
  CRITICAL: "high",
  SHEDDABLE_PLUS: "normal",
  SHEDDABLE: "low",
} as const satisfies Record<string, Priority>);

/** Checked, complete and frozen. */
interface ResolvedPriorityOptions {
  readonly default: Priority;
  readonly key: string;
  readonly map: ((value: string) => Priority | undefined) | undefined;
  readonly methods: ReadonlyMap<string, Priority>;
  readonly trust: ((call: PrioritizedCall) => boolean) | undefined;
  readonly cohort: ((call: PrioritizedCall) => string | undefined) | undefined;
}

const metadataKey = /^[0-9a-z_.-]+$/;
const optionNames = ["default", "key", "map", "methods", "trust", "cohort"];

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolvePriorityOptions(
  given: PriorityOptions = {},
  prefix = "priority",
): ResolvedPriorityOptions {
  const options = readOptions(prefix, given, optionNames);
  const { default: usual = "normal", key = priorityKey, trust, cohort } = options;
  const { methods: named = {} } = options;
  const methods = readOptions(`${prefix}.methods`, named);
  const byMethod = Object.entries(methods).map(([name, priority]): [string, Priority] => [
    methodOrService(`${prefix}.methods["${name}"]`, name),
    oneOf(`${prefix}.methods["${name}"]`, priority, priorities),
  ]);
  return Object.freeze({
    default: oneOf(`${prefix}.default`, usual, priorities),
    key: keyName(`${prefix}.key`, key),
    map: resolveMap(options.map, `${prefix}.map`),
    methods: new Map(byMethod),
    trust: optionalFunction(`${prefix}.trust`, trust),
    cohort: resolveCohort(cohort, `${prefix}.cohort`),
  });
}

function resolveMap(map: PriorityOptions["map"], path: string): ResolvedPriorityOptions["map"] {
  if (map === undefined || typeof map === "function") return map;
  if (!isRecord(map)) {
    const rule = "a function, or an object of priorities by what the key says";
    throw new InvalidOptionError(path, rule, map);
  }
  const known = new Map(Object.entries(readOptions(path, map)));
  for (const [value, priority] of known) oneOf(`${path}.${value}`, priority, priorities);
  return (value) => known.get(value);
}

function resolveCohort(
  cohort: PriorityOptions["cohort"],
  path: string,
): ResolvedPriorityOptions["cohort"] {
  if (cohort === undefined || typeof cohort === "function") return cohort;
  if (typeof cohort !== "string") {
    throw new InvalidOptionError(path, "a metadata key or a function", cohort);
  }
  const key = keyName(path, cohort);
  return ({ metadata }) => {
    const [value] = metadata.get(key);
    return typeof value === "string" ? value : undefined;
  };
}

function keyName(path: string, key: unknown): string {
  if (typeof key !== "string" || !metadataKey.test(key) || key.endsWith("-bin")) {
    throw new InvalidOptionError(path, "a metadata key in lower case, and no -bin key", key);
  }
  return key;
}

/** How many calls said something else than a priority, or more than they may. They only grow. */
export interface PriorityCounts {
  readonly invalid: number;
  readonly clamped: number;
}

/** Reads how much calls matter, and whose they are. */
export class PriorityReader {
  readonly #options: ResolvedPriorityOptions;
  readonly #random: Random;
  readonly #report: ReportError;
  #invalid = 0;
  #clamped = 0;

  constructor(options: ResolvedPriorityOptions, random: Random, report: ReportError) {
    this.#options = options;
    this.#random = random;
    this.#report = report;
  }

  get counts(): PriorityCounts {
    return { invalid: this.#invalid, clamped: this.#clamped };
  }

  /** Notes what the caller says. Hostile values read as absent. */
  read(inbound: InboundCall, metadata: Metadata, below: ServerCall): void {
    const { trust, cohort, methods } = this.#options;
    const said = this.#said(metadata);
    const call =
      trust === undefined && cohort === undefined
        ? undefined
        : {
            method: inbound.method,
            peer: inbound.peer,
            metadata,
            // Asked for when it is looked at: grpc-js takes the certificate apart for it.
            get authContext() {
              return below.getAuthContext();
            },
          };
    const trusted =
      call === undefined ||
      trust === undefined ||
      this.#ask(() => trust(call), yesOrNo, "priority.trust") === true;
    const fixed =
      methods.size === 0
        ? undefined
        : (methods.get(inbound.method.slice(1)) ?? methods.get(serviceOf(inbound.method)));
    const allowed = said === undefined ? undefined : this.#allowed(said, trusted);
    inbound.priority = fixed ?? allowed ?? this.#options.default;
    inbound.priorityMarked = fixed !== undefined || allowed !== undefined;
    const sent = trusted ? readCohort(metadata) : undefined;
    const key = call === undefined || sent !== undefined ? undefined : this.#cohortKey(call);
    inbound.cohortMarked = sent !== undefined || key !== undefined;
    inbound.cohort =
      sent ??
      (key === undefined
        ? Math.floor(this.#random() * cohorts)
        : cohortOf(key, inbound.clock.wallNow()));
  }

  #said(metadata: Metadata): Priority | undefined {
    const { key, map } = this.#options;
    const values = metadata.get(key);
    if (values.length === 0) return undefined;
    const [value] = values;
    const said =
      values.length === 1 && typeof value === "string" ? this.#mapped(value, map) : undefined;
    if (said === undefined) this.#invalid += 1;
    return said;
  }

  #mapped(value: string, map: ResolvedPriorityOptions["map"]): Priority | undefined {
    const mapped = map === undefined ? value : this.#ask(() => map(value), keyText, "priority.map");
    return isPriority(mapped) ? mapped : undefined;
  }

  #allowed(said: Priority, trusted: boolean): Priority {
    if (trusted || said === "normal" || said === "low") return said;
    this.#clamped += 1;
    return "normal";
  }

  #cohortKey(call: PrioritizedCall): string | undefined {
    const { cohort } = this.#options;
    const key = cohort && this.#ask(() => cohort(call), keyText, "priority.cohort");
    return key === "" ? undefined : key;
  }

  /** What a function of the user's answers; nothing when it fails. */
  #ask<T>(question: () => unknown, read: ReadAnswer<T>, where: string): T | undefined {
    return ask(question, read, undefined, this.#report, where);
  }
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function priorityReader(
  options: PriorityOptions | undefined,
  { random, report }: Pick<Environment, "random" | "report">,
  prefix: string,
): PriorityReader {
  return new PriorityReader(resolvePriorityOptions(options, prefix), random, report);
}
