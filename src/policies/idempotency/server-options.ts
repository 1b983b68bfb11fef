import { type ServiceDefinition, status as Status } from "@grpc/grpc-js";
import type { ByMethod } from "../../core/method-names.js";
import {
  durationMs,
  InvalidOptionError,
  isRecord,
  oneOf,
  optionalFunction,
  readOptions,
  wholeNumber,
} from "../../core/options.js";
import { codeNumber, type StatusCodeOption } from "../../core/status.js";
import type { QuotaCall } from "../../grpc/server/policy.js";
import { callKind, serviceOf } from "../../grpc/types.js";
import type { KeyRules } from "./keys.js";
import { maxIdempotencyKeyLength } from "./levels.js";
import type { MemoryStoreBounds } from "./memory-store.js";
import type { IdempotencyStore } from "./store.js";

/**
 * The status of an answer, for the function that decides whether it is stored.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface AnsweredStatus {
  readonly code: Status;
  readonly details: string;
}

/**
 * How the calls of one method are run once for each key.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface IdempotentMethodOptions {
  /**
   * Where the key of a call comes from:
   *
   * - `required`: from the metadata `idempotency-key`; a call without one ends with INVALID_ARGUMENT.
   * - `optional`: from there; a call without one runs as without the policy.
   * - a function of the request, such as `(order) => order.requestId`; `undefined` for a call that runs as without the
   *   policy. If it throws or returns no valid key, the call ends with INTERNAL.
   *
   * @defaultValue `required`
   */
  readonly key?:
    | "required"
    | "optional"
    | ((request: unknown, call: QuotaCall) => string | undefined);
  /**
   * What tells one request from another under the same key, instead of the bytes of the request. For requests that differ
   * with each attempt in something that does not matter, such as a time. If it throws or returns no text, the call ends
   * with INTERNAL. @defaultValue the bytes of the request, as they came
   */
  readonly fingerprint?: (request: unknown, call: QuotaCall) => string;
  /**
   * Which answers are stored, and given to later calls with the key: status codes, by name or as numbers of `grpc.status`, or a function
   * of the status. After any other answer the key is free again, and the next call with it runs. Store what tells that the
   * handler may have done something: OK, and failures that another try would only repeat.
   * @defaultValue all but CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, UNAVAILABLE and UNAUTHENTICATED
   */
  readonly stores?: readonly StatusCodeOption[] | ((status: AnsweredStatus) => boolean);
  /** How long an answer is kept, in milliseconds. 1 s to 24 days. @defaultValue 86_400_000, a day */
  readonly ttlMs?: number;
  /**
   * How long a call holds its key without renewing it, in milliseconds: when a process dies, calls with its keys wait for so
   * long. Renewed each third of it. 100 ms to 24 days. @defaultValue 30_000
   */
  readonly leaseMs?: number;
  /** The longest key, in characters. 1 to 255. @defaultValue 255 */
  readonly maxKeyLength?: number;
  /**
   * The largest answer that is stored, in bytes: the message and the metadata. The call with a larger one is answered; later
   * calls with its key end with FAILED_PRECONDITION (reason `IDEMPOTENCY_ANSWER_NOT_KEPT`). 1_024 to 2^30.
   * @defaultValue 65_536
   */
  readonly maxResponseBytes?: number;
  /**
   * What becomes of calls while the store fails. `refuse`: they end with UNAVAILABLE. `run`: they run without protection, and
   * may run twice; their answers have the trailer `x-weir-idempotency: unprotected`. @defaultValue `refuse`
   */
  readonly onStoreError?: "refuse" | "run";
}

/**
 * Runs calls once for each idempotency key.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface ServerIdempotencyOptions<Service = unknown> extends IdempotentMethodOptions {
  /**
   * The methods, by `pkg.Service/Method`, with options that replace those beside `methods`. Unary ones only: the answer of
   * a stream is not kept.
   */
  readonly methods: ByMethod<IdempotentMethodOptions, Service>;
  /**
   * Whose keys are the same. The key of one caller must not get the answer of another, so it is a function that names the
   * caller, such as `(call) => call.authContext()?.sslPeerCertificate?.fingerprint256 ?? …`. If it throws or returns no text,
   * the call ends with INTERNAL. `shared`: all callers have their keys in common, and may get each other's answers.
   */
  readonly scope: "shared" | ((call: QuotaCall) => string);
  /**
   * The definitions of the services, as they are given to `server.addService`: names of methods are then checked while
   * building, and streams refused.
   */
  readonly services?: readonly ServiceDefinition[];
  /** A store that several processes share. @defaultValue the memory of this process, so that each has keys of its own */
  readonly store?: IdempotencyStore;
  /** How long the store may take to answer, in milliseconds. 1 ms to 24 days. @defaultValue 1_000 */
  readonly storeTimeoutMs?: number;
  /** How many calls may wait for an earlier one with their key. 1 to 1_000_000. @defaultValue 1_000 */
  readonly maxWaiting?: number;
  /** Without `store`: how many answers are kept. 1 to 10_000_000. @defaultValue 10_000 */
  readonly maxEntries?: number;
  /** Without `store`: how many bytes the answers may take. 65_536 to 2^40. @defaultValue 67_108_864, 64 MiB */
  readonly maxBytes?: number;
}

