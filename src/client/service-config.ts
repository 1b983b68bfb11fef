import { JsonFields } from "../core/json-fields.js";
import { InvalidOptionError, maxDurationMs } from "../core/options.js";
import type { MethodPolicy } from "./method-policy.js";
import {
  budgetOf,
  type ConfiguredBudget,
  type ConfiguredHedge,
  type ConfiguredRetry,
  hedgeOf,
  retryOf,
  timeoutOf,
  type Warn,
  warnOfUnknown,
} from "./service-config-policies.js";

/** The policies of a method that a service config can name. */
export interface ServiceConfigMethodPolicy extends Pick<MethodPolicy, "deadline" | "waitForReady"> {
  /**
   * `false` where the config names no `retryPolicy`: then gRPC would not retry either. One attempt where there is
   * a `hedgingPolicy`: hedges are paid out of the budget of `retry`.
   */
  readonly retry:
    | (ConfiguredRetry & { readonly budget?: ConfiguredBudget })
    | { readonly maxAttempts: 1; readonly budget: ConfiguredBudget }
    | false;
  readonly hedge?: ConfiguredHedge | false;
}

/** A client policy, as far as a service config goes. */
export interface ServiceConfigPolicy extends ServiceConfigMethodPolicy {
  readonly methods: Readonly<Record<string, ServiceConfigMethodPolicy>>;
}

export interface ServiceConfigImport {
  /** For `weir.client`. Spread it to add what a service config has no words for, such as a breaker. */
  readonly policy: ServiceConfigPolicy;
  /** What is taken otherwise than it is written, or not at all, each with its path. */
  readonly warnings: string[];
}

/**
 * Reads the policies of a gRPC service config, so that a client that is set up by one keeps its timeouts and
 * retries, and gets the toolkit's decisions and attempts to look at. The most specific entry holds for a method,
 * alone: the exact method, its service, the default `{}` (grpc/service_config/service_config.proto).
 *
 * These things are other than in gRPC:
 *
 * - a `timeout` is the deadline of calls that set none; gRPC would also cut the longer ones;
 * - whether a failure is retried follows its origin and the method's idempotency, not the code alone;
 * - where there is no `retryThrottling`, extra attempts have the default budget; in gRPC they have none;
 * - RESOURCE_EXHAUSTED is retried only where the server says when, by pushback or RetryInfo;
 * - a retry whose wait would pass the deadline is not waited for: the call ends at once, with the status of its last
 *   attempt, where gRPC would wait and end it with DEADLINE_EXCEEDED.
 *
 * What balances load or checks health is the channel's: leave that in `grpc.service_config`, and take `retryPolicy` and
 * `hedgingPolicy` out of it, or attempts multiply.
 *
 * @param config The parsed JSON, or its text.
 * @throws InvalidOptionError naming what is wrong by its path, as
 *   `serviceConfig.methodConfig[0].retryPolicy.maxAttempts`.
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

/** One `methodConfig`, read. */
interface Entry {
  readonly timeoutMs: number | undefined;
  readonly waitForReady: boolean;
  readonly retry: ServiceConfigMethodPolicy["retry"];
  readonly hedge: ConfiguredHedge | undefined;
}

const noEntry: Entry = {
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
 * The entries by what they are for: `pkg.Service/Method`, `pkg.Service`, or nothing for the default.
 */
function entriesOf(
  root: JsonFields,
  budget: ConfiguredBudget | undefined,
  warn: Warn,
): ReadonlyMap<string, Entry> {
  const entries = new Map<string, Entry>();
  for (const method of root.objects("methodConfig")) {
    const names = method.list("name");
    if (names === undefined) throw new InvalidOptionError(method.at("name"), "an array", names);
    if (names.length === 0) warn(method.at("name"), "is empty, so the entry is for no method");
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

function entryOf(method: JsonFields, budget: ConfiguredBudget | undefined, warn: Warn): Entry {
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
 * The options of an entry. In a client policy they are laid over those of the service and the client, where in a
 * service config they stand alone: what an entry does not set has to be taken back.
 */
function policyOf(
  entry: Entry,
  broader: readonly (Entry | undefined)[],
): ServiceConfigMethodPolicy {
  const { timeoutMs, waitForReady, retry, hedge } = entry;
  const waitsAbove = broader.some((above) => above?.waitForReady === true);
  const timedAbove = broader.some((above) => above?.timeoutMs !== undefined);
  const hedgedAbove = broader.some((above) => above?.hedge !== undefined);
  // There is no word for no deadline at all; the longest there can be is as good.
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
