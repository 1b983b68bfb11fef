import type { Clock, Random } from "../core/clock.js";
import { readOptions } from "../core/options.js";
import { serviceOf } from "../grpc/types.js";
import type { MethodRegistry } from "../policies/idempotency/client-registry.js";

/**
 * Options by name, as code gives them, but plain data.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export type OptionData = Readonly<Record<string, unknown>>;

/**
 * Policies that come from data, such as a file: the options that the code does not give.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface PolicySet {
  /** Options of all clients. */
  readonly client: OptionData;
  /** Options of methods (`pkg.Service/Method`) and services (`pkg.Service`), for all clients. */
  readonly methods: Readonly<Record<string, OptionData>>;
  /** Options of all servers. */
  readonly server: OptionData;
  /** Options of guards, by name. */
  readonly guards: Readonly<Record<string, OptionData>>;
  /** Where an option is written, such as `policies.yaml:12`; for people. `undefined` where it is not. */
  placeOf(option: string): string | undefined;
}

/**
 * Where policies as data come from.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface PolicySource {
  /** What explanations and errors call it, such as the path of a file. */
  readonly name: string;
  /**
   * The policies, checked.
   *
   * @throws InvalidOptionError where they make no sense.
   */
  read(): PolicySet;
  /**
   * Tells from now on when there may be newer policies. Absent: they never change.
   *
   * @returns Ends the watch.
   */
  watch?(watcher: PolicyWatcher): () => void;
  /** What is different in newer policies, for `onPolicies`. @defaultValue nothing is told */
  changes?(before: PolicySet, after: PolicySet): readonly PolicyChange[];
}

/**
 * What a source of policies is given of the weir, while it is watched.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface PolicyWatcher {
  readonly clock: Clock;
  readonly random: Random;
  /** There may be newer policies. `read` returns them, `undefined` where they are the same, or throws what is wrong with them. */
  readonly newer: (read: () => PolicySet | undefined) => void;
  /** The policies cannot be read at present. */
  readonly failed: (error: unknown) => void;
}

/**
 * An option that two documents give differently.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface PolicyChange {
  /** As in the code: `client.retry.maxAttempts`, `client.methods["pkg.Service/Method"].hedge`, `guard("name").rate`. */
  readonly option: string;
  /** What the documents give; `undefined` where one gives nothing. */
  readonly before: unknown;
  readonly after: unknown;
  /** What the change does, in a sentence; `undefined` where the numbers say it all. */
  readonly meaning: string | undefined;
  /** Where it is written in the later document, or else in the earlier one. */
  readonly place: string | undefined;
}

/**
 * What became of newer policies.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export type PolicyEvent =
  | {
      /** They hold from now on. Nothing has changed where there are no `changes`. */
      readonly kind: "applied";
      /** The name of the source. */
      readonly source: string;
      readonly changes: readonly PolicyChange[];
    }
  | {
      /** They were refused as a whole, and the last good ones hold. */
      readonly kind: "refused";
      readonly source: string;
      readonly error: unknown;
    };

/**
 * Policies that stand in the schemas of services, as their owners have written them.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface SchemaPolicies extends PolicySet {
  /** The methods that there are, and which of them may run twice. */
  readonly registry: MethodRegistry;
}

/**
 * Where schemas come from.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface SchemaSource {
  /** What explanations call it. */
  readonly name: string;
  /**
   * What the schemas say, checked.
   *
   * @throws InvalidOptionError where it makes no sense.
   */
  read(): SchemaPolicies;
}

/** A policy, or a method's policies, as they are laid over others: an object of options, a word, or `false`. */
type Policies = Readonly<Record<string, unknown>>;

/**
 * The options of a client: those of the code, and under them those of the data. An option that the code gives, for the client,
 * a service or a method, wins over all data for the same calls. What a schema says is laid under both in the same way.
 */
