import { JsonFields } from "../core/json-fields.js";
import { nearest } from "../core/nearest.js";
import { statusCode, statusNames } from "../core/status.js";
import { layClient, layOver, type OptionData, type PolicySet } from "../pipeline/policy-set.js";
import type { MethodRegistry } from "../policies/idempotency/client-registry.js";
import { defaultBaseMs } from "../policies/retry/backoff.js";
import type { DocumentPath } from "./document.js";
import type { MappedPolicies } from "./mapping.js";

/** What is legal and unwise. Each has a section in docs/lints.md. */
export const lintRules = [
  "backoff-exceeds-deadline",
  "attempts-exceed-deadline",
  "breaker-outlasts-deadline",
  "idempotent-for-all",
  "idempotent-against-schema",
  "hedge-never-made",
  "retry-without-idempotency",
  "attempts-multiply",
  "timeout-exceeds-parent",
  "threshold-never-acts",
  "service-config-retries",
  "unknown-method",
] as const;

export type LintRule = (typeof lintRules)[number];

/** Something unwise, and where it is written. */
export interface Lint {
  readonly rule: LintRule;
  readonly path: DocumentPath;
  readonly message: string;
  /** The name that was probably meant. */
  readonly suggestion?: string | undefined;
}

/** What lints may know beside the document. */
export interface LintSurroundings {
  /** What the schemas say of methods. */
  readonly registry?: MethodRegistry | undefined;
  /** The policies in the schemas of services, which hold where the document says nothing. */
  readonly schema?: PolicySet | undefined;
  /** The parsed gRPC service config that clients are given. */
  readonly serviceConfig?: unknown;
}

/** The options that hold for all methods, a service or a method, with the places from which they come. */
interface Scope {
  /** For people. */
  readonly name: string;
  /** `pkg.Service/Method` or `pkg.Service`; empty for the client. */
  readonly key: string;
  /** The paths of the entries that make it up, the narrowest first: `client.methods["…"]`, `client`. */
  readonly entries: readonly string[];
  readonly options: OptionData;
}

/** What is unwise in valid policies, each once, in the order of the document. */
export function lintsOf(found: MappedPolicies, around: LintSurroundings = {}): readonly Lint[] {
  const lints = new Map<string, Lint>();
  const reporting =
    (scope: Scope) => (rule: LintRule, options: readonly string[], message: string) => {
      const path = placeOf(found, scope, options);
      const key = `${rule} ${JSON.stringify(path)}`;
      // What holds for the client holds for its methods, and is told once.
      if (path !== undefined && !lints.has(key)) lints.set(key, { rule, path, message });
    };
  for (const scope of scopesOf(found, around.schema)) {
    const report = reporting(scope);
    ofTime(scope, report);
    ofDepth(scope, report);
    ofIdempotency(scope, report, around.registry);
    if (around.serviceConfig !== undefined) ofServiceConfig(scope, report, around.serviceConfig);
  }
  for (const [name, options] of Object.entries(found.guards)) {
    const entry = `guard("${name}")`;
    const scope = { name: `guard ${name}`, key: name, entries: [entry], options };
    // A guard has no retries and no breaker unless it says so.
    const explicit = { ...scope, options: { retry: false, breaker: false, ...options } };
    ofGuardTime(explicit, reporting(scope));
    ofDepth(explicit, reporting(scope));
  }
  const server = { name: "the server", key: "", entries: ["server"], options: found.server };
  ofServer(server, reporting(server));
  const unknown = around.registry === undefined ? [] : unknownMethods(found, around.registry);
  return [...lints.values(), ...unknown];
}

/**
 * Names of services and methods that the schemas do not have. A service of another name than all that are known may be that of
 * somebody else; only one that is nearly the name of a known one is told.
 */
function unknownMethods(
  { methods, server, places }: MappedPolicies,
  { services }: MethodRegistry,
): readonly Lint[] {
  const given = [
    ...Object.keys(methods).map((name) => ["client.methods", name] as const),
    ...keysOf(server, "priority", "methodDefaults"),
    ...keysOf(server, "idempotency", "methods"),
  ];
  return given.flatMap(([option, name]) => {
    const path = places.get(`${option}["${name}"]`) ?? [];
    const [service = "", method] = name.split("/");
    const known = services.get(service);
    const rule = "unknown-method";
    if (known === undefined) {
      const suggestion = nearest(service, [...services.keys()]);
      const message = `${name}: the schemas have no such service`;
      return suggestion === undefined ? [] : [{ rule, path, message, suggestion }];
    }
    if (method === undefined || known.has(method)) return [];
    const all = [...known];
    const message = `${name}: no such method; ${service} has ${all.join(", ")}`;
    return [{ rule, path, message, suggestion: nearest(method, all) }];
  });
}

