import { status as Status } from "@grpc/grpc-js";
import { JsonFields } from "../core/json-fields.js";
import { InvalidOptionError, maxDurationMs } from "../core/options.js";
import type { MethodPolicy } from "./client.js";

/** The policies of a method that a service config can name. */
export interface ServiceConfigMethodPolicy extends Pick<MethodPolicy, "deadline" | "waitForReady"> {
  /**
   * `false` where the config names no `retryPolicy`, because gRPC would not retry either. One attempt where there is a
   * `hedgingPolicy` and `retryThrottling`: hedges draw on the budget of `retry`.
   */
  readonly retry:
    | (ConfiguredRetry & { readonly budget?: ConfiguredBudget })
    | { readonly maxAttempts: 1; readonly budget: ConfiguredBudget }
    | false;
  readonly hedge?: ConfiguredHedge | false;
}

/**
 * The part of a client policy that a service config can express.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/moving-from.md
 */
export interface ServiceConfigPolicy extends ServiceConfigMethodPolicy {
  readonly methods: Readonly<Record<string, ServiceConfigMethodPolicy>>;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/moving-from.md */
export interface ServiceConfigImport {
  /** For `weir.client`. Spread it to add policies that a service config cannot express, such as a circuit breaker. */
  readonly policy: ServiceConfigPolicy;
  /** One sentence for each field that is ignored, or applied with another value, with its path. */
  readonly warnings: string[];
}

/**
 * Reads the policies of a gRPC service config, so that a client that has one keeps its timeouts and retries. Only the
 * most specific entry holds for a method: the exact method, else its service, else the default `{}`
 * (https://github.com/grpc/grpc-proto/blob/master/grpc/service_config/service_config.proto).
 *
 * Differences from gRPC:
 *
 * - A `timeout` is the deadline of calls that set none. gRPC would also shorten later deadlines.
 * - Whether a failure is retried depends on its origin and the method's idempotency, not on the code alone.
 * - Without `retryThrottling`, extra attempts have the default budget. In gRPC they have none.
 * - RESOURCE_EXHAUSTED is retried only where the server says when, by pushback or RetryInfo.
 * - A retry whose wait would pass the deadline is not made: the call ends at once with the status of its last attempt.
 *   gRPC would wait, and end the call with DEADLINE_EXCEEDED.
 *
 * Load balancing and health checks belong to the channel: leave them in `grpc.service_config`. Take `retryPolicy` and
 * `hedgingPolicy` out of it: otherwise each attempt of the toolkit becomes several.
 *
 * @param config The parsed JSON, or its text.
 * @throws InvalidOptionError that names the wrong field by its path, such as
 *   `serviceConfig.methodConfig[0].retryPolicy.maxAttempts`.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/moving-from.md
 */
export function policiesFromServiceConfig(config: unknown): ServiceConfigImport {
  const warnings: string[] = [];
  const warn: Warn = (path, warning) => warnings.push(`${path} ${warning}`);
  const root = new JsonFields("serviceConfig", parsed(config));
  warnOfUnknown(root, [...rootFields, ...channelFields], warn);
  for (const name of channelFields) {
    if (root.has(name)) warn(root.at(name), "is the channel's: leave it in grpc.service_config");
  }
  const throttling = root.object("retryThrottling");
  const budget = throttling === undefined ? undefined : budgetOf(throttling, warn);
  const entries = entriesOf(root, budget, warn);
  const extra = [...entries.values()].some(({ retry, hedge }) => retry !== false || hedge);
  if (extra && budget === undefined) {
    warn(
      root.at("retryThrottling"),
      "is absent: extra attempts have the default budget, in gRPC none",
    );
  }
  const { "": base = noEntry, ...named } = Object.fromEntries(entries);
  const methods = Object.entries(named).map(([name, entry]) => {
    const broader = name.includes("/") ? [entries.get(serviceIn(name)), base] : [base];
    return [name, policyOf(entry, broader)] as const;
  });
  return { policy: { ...policyOf(base, []), methods: Object.fromEntries(methods) }, warnings };
}

/** A `methodConfig` that has been read. */
interface MethodConfig {
  readonly timeoutMs: number | undefined;
  readonly waitForReady: boolean;
  readonly retry: ServiceConfigMethodPolicy["retry"];
  readonly hedge: ConfiguredHedge | undefined;
}

const noEntry: MethodConfig = {
  timeoutMs: undefined,
  waitForReady: false,
  retry: false,
  hedge: undefined,
};

const rootFields = ["methodConfig", "retryThrottling"];
const channelFields = ["loadBalancingPolicy", "loadBalancingConfig", "healthCheckConfig"];
const methodFields = ["name", "timeout", "waitForReady", "retryPolicy", "hedgingPolicy"];
const unsupported: Readonly<Record<string, string>> = {
  maxRequestMessageBytes: "has no policy: set grpc.max_send_message_length for the channel",
  maxResponseMessageBytes: "has no policy: set grpc.max_receive_message_length for the channel",
};

/**
 * The entries by their names: `pkg.Service/Method`, `pkg.Service`, or the empty string for the default.
 */
function entriesOf(
  root: JsonFields,
  budget: ConfiguredBudget | undefined,
  warn: Warn,
): ReadonlyMap<string, MethodConfig> {
  const entries = new Map<string, MethodConfig>();
  for (const method of root.objects("methodConfig")) {
    const names = method.list("name");
    if (names === undefined) throw new InvalidOptionError(method.at("name"), "an array", names);
    if (names.length === 0) warn(method.at("name"), "is empty: the entry holds for no method");
    const entry = entryOf(method, budget, warn);
    for (const name of method.objects("name")) {
      const key = nameOf(name, warn);
      if (entries.has(key)) {
        const what = key === "" ? "the default" : key;
        throw new InvalidOptionError(name.path, `the only entry for ${what}`, "another one");
      }
      entries.set(key, entry);
    }
  }
  return entries;
}

function entryOf(
  method: JsonFields,
  budget: ConfiguredBudget | undefined,
  warn: Warn,
): MethodConfig {
  warnOfUnknown(method, [...methodFields, ...Object.keys(unsupported)], warn);
  for (const [name, instead] of Object.entries(unsupported)) {
    if (method.has(name)) warn(method.at(name), instead);
  }
  const timeoutMs = timeoutOf(method, warn);
  const waitForReady = method.get("waitForReady") ?? false;
  if (typeof waitForReady !== "boolean") {
    throw new InvalidOptionError(method.at("waitForReady"), "true or false", waitForReady);
  }
  const retryPolicy = method.object("retryPolicy");
  const hedgingPolicy = method.object("hedgingPolicy");
  if (retryPolicy !== undefined && hedgingPolicy !== undefined) {
    const rule = "absent where there is a retryPolicy";
    throw new InvalidOptionError(method.at("hedgingPolicy"), rule, method.get("hedgingPolicy"));
  }
  const hedge = hedgingPolicy === undefined ? undefined : hedgeOf(hedgingPolicy, warn);
  if (retryPolicy === undefined) {
    const paid = hedge !== undefined && budget !== undefined;
    return { timeoutMs, waitForReady, hedge, retry: paid && { maxAttempts: 1, budget } };
  }
  const retry = retryOf(retryPolicy, warn);
  return {
    timeoutMs,
    waitForReady,
    hedge,
    retry: budget === undefined ? retry : { ...retry, budget },
  };
}

function nameOf(name: JsonFields, warn: Warn): string {
  warnOfUnknown(name, ["service", "method"], warn);
  const service = part(name, "service", /^[\w.]+$/);
  const method = part(name, "method", /^\w+$/);
  if (method === "") return service;
  if (service === "")
    throw new InvalidOptionError(name.at("service"), "given with method", service);
  return `${service}/${method}`;
}

function part(name: JsonFields, field: "service" | "method", form: RegExp): string {
  const value = name.get(field) ?? "";
  if (typeof value !== "string" || (value !== "" && !form.test(value))) {
    const rule = field === "service" ? "a full name such as pkg.Service" : "the name of a method";
    throw new InvalidOptionError(name.at(field), rule, value);
  }
  return value;
}

/**
 * The options of an entry. In a client policy a method inherits the options of its service and of the client; in a
 * service config it does not. So what a broader entry sets, and this one does not, is reset to its default.
 */
function policyOf(
  entry: MethodConfig,
  broader: readonly (MethodConfig | undefined)[],
): ServiceConfigMethodPolicy {
  const { timeoutMs, waitForReady, retry, hedge } = entry;
  const waitsAbove = broader.some((above) => above?.waitForReady === true);
  const timedAbove = broader.some((above) => above?.timeoutMs !== undefined);
  const hedgedAbove = broader.some((above) => above?.hedge !== undefined);
  // No option takes an inherited deadline away; the longest one has the same effect.
  const defaultMs = timeoutMs ?? (timedAbove ? maxDurationMs : undefined);
  return {
    ...(defaultMs === undefined ? {} : { deadline: { defaultMs } }),
    ...(waitForReady || waitsAbove ? { waitForReady } : {}),
    retry,
    ...(hedge === undefined && !hedgedAbove ? {} : { hedge: hedge ?? false }),
  };
}

function serviceIn(name: string): string {
  return name.slice(0, name.indexOf("/"));
}

function parsed(config: unknown): unknown {
  if (typeof config !== "string") return config;
  try {
    return JSON.parse(config);
  } catch {
    throw new InvalidOptionError("serviceConfig", "JSON", config);
  }
}

// From here on: one policy of a service config as options of the toolkit. The checks are those of gRFC A6, "Validation
// of retryPolicy" and "Validation of hedgingPolicy"
// (https://github.com/grpc/proposal/blob/master/A6-client-retries.md), as in grpc-js.

/** Receives a sentence for each field that is ignored, or applied with another value. */
export type Warn = (path: string, warning: string) => void;

/** Retry options made from a `retryPolicy`. */
export interface ConfiguredRetry {
  readonly maxAttempts: number;
  readonly codes: readonly number[];
  readonly backoff: {
    readonly baseMs: number;
    readonly maxMs: number;
    readonly multiplier: number;
    readonly jitter: "proportional";
  };
}

/** Hedge options made from a `hedgingPolicy`. */
export interface ConfiguredHedge {
  readonly maxAttempts: number;
  readonly delayMs: number;
  readonly nonFatalCodes: readonly number[];
}

/** Options of a retry budget made from `retryThrottling`: tokens, and no ratio of calls. */
export interface ConfiguredBudget {
  readonly maxTokens: number;
  readonly tokenRatio: number;
  readonly ratio: false;
}

/** gRPC retries by the code alone. A service config cannot say whether a method may run twice. */
const knownIdempotentOnly =
  "methods known to be idempotent: by their schema, by retry.idempotent, or by a key that the server honours";

/** gRFC A6 reads a larger `maxAttempts` as 5. */
const attemptsLimit = 5;

function retryOf(policy: JsonFields, warn: Warn): ConfiguredRetry {
  warnOfUnknown(policy, retryFields, warn);
  const maxAttempts = attempts(policy, warn);
  const wantedBaseMs = delayMs(policy, "initialBackoff", warn);
  const maxMs = delayMs(policy, "maxBackoff", warn);
  const multiplier = positive(policy, "backoffMultiplier");
  if (wantedBaseMs > maxMs) {
    // gRPC then waits `maxBackoff` before every retry.
    warn(policy.at("initialBackoff"), `is above maxBackoff, taken as ${maxMs} ms`);
  }
  const codes = statusCodes(policy, "retryableStatusCodes");
  if (codes.length === 0) {
    throw new InvalidOptionError(policy.at("retryableStatusCodes"), "a list of codes", codes);
  }
  if (codes.some((code) => code !== Status.UNAVAILABLE)) {
    warn(
      policy.at("retryableStatusCodes"),
      `other codes than UNAVAILABLE are retried only for ${knownIdempotentOnly}`,
    );
  }
  if (codes.includes(Status.RESOURCE_EXHAUSTED)) {
    const when = "is retried only where the server says when, by pushback or RetryInfo";
    warn(policy.at("retryableStatusCodes"), `RESOURCE_EXHAUSTED ${when}`);
  }
  return {
    maxAttempts,
    codes,
    backoff: {
      baseMs: Math.min(wantedBaseMs, maxMs),
      maxMs,
      multiplier: clamped(policy.at("backoffMultiplier"), multiplier, 1, 100, "", warn),
      jitter: "proportional",
    },
  };
}

function hedgeOf(policy: JsonFields, warn: Warn): ConfiguredHedge {
  warnOfUnknown(policy, hedgeFields, warn);
  warn(policy.path, `is followed only for ${knownIdempotentOnly}`);
  const path = policy.at("hedgingDelay");
  const wantedMs = policy.has("hedgingDelay")
    ? protoDurationMs(path, policy.get("hedgingDelay"))
    : 0;
  return {
    maxAttempts: attempts(policy, warn),
    delayMs: clamped(path, wantedMs, 0, maxDurationMs, " ms", warn),
    nonFatalCodes: statusCodes(policy, "nonFatalStatusCodes"),
  };
}

function budgetOf(throttling: JsonFields, warn: Warn): ConfiguredBudget {
  warnOfUnknown(throttling, throttlingFields, warn);
  const maxTokens = positive(throttling, "maxTokens");
  if (maxTokens > 1_000) {
    const rule = "a number above 0 and up to 1000";
    throw new InvalidOptionError(throttling.at("maxTokens"), rule, maxTokens);
  }
  const tokenRatio = positive(throttling, "tokenRatio");
  // gRFC A6 counts in thousandths of a token.
  return {
    maxTokens: clamped(throttling.at("maxTokens"), maxTokens, 0.001, 1_000, "", warn),
    tokenRatio: clamped(throttling.at("tokenRatio"), tokenRatio, 0.001, 1_000, "", warn),
    ratio: false,
  };
}

/** The timeout in milliseconds, at least 1: the wire has no shorter one. `undefined` where the config sets none. */
function timeoutOf(method: JsonFields, warn: Warn): number | undefined {
  if (!method.has("timeout")) return undefined;
  const path = method.at("timeout");
  const wantedMs = protoDurationMs(path, method.get("timeout"));
  return clamped(path, wantedMs, 1, maxDurationMs, " ms", warn);
}

/** Warns of fields that are not known. They are no error, because a service config may be newer than the toolkit. */
function warnOfUnknown(fields: JsonFields, known: readonly string[], warn: Warn): void {
  for (const name of fields.names) {
    if (!known.includes(name)) warn(fields.at(name), "is not known, and ignored");
  }
}

const retryFields = [
  "maxAttempts",
  "initialBackoff",
  "maxBackoff",
  "backoffMultiplier",
  "retryableStatusCodes",
];
const hedgeFields = ["maxAttempts", "hedgingDelay", "nonFatalStatusCodes"];
const throttlingFields = ["maxTokens", "tokenRatio"];

function attempts(policy: JsonFields, warn: Warn): number {
  const path = policy.at("maxAttempts");
  const wanted = policy.get("maxAttempts");
  if (typeof wanted !== "number" || !Number.isInteger(wanted) || wanted < 2) {
    throw new InvalidOptionError(path, "a whole number of at least 2", wanted);
  }
  if (wanted > attemptsLimit) warn(path, `is ${wanted}, taken as ${attemptsLimit}`);
  return Math.min(wanted, attemptsLimit);
}

function delayMs(policy: JsonFields, name: string, warn: Warn): number {
  const path = policy.at(name);
  const wantedMs = protoDurationMs(path, policy.get(name));
  if (wantedMs === 0) throw new InvalidOptionError(path, "longer than 0s", policy.get(name));
  return clamped(path, wantedMs, 0, maxDurationMs, " ms", warn);
}

function positive(fields: JsonFields, name: string): number {
  const value = fields.get(name);
  if (typeof value !== "number" || !(value > 0) || !Number.isFinite(value)) {
    throw new InvalidOptionError(fields.at(name), "a number above 0", value);
  }
  return value;
}

function statusCodes(policy: JsonFields, name: string): readonly number[] {
  return (policy.list(name) ?? []).map((value, index) => {
    const code = typeof value === "string" ? codesByName.get(value.toUpperCase()) : value;
    if (typeof code !== "number" || !Number.isInteger(code) || code < 1 || code > 16) {
      const rule = "the name or number of a status code other than OK";
      throw new InvalidOptionError(`${policy.at(name)}[${index}]`, rule, value);
    }
    return code;
  });
}

const codesByName: ReadonlyMap<string, number> = new Map(
  // The enum of grpc-js also maps numbers to names.
  Object.entries(Status).filter((entry): entry is [string, Status] => typeof entry[1] === "number"),
);

function clamped(
  path: string,
  wanted: number,
  min: number,
  max: number,
  unit: string,
  warn: Warn,
): number {
  const taken = Math.min(max, Math.max(min, wanted));
  if (taken !== wanted) warn(path, `is ${wanted}${unit}, taken as ${taken}${unit}`);
  return taken;
}

/** The most seconds of a `google.protobuf.Duration`: about 10,000 years. */
const maxSeconds = 315_576_000_000;

/**
 * Milliseconds of a `google.protobuf.Duration` in JSON: text such as `"1.5s"`, with up to nine decimals, or an object
 * `{ seconds, nanos }`.
 *
 * @param option The path of the field, for the error.
 * @throws InvalidOptionError when it is no duration, or a negative one.
 */
export function protoDurationMs(option: string, value: unknown): number {
  const parts = typeof value === "string" ? ofText(value) : ofObject(value);
  if (parts === undefined || parts.seconds > maxSeconds) {
    throw new InvalidOptionError(option, 'a duration such as "1.5s", not below zero', value);
  }
  return parts.seconds * 1_000 + parts.nanos / 1_000_000;
}

interface Parts {
  readonly seconds: number;
  readonly nanos: number;
}

function ofText(value: string): Parts | undefined {
  const [matched, seconds, decimals = ""] = /^(\d{1,12})(?:\.(\d{1,9}))?s$/.exec(value) ?? [];
  if (matched === undefined) return undefined;
  // The decimals are a fraction: ".05" is 50 ms.
  return { seconds: Number(seconds), nanos: Number(decimals.padEnd(9, "0")) };
}

function ofObject(value: unknown): Parts | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { seconds = 0, nanos = 0 } = value as Readonly<Record<keyof Parts, unknown>>;
  // The JSON form of an int64 is text; configs written by hand have numbers.
  const whole =
    typeof seconds === "string" && /^\d{1,12}$/.test(seconds) ? Number(seconds) : seconds;
  if (typeof whole !== "number" || !Number.isInteger(whole) || whole < 0) return undefined;
  if (typeof nanos !== "number" || !Number.isInteger(nanos)) return undefined;
  return nanos < 0 || nanos > 999_999_999 ? undefined : { seconds: whole, nanos };
}