/** The options of one method, checked and complete. */
export interface MethodRules extends KeyRules {
  readonly key: NonNullable<IdempotentMethodOptions["key"]>;
  readonly fingerprint: IdempotentMethodOptions["fingerprint"];
  readonly stores: ReadonlySet<number> | ((status: AnsweredStatus) => boolean);
  readonly maxKeyLength: number;
  readonly maxResponseBytes: number;
}

/** Checked, complete and frozen. */
export interface ResolvedServerIdempotencyOptions {
  /** By path: `/pkg.Service/Method`. */
  readonly methods: ReadonlyMap<string, MethodRules>;
  readonly scope: ServerIdempotencyOptions["scope"];
  readonly store: IdempotencyStore | undefined;
  readonly storeTimeoutMs: number;
  readonly maxWaiting: number;
  readonly memory: MemoryStoreBounds;
}

const methodNames = [
  "key",
  "fingerprint",
  "stores",
  "ttlMs",
  "leaseMs",
  "maxKeyLength",
  "maxResponseBytes",
  "onStoreError",
] as const satisfies readonly (keyof IdempotentMethodOptions)[];

const ownNames = [
  "methods",
  "scope",
  "services",
  "store",
  "storeTimeoutMs",
  "maxWaiting",
  "maxEntries",
  "maxBytes",
] as const satisfies readonly Exclude<
  keyof ServerIdempotencyOptions,
  keyof IdempotentMethodOptions
>[];

/** The codes after which a key is free again: the call may do better another time. */
const released: ReadonlySet<Status> = new Set([
  Status.CANCELLED,
  Status.DEADLINE_EXCEEDED,
  Status.RESOURCE_EXHAUSTED,
  Status.ABORTED,
  Status.UNAVAILABLE,
  Status.UNAUTHENTICATED,
]);

const allCodes = Array.from({ length: Status.UNAUTHENTICATED + 1 }, (_, code) => code);
const storedByDefault = allCodes.filter((code) => !released.has(code));

/**
 * @param alsoKnown Names of further options, which the caller reads.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveServerIdempotencyOptions(
  given: ServerIdempotencyOptions,
  prefix: string,
  alsoKnown: readonly string[] = [],
): ResolvedServerIdempotencyOptions {
  const options = readOptions(prefix, given, [...methodNames, ...ownNames], alsoKnown);
  const { scope, store, storeTimeoutMs = 1_000, maxWaiting = 1_000 } = options;
  if (scope !== "shared" && typeof scope !== "function") {
    const rule =
      'a function that names the caller, or "shared" where all callers may get each other\'s answers';
    throw new InvalidOptionError(`${prefix}.scope`, rule, scope);
  }
  for (const name of ["maxEntries", "maxBytes"] as const) {
    if (store === undefined || options[name] === undefined) continue;
    throw new InvalidOptionError(`${prefix}.${name}`, "absent beside a store", options[name]);
  }
  const { maxEntries = 10_000, maxBytes = 64 * 1024 * 1024 } = options;
  const memory = {
    maxEntries: wholeNumber(`${prefix}.maxEntries`, maxEntries, 1, 10_000_000),
    maxBytes: wholeNumber(`${prefix}.maxBytes`, maxBytes, 65_536, 2 ** 40),
  };
  const methods = resolveMethods(options, prefix);
  for (const { maxResponseBytes } of methods.values()) {
    if (store !== undefined || 2 * maxResponseBytes <= maxBytes) continue;
    const rule = `at least twice maxResponseBytes, ${2 * maxResponseBytes}`;
    throw new InvalidOptionError(`${prefix}.maxBytes`, rule, maxBytes);
  }
  return Object.freeze({
    methods,
    scope,
    store: store === undefined ? undefined : checkedStore(`${prefix}.store`, store),
    storeTimeoutMs: durationMs(`${prefix}.storeTimeoutMs`, storeTimeoutMs, 1),
    maxWaiting: wholeNumber(`${prefix}.maxWaiting`, maxWaiting, 1, 1_000_000),
    memory,
  });
}

function checkedStore(option: string, store: IdempotencyStore): IdempotencyStore {
  for (const method of ["claim", "renew", "complete", "release"] as const) {
    if (typeof store?.[method] === "function") continue;
    throw new InvalidOptionError(option, `a store: it has no ${method}()`, store);
  }
  return store;
}

function resolveMethods(
  options: ServerIdempotencyOptions,
  prefix: string,
): ReadonlyMap<string, MethodRules> {
  const { methods: given, services = [] } = options;
  const shared = sharedBy(options);
  const option = `${prefix}.methods`;
  if (!isRecord(given) || Object.keys(given).length === 0) {
    throw new InvalidOptionError(option, "an object of options by pkg.Service/Method", given);
  }
  const kinds = kindsIn(services, `${prefix}.services`);
  // Checked by themselves, so that an error names the place where it stands.
  resolveRules(shared, prefix);
  const methods = new Map<string, MethodRules>();
  for (const name of Object.keys(given)) {
    const at = `${option}["${name}"]`;
    const path = /^\/?([^/\s]+\/[^/\s]+)$/.exec(name)?.[1];
    if (path === undefined) throw new InvalidOptionError(at, "named pkg.Service/Method", name);
    if (methods.has(`/${path}`)) {
      throw new InvalidOptionError(at, `given once: ${path} is /${path}`, name);
    }
    checkKind(kinds, `/${path}`, at);
    const own = readOptions(at, given[name] ?? {}, methodNames);
    methods.set(`/${path}`, resolveRules({ ...shared, ...own }, at));
  }
  return methods;
}

/** The options of all methods, without those of the policy as a whole. */
function sharedBy(options: ServerIdempotencyOptions): IdempotentMethodOptions {
  const { key, fingerprint, stores, ttlMs, leaseMs, ...rest } = options;
  const { maxKeyLength, maxResponseBytes, onStoreError } = rest;
  const given = {
    ...(key === undefined ? {} : { key }),
    ...(fingerprint === undefined ? {} : { fingerprint }),
    ...(stores === undefined ? {} : { stores }),
    ...(ttlMs === undefined ? {} : { ttlMs }),
    ...(leaseMs === undefined ? {} : { leaseMs }),
    ...(maxKeyLength === undefined ? {} : { maxKeyLength }),
    ...(maxResponseBytes === undefined ? {} : { maxResponseBytes }),
    ...(onStoreError === undefined ? {} : { onStoreError }),
  };
  return given;
}