/** The names of methods by which an option of the server is given. */
function keysOf(server: OptionData, policy: string, option: string) {
  const named = policyIn(server, policy)?.[option];
  const names = typeof named === "object" && named !== null ? Object.keys(named) : [];
  return names.map((name) => [`server.${policy}.${option}`, name] as const);
}

/** @param options The options that make it unwise. It is told at the first that the document has. */
type Report = (rule: LintRule, options: readonly string[], message: string) => void;

function scopesOf(
  { client, methods: own }: MappedPolicies,
  schema: PolicySet | undefined,
): readonly Scope[] {
  const ofClient: Scope = { name: "all methods", key: "", entries: ["client"], options: client };
  const laid: WithMethods =
    schema === undefined ? {} : layClient(schema, { ...client, methods: own });
  const { methods = own } = laid;
  const names = Object.keys(methods).sort(
    (a, b) => Number(a.includes("/")) - Number(b.includes("/")),
  );
  const scopes = names.map((name): Scope => {
    const service = name.includes("/") ? name.slice(0, name.indexOf("/")) : name;
    const chain = service === name ? [name] : [name, service];
    const known = chain.filter((each) => methods[each] !== undefined);
    const options = [...known]
      .reverse()
      .reduce((laid, each) => layOver(laid, methods[each] ?? {}), client);
    const entries = [...known.map((each) => `client.methods["${each}"]`), "client"];
    return { name, key: name, entries, options };
  });
  return [ofClient, ...scopes];
}

interface WithMethods {
  readonly methods?: Readonly<Record<string, OptionData>>;
}

/** The place of the first option that one of the entries has, the narrowest entry first. */
function placeOf(
  { places }: MappedPolicies,
  { entries }: Scope,
  options: readonly string[],
): DocumentPath | undefined {
  for (const option of options) {
    for (const entry of entries) {
      const place = places.get(`${entry}.${option}`);
      if (place !== undefined) return place;
    }
  }
  return undefined;
}

/** The options of a policy; `undefined` where it is left out. Retries and breakers are on where nobody says so. */
function policyIn(options: OptionData, name: string): OptionData | undefined {
  const given = options[name] ?? (name === "retry" || name === "breaker" ? {} : undefined);
  return typeof given === "object" && given !== null ? (given as OptionData) : undefined;
}

function numberIn(options: OptionData | undefined, name: string): number | undefined {
  const value = options?.[name];
  return typeof value === "number" ? value : undefined;
}

function ofTime(scope: Scope, report: Report): void {
  const { name, options } = scope;
  const timeouts = policyIn(options, "timeouts");
  const deadlineMs = Math.min(
    numberIn(policyIn(options, "deadline"), "defaultMs") ?? Infinity,
    numberIn(timeouts, "totalMs") ?? Infinity,
  );
  const deadline = ["deadline.defaultMs", "timeouts.totalMs"];
  const retry = policyIn(options, "retry");
  const attempts = retry === undefined ? 1 : (numberIn(retry, "maxAttempts") ?? 3);
  const attemptMs = numberIn(timeouts, "attemptMs");
  const parents = { callMs: deadlineMs, attemptMs: attemptMs ?? Infinity, attempts };
  ofParents(scope, parents, report);
  if (deadlineMs === Infinity) return;
  const backoff = retry === undefined ? undefined : policyIn(retry, "backoff");
  const waitMs = waitsMs(attempts, backoff);
  if (attempts > 1 && waitMs >= deadlineMs) {
    report(
      "backoff-exceeds-deadline",
      ["retry.backoff", "retry.maxAttempts", ...deadline],
      `${name}: the waits before ${attempts} attempts are up to ${Math.round(waitMs)} ms, and the deadline is ${deadlineMs} ms: the last attempts are never made`,
    );
  }
  if (attemptMs !== undefined && attempts > 1 && attempts * attemptMs > deadlineMs) {
    report(
      "attempts-exceed-deadline",
      ["timeouts.attemptMs", "retry.maxAttempts", ...deadline],
      `${name}: ${attempts} attempts of ${attemptMs} ms are ${attempts * attemptMs} ms, and the deadline is ${deadlineMs} ms`,
    );
  }
  const breaker = policyIn(options, "breaker");
  const openMs = numberIn(breaker, "openMs");
  const longestMs = numberIn(breaker, "maxOpenMs") ?? (openMs === undefined ? 0 : 3 * openMs);
  if (longestMs > deadlineMs) {
    report(
      "breaker-outlasts-deadline",
      ["breaker.maxOpenMs", "breaker.openMs"],
      `${name}: the breaker stays open for up to ${longestMs} ms, and the deadline is ${deadlineMs} ms: no call that waits lives to see it close`,
    );
  }
}

