import type { Metadata } from "@grpc/grpc-js";
import type { Random } from "../../core/clock.js";
import type { ByMethod } from "../../core/method-names.js";
import {
  byMethodOrService,
  InvalidOptionError,
  isRecord,
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

/**
 * What the functions of `PriorityOptions` see of a call. The metadata is that of the call itself: read it only.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/priorities.md
 */
export interface PrioritizedCall {
  /** `/pkg.Service/Method`. */
  readonly method: string;
  readonly peer: string;
  readonly metadata: Pick<Metadata, "get" | "getMap">;
  /** What the transport knows of the caller, such as its certificate; `null` for nothing. */
  readonly authContext: AuthContext | null;
}

/**
 * How priorities and cohorts are read from the metadata of a request.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/priorities.md
 */
export interface PriorityOptions<Service = unknown> {
  /** The priority of calls that name none, or an unknown one. @defaultValue `normal` */
  readonly default?: Priority;
  /** The same for calls of single methods (`pkg.Service/Method`) or services (`pkg.Service`). @defaultValue `default` */
  readonly methodDefaults?: ByMethod<Priority, Service>;
  /** Metadata key that names the priority. @defaultValue `x-request-priority` */
  readonly key?: string;
  /**
   * What the values of the key mean, for keys with other values, such as `googleCriticality`. A value that it does not have
   * counts as unknown. @defaultValue the names of the four priorities
   */
  readonly map?: Readonly<Record<string, Priority>> | ((value: string) => Priority | undefined);
  /** Fixed priorities of methods (`pkg.Service/Method`) or services (`pkg.Service`). Callers cannot change them. */
  readonly methods?: ByMethod<Priority, Service>;
  /**
   * Whether a caller is trusted. The priority of others counts as `normal` at most, and their cohort is ignored. When the
   * function throws, the caller is not trusted. @defaultValue all callers are trusted
   */
  readonly trust?: (call: PrioritizedCall) => boolean;
  /**
   * The user or tenant of a call, from which its cohort is made: a metadata key that names it, or a function that returns it.
   * A cohort that a trusted caller sends is used instead. @defaultValue each call has a random cohort
   */
  readonly cohort?: string | ((call: PrioritizedCall) => string | undefined);
}

/**
 * Google's criticality values, for `priority.map`. Their CRITICAL is the default of interactive calls, one below
 * CRITICAL_PLUS ("Handling Overload", Site Reliability Engineering, ch. 21: https://sre.google/sre-book/handling-overload/).
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/priorities.md
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
  readonly methodDefaults: ReadonlyMap<string, Priority>;
  readonly methods: ReadonlyMap<string, Priority>;
  readonly trust: ((call: PrioritizedCall) => boolean) | undefined;
  readonly cohort: ((call: PrioritizedCall) => string | undefined) | undefined;
}

const metadataKey = /^[0-9a-z_.-]+$/;
const optionNames = ["default", "methodDefaults", "key", "map", "methods", "trust", "cohort"];

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolvePriorityOptions(
  given: PriorityOptions = {},
  prefix = "priority",
): ResolvedPriorityOptions {
  const options = readOptions(prefix, given, optionNames);
  const { default: usual = "normal", key = priorityKey, trust, cohort } = options;
  const { methods = {}, methodDefaults = {} } = options;
  const byMethod = (option: string, given: Readonly<Record<string, Priority>>) =>
    new Map(
      byMethodOrService(option, given).map(({ at, name, value }): [string, Priority] => [
        name,
        oneOf(at, value, priorities),
      ]),
    );
  return Object.freeze({
    default: oneOf(`${prefix}.default`, usual, priorities),
    key: keyName(`${prefix}.key`, key),
    map: resolveMap(options.map, `${prefix}.map`),
    methodDefaults: byMethod(`${prefix}.methodDefaults`, methodDefaults),
    methods: byMethod(`${prefix}.methods`, methods),
    trust: optionalFunction(`${prefix}.trust`, trust),
    cohort: resolveCohort(cohort, `${prefix}.cohort`),
  });
}

function resolveMap(map: PriorityOptions["map"], path: string): ResolvedPriorityOptions["map"] {
  if (map === undefined || typeof map === "function") return map;
  if (!isRecord(map)) {
    const rule = "a function, or an object of priorities by the values of the key";
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

/**
 * Calls whose priority did not count. Both numbers only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/priorities.md
 */
export interface PriorityCounts {
  /** The value was no priority. */
  readonly invalid: number;
  /** The caller is not trusted, and the priority counted as `normal`. */
  readonly clamped: number;
}

function prioritized(
  { method, peer }: InboundCall,
  metadata: Metadata,
  below: ServerCall,
): PrioritizedCall {
  return {
    method,
    peer,
    metadata,
    // The certificate is read only when the function asks for it: grpc-js decodes it each time.
    get authContext() {
      return below.getAuthContext();
    },
  };
}

/** Reads the priority and the cohort of calls. */
export class PriorityReader {
  #options: ResolvedPriorityOptions;
  readonly #random: Random;
  readonly #report: ReportError;
  #invalid = 0;
  #clamped = 0;

  constructor(options: ResolvedPriorityOptions, random: Random, report: ReportError) {
    this.#options = options;
    this.#random = random;
    this.#report = report;
  }

  /** Goes on with the options of a reader that is not used, and with its own counts. */
  reconfigure(fresh: PriorityReader): void {
    this.#options = fresh.#options;
  }

  get counts(): PriorityCounts {
    return { invalid: this.#invalid, clamped: this.#clamped };
  }

  /** Reads the metadata of a request into its record. Malformed values count as absent. */
  read(inbound: InboundCall, metadata: Metadata, below: ServerCall): void {
    const { trust, cohort, methods, methodDefaults } = this.#options;
    const named = this.#named(metadata);
    const call =
      trust === undefined && cohort === undefined
        ? undefined
        : prioritized(inbound, metadata, below);
    const trusted = call === undefined || trust === undefined || this.#trusts(trust, call);
    const allowed = named === undefined ? undefined : this.#clamp(named, trusted);
    const marked =
      ofMethod(methods, inbound.method) ?? allowed ?? ofMethod(methodDefaults, inbound.method);
    inbound.priority = marked ?? this.#options.default;
    inbound.priorityMarked = marked !== undefined;
    const sent = trusted ? readCohort(metadata) : undefined;
    const key = call === undefined || sent !== undefined ? undefined : this.#cohortKey(call);
    inbound.cohortMarked = sent !== undefined || key !== undefined;
    inbound.cohort =
      sent ??
      (key === undefined
        ? Math.floor(this.#random() * cohorts)
        : cohortOf(key, inbound.clock.wallNow()));
  }

  #trusts(trust: (call: PrioritizedCall) => boolean, call: PrioritizedCall): boolean {
    return this.#ask(() => trust(call), yesOrNo, "priority.trust") === true;
  }

  #named(metadata: Metadata): Priority | undefined {
    const { key, map } = this.#options;
    const values = metadata.get(key);
    if (values.length === 0) return undefined;
    const value = values[0];
    const named =
      values.length === 1 && typeof value === "string" ? this.#mapped(value, map) : undefined;
    if (named === undefined) this.#invalid += 1;
    return named;
  }

  #mapped(value: string, map: ResolvedPriorityOptions["map"]): Priority | undefined {
    const mapped = map === undefined ? value : this.#ask(() => map(value), keyText, "priority.map");
    return isPriority(mapped) ? mapped : undefined;
  }

  #clamp(named: Priority, trusted: boolean): Priority {
    if (trusted || named === "normal" || named === "low") return named;
    this.#clamped += 1;
    return "normal";
  }

  #cohortKey(call: PrioritizedCall): string | undefined {
    const { cohort } = this.#options;
    const key = cohort && this.#ask(() => cohort(call), keyText, "priority.cohort");
    return key === "" ? undefined : key;
  }

  /** The answer of a function of the user's; `undefined` when it fails. */
  #ask<T>(question: () => unknown, read: ReadAnswer<T>, where: string): T | undefined {
    return ask(question, read, undefined, this.#report, where);
  }
}

/** What holds for a method, or for its service. Most servers have no such options. */
function ofMethod(named: ReadonlyMap<string, Priority>, path: string): Priority | undefined {
  if (named.size === 0) return undefined;
  return named.get(path.slice(1)) ?? named.get(serviceOf(path));
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function priorityReader(
  options: PriorityOptions | undefined,
  { random, report }: Pick<Environment, "random" | "report">,
  prefix: string,
): PriorityReader {
  return new PriorityReader(resolvePriorityOptions(options, prefix), random, report);
}