function resolveRules(options: IdempotentMethodOptions, prefix: string): MethodRules {
  const {
    key = "required",
    fingerprint,
    stores = storedByDefault,
    ttlMs = 24 * 60 * 60 * 1_000,
    leaseMs = 30_000,
    maxKeyLength = maxIdempotencyKeyLength,
    maxResponseBytes = 64 * 1024,
    onStoreError = "refuse",
  } = options;
  if (key !== "required" && key !== "optional" && typeof key !== "function") {
    throw new InvalidOptionError(`${prefix}.key`, "required, optional or a function", key);
  }
  optionalFunction(`${prefix}.fingerprint`, fingerprint);
  return Object.freeze({
    key,
    fingerprint,
    stores: typeof stores === "function" ? stores : codesOf(`${prefix}.stores`, stores),
    ttlMs: durationMs(`${prefix}.ttlMs`, ttlMs, 1_000),
    leaseMs: durationMs(`${prefix}.leaseMs`, leaseMs, 100),
    maxKeyLength: wholeNumber(`${prefix}.maxKeyLength`, maxKeyLength, 1, maxIdempotencyKeyLength),
    maxResponseBytes: wholeNumber(`${prefix}.maxResponseBytes`, maxResponseBytes, 1_024, 2 ** 30),
    onStoreError: oneOf(`${prefix}.onStoreError`, onStoreError, ["refuse", "run"] as const),
  });
}

function codesOf(option: string, codes: readonly StatusCodeOption[]): ReadonlySet<number> {
  if (!Array.isArray(codes)) {
    throw new InvalidOptionError(option, "an array of status codes, or a function", codes);
  }
  return new Set(codes.map((code) => codeNumber(option, code, 0)));
}

/** What is read of a method, which has to be checked before it is used. */
interface MethodShape {
  readonly path?: unknown;
  readonly requestStream?: unknown;
  readonly responseStream?: unknown;
}

type Kinds = ReadonlyMap<string, ReturnType<typeof callKind>>;

function kindsIn(services: readonly ServiceDefinition[], option: string): Kinds {
  const rule = "an array of service definitions, as addService takes them";
  if (!Array.isArray(services)) throw new InvalidOptionError(option, rule, services);
  const kinds = new Map<string, ReturnType<typeof callKind>>();
  for (const [index, service] of services.entries()) {
    if (!isRecord(service)) throw new InvalidOptionError(`${option}[${index}]`, rule, service);
    for (const method of Object.values(service)) {
      const shape: MethodShape = isRecord(method) ? method : {};
      const { path, requestStream, responseStream } = shape;
      if (typeof path !== "string") {
        throw new InvalidOptionError(`${option}[${index}]`, rule, service);
      }
      const streams = {
        requestStream: requestStream === true,
        responseStream: responseStream === true,
      };
      kinds.set(path, callKind(streams));
    }
  }
  return kinds;
}

function checkKind(kinds: Kinds, path: string, option: string): void {
  const kind = kinds.get(path);
  if (kind === "unary") return;
  if (kind !== undefined) {
    const rule = `a unary method: ${path.slice(1)} streams, and the messages of a stream are not kept`;
    throw new InvalidOptionError(option, rule, kind);
  }
  const service = serviceOf(path);
  const known = [...kinds.keys()].filter((other) => serviceOf(other) === service);
  if (known.length === 0) return;
  const rule = `a method of ${service}: ${known.map((other) => other.slice(service.length + 2)).join(", ")}`;
  throw new InvalidOptionError(option, rule, path.slice(1));
}