/** Timeouts and waits that something broader ends first, and rules of a breaker that no call can break. */
function ofParents(
  { name, options }: Scope,
  parents: { readonly callMs: number; readonly attemptMs: number; readonly attempts: number },
  report: Report,
): void {
  const { callMs, attemptMs, attempts } = parents;
  const children = [
    // Several attempts are a matter of `attempts-exceed-deadline`.
    ...(attempts > 1 ? [] : ["timeouts.attemptMs"]),
    "timeouts.firstResponseMs",
    "timeouts.connectionMs",
    "hedge.delayMs",
    "bulkhead.maxWaitMs",
    "bulkhead.streams.maxWaitMs",
    "rate.maxWaitMs",
    "fallback.staleCache.timeoutMs",
  ];
  for (const child of children) {
    const [policy = "", ...path] = child.split(".");
    const [last = "", inside] = path.toReversed();
    const around = policyIn(options, policy);
    const ms = numberIn(inside === undefined ? around : around && policyIn(around, inside), last);
    if (ms === undefined || ms < callMs) continue;
    report(
      "timeout-exceeds-parent",
      [child],
      `${name}: ${child} is ${ms} ms, and the call ends after ${callMs} ms: it never acts`,
    );
  }
  const boundMs = Math.min(callMs, attemptMs);
  const breaker = policyIn(options, "breaker");
  for (const rule of ["slowMs", "inFlightMs"]) {
    const ms = numberIn(breaker, rule);
    if (ms === undefined || ms < boundMs) continue;
    report(
      "threshold-never-acts",
      [`breaker.${rule}`],
      `${name}: breaker.${rule} is ${ms} ms, and an attempt ends after ${boundMs} ms: no call takes that long`,
    );
  }
}

function ofGuardTime(scope: Scope, report: Report): void {
  const timeouts = policyIn(scope.options, "timeouts");
  const callMs = numberIn(timeouts, "totalMs") ?? Infinity;
  const attemptMs = numberIn(timeouts, "attemptMs") ?? Infinity;
  ofParents(scope, { callMs, attemptMs, attempts: 1 }, report);
}

/** Services above that retry, too: the attempts of all of them multiply. */
function ofDepth({ name, options }: Scope, report: Report): void {
  const retry = policyIn(options, "retry");
  const depth = numberIn(retry, "maxDepth") ?? 1;
  const attempts = numberIn(retry, "maxAttempts") ?? 3;
  if (retry === undefined || depth === 1 || attempts === 1) return;
  report(
    "attempts-multiply",
    ["retry.maxDepth", "retry.maxAttempts"],
    `${name}: ${attempts} attempts in each of ${depth} layers of services that retry are up to ${attempts ** depth} for one call`,
  );
}

/** Thresholds of a server that no load reaches before calls are refused anyway. */
function ofServer({ options }: Scope, report: Report): void {
  const admission = policyIn(options, "admission");
  const limit = numberIn(admission, "limit");
  if (admission !== undefined && limit !== undefined) {
    const maxQueued =
      numberIn(admission, "maxWaitMs") === 0 ? 0 : (numberIn(admission, "maxQueued") ?? limit);
    const places = limit + maxQueued;
    const highest = (places - 1) / places;
    for (const priority of ["low", "normal", "high"]) {
      const threshold = numberIn(policyIn(admission, "thresholds"), priority);
      // At 1 the document says that there is none.
      if (threshold === undefined || threshold === 1 || highest >= threshold) continue;
      report(
        "threshold-never-acts",
        [`admission.thresholds.${priority}`],
        `with ${places} places for calls the load is ${highest.toFixed(2)} at most while one is free, and the threshold for ${priority} is ${threshold}`,
      );
    }
  }
  const queue = policyIn(admission ?? {}, "queue") ?? {};
  const { overflow = "evict-lowest", order = "priority" } = queue as {
    overflow?: string;
    order?: string;
  };
  const only = [
    ["maxAgeMs", "overflow", "age-out", overflow],
    ["targetMs", "order", "adaptive-lifo", order],
  ] as const;
  for (const [number, word, needed, given] of only) {
    if (numberIn(queue, number) === undefined || given === needed) continue;
    report(
      "threshold-never-acts",
      [`admission.queue.${number}`],
      `admission.queue.${number} is only for the ${word} ${needed}, and the ${word} is ${given}`,
    );
  }
  const optional = policyIn(policyIn(options, "brownout") ?? {}, "optional") ?? {};
  for (const work of Object.keys(optional)) {
    if (numberIn(policyIn(optional, work), "skipAbovePressure") !== 1) continue;
    report(
      "threshold-never-acts",
      [
        `brownout.optional.${work}.skipAbovePressure`,
        `brownout.optional["${work}"].skipAbovePressure`,
      ],
      `${work} is skipped above a pressure of 1, and the pressure is 1 at most`,
    );
  }
}