export function layClient(data: Pick<PolicySet, "client" | "methods">, code: Policies): Policies {
  const { methods: given, ...base } = code;
  const named = byName(given);
  // What code has for methods is checked where the client is built.
  if (named === undefined) return code;
  const methods: Record<string, unknown> = {};
  for (const name of new Set([...Object.keys(data.methods), ...named.keys()])) {
    const above = name.includes("/") ? [base, named.get(serviceOf(`/${name}`))?.value] : [base];
    const under = without(data.methods[name] ?? {}, above);
    const own = named.get(name);
    if (own !== undefined && !isObject(own.value)) return code;
    if (own === undefined && Object.keys(under).length === 0) continue;
    methods[own?.written ?? name] = layOver(under, isObject(own?.value) ? own.value : {});
  }
  const laid = layOver(data.client, base);
  return Object.keys(methods).length === 0 ? laid : { ...laid, methods };
}

/**
 * The options of a server over what schemas say of methods: a schema adds priorities, wherever they are read, and idempotency
 * keys, if the server has that policy.
 */
export function layServer(schema: PolicySet, over: Policies): Policies {
  const { priority, idempotency } = schema.server;
  const { priority: ownPriority, idempotency: ownIdempotency, admission } = over;
  const laid: Record<string, unknown> = { ...over };
  if (isObject(priority)) {
    const { priority: nested } = isObject(admission) ? admission : {};
    // The options of priorities stand in one of two places.
    const added =
      nested === undefined
        ? { priority: joined(priority, ownPriority) }
        : { admission: { ...(admission as Policies), priority: joined(priority, nested) } };
    Object.assign(laid, added);
  }
  return isObject(idempotency) && isObject(ownIdempotency)
    ? { ...laid, idempotency: joined(idempotency, ownIdempotency) }
    : laid;
}

/** Lays options over others, method by method. */
function joined(under: Policies, over: unknown): unknown {
  if (over === undefined) return under;
  if (!isObject(over)) return over;
  const both: Record<string, unknown> = { ...over };
  for (const [option, named] of Object.entries(under)) {
    const own = over[option];
    if (own === undefined) both[option] = named;
    else if (isObject(own) && isObject(named)) {
      const names = Object.entries(own).map(
        ([name, its]) => [name.replace(/^\//, ""), its] as const,
      );
      both[option] = layOver(named, Object.fromEntries(names));
    }
  }
  return both;
}

/** What the code has for methods, by the name without the slash in front. `undefined` for what is no object. */
function byName(
  methods: unknown,
): ReadonlyMap<string, { readonly written: string; readonly value: unknown }> | undefined {
  if (methods === undefined) return new Map();
  if (!isObject(methods)) return undefined;
  return new Map(
    Object.entries(methods).map(([written, value]) => [
      written.replace(/^\//, ""),
      { written, value },
    ]),
  );
}

/** The options of data that broader entries of the code do not give. */
function without(data: Policies, above: readonly unknown[]): Policies {
  const left: Record<string, unknown> = {};
  for (const [policy, options] of Object.entries(data)) {
    const given = above.map((each) => (isObject(each) ? each[policy] : undefined));
    const inCode = given.filter((each) => each !== undefined);
    if (inCode.length === 0) left[policy] = options;
    else if (isObject(options) && inCode.every(isObject)) {
      const own = Object.entries(options).filter(
        ([name]) => !inCode.some((each) => each[name] !== undefined),
      );
      if (own.length > 0) left[policy] = Object.fromEntries(own);
    }
  }
  return left;
}

/** Lays policies over others, option by option. */
export function layOver(under: Policies, over: Policies): Policies {
  const laid: Record<string, unknown> = { ...under };
  for (const [policy, options] of Object.entries(over)) {
    if (options === undefined) continue;
    const below = laid[policy];
    laid[policy] =
      isObject(options) && isObject(below)
        ? { ...below, ...defined(readOptions(policy, options)) }
        : options;
  }
  return laid;
}

function defined(options: Policies): Policies {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function isObject(value: unknown): value is Policies {
  return typeof value === "object" && value !== null && !(Symbol.iterator in value);
}