/** The waits before all retries together, without jitter. */
function waitsMs(attempts: number, backoff: OptionData | undefined): number {
  const baseMs = numberIn(backoff, "baseMs") ?? defaultBaseMs;
  const maxMs = numberIn(backoff, "maxMs") ?? 2_000;
  const multiplier = numberIn(backoff, "multiplier") ?? 2;
  let sum = 0;
  for (let retry = 0; retry < attempts - 1; retry += 1) {
    sum += Math.min(maxMs, baseMs * multiplier ** retry);
  }
  return sum;
}

function ofIdempotency(
  { name, key, options }: Scope,
  report: Report,
  registry: MethodRegistry | undefined,
): void {
  const retry = policyIn(options, "retry");
  const { idempotent } = (retry ?? {}) as { readonly idempotent?: unknown };
  if (key === "" && idempotent === true) {
    report(
      "idempotent-for-all",
      ["retry.idempotent"],
      "says of every method, also of those to come, that it may run twice",
    );
  }
  if (policyIn(options, "hedge") !== undefined && runsOnce(options, key, registry)) {
    report(
      "hedge-never-made",
      ["hedge", "retry.idempotent"],
      idempotent === false
        ? `${name}: is hedged only where it may run twice, and retry.idempotent says that it may not`
        : `${name}: is hedged only where it may run twice, and no option, schema or idempotency key says so`,
    );
  }
  const codes = (retry as { readonly codes?: readonly unknown[] } | undefined)?.codes ?? [];
  // Those of a server that has not run its handler are retried for every method.
  const always: readonly unknown[] = [statusCode.unavailable, statusCode.resourceExhausted];
  const useless = codes
    .filter((code) => !always.includes(code))
    .map((code) => statusNames[Number(code)]);
  if (useless.length > 0 && runsOnce(options, key, registry)) {
    report(
      "retry-without-idempotency",
      ["retry.codes"],
      `${name}: ${useless.join(", ")} of a method that is not known to be idempotent is never retried, because its handler may have run`,
    );
  }
  if (key.includes("/") && idempotent === true && registry?.levelOf(key) === "unknown") {
    report(
      "idempotent-against-schema",
      ["retry.idempotent"],
      `${name}: may run twice by this file, and has no idempotency_level in its schema`,
    );
  }
}

/** Whether it is known of all methods that no schema, option or key lets them run twice. */
function runsOnce(options: OptionData, key: string, registry: MethodRegistry | undefined): boolean {
  const { idempotent } = (policyIn(options, "retry") ?? {}) as { readonly idempotent?: unknown };
  if (idempotent !== undefined) return idempotent === false;
  if (registry === undefined || policyIn(options, "idempotencyKey") !== undefined) return false;
  const [service = ""] = key.split("/");
  const known = [...registry.services].filter(([name]) => key === "" || name === service);
  const methods = key.includes("/")
    ? [key]
    : known.flatMap(([name, all]) => [...all].map((method) => `${name}/${method}`));
  return methods.length > 0 && methods.every((each) => registry.levelOf(each) === "unknown");
}

function ofServiceConfig({ name, key, options }: Scope, report: Report, config: unknown): void {
  const retry = policyIn(options, "retry");
  const hedge = policyIn(options, "hedge");
  // A call is hedged or retried, never both.
  const retries = retry === undefined ? 1 : (numberIn(retry, "maxAttempts") ?? 3);
  const hedges = hedge === undefined ? 1 : (numberIn(hedge, "maxAttempts") ?? 2);
  const attempts = Math.max(retries, hedges);
  if (attempts === 1) return;
  const ofPolicy =
    hedges > retries ? ["hedge.maxAttempts", "hedge"] : ["retry.maxAttempts", "retry"];
  for (const entry of new JsonFields("serviceConfig", config).objects("methodConfig")) {
    const policy = entry.object("retryPolicy") ?? entry.object("hedgingPolicy");
    const there = policy?.get("maxAttempts");
    if (typeof there !== "number") continue;
    for (const its of entry.objects("name")) {
      const service = textIn(its, "service");
      const method = textIn(its, "method");
      const theirs = method === "" ? service : `${service}/${method}`;
      const covers = theirs === "" || theirs === key || key.startsWith(`${theirs}/`);
      if (!covers && key !== "") continue;
      report(
        "service-config-retries",
        [...ofPolicy, "breaker", "deadline"],
        `${name}: the service config makes up to ${there} attempts${theirs === "" ? "" : ` of ${theirs}`}, and the policy ${attempts}: together ${there * attempts}`,
      );
    }
  }
}

function textIn(fields: JsonFields, name: string): string {
  const value = fields.get(name);
  return typeof value === "string" ? value : "";
}
