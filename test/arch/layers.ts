import { posix } from "node:path";
import { computedName, factsOf, packageOf } from "./module-facts.js";

type Layer =
  | "gen"
  | "core"
  | "policies"
  | "grpc"
  | "client"
  | "server"
  | "pipeline"
  | "guard"
  | "telemetry"
  | "testing"
  | "lab"
  | "redis"
  | "viewer"
  | "config"
  | "cli"
  | "weir"
  | "entry";

interface LayerRule {
  /** The layers it may import from, besides itself. */
  readonly below: readonly Layer[];
  /** What it must not know, by module name. */
  readonly unknown: readonly RegExp[];
}

const node = /^node:/;
const grpc = /^@grpc\//;
const otel = /^@opentelemetry\//;

/**
 * An import may only point down. A file in `policies/<policy>/` belongs to a layer by its name: `client*` and `server*` are
 * the interceptors, every other file is pure.
 */
const rules: Readonly<Record<Layer, LayerRule>> = {
  gen: { below: [], unknown: [node, otel] },
  core: { below: [], unknown: [node, grpc, otel] },
  policies: { below: ["core"], unknown: [node, grpc, otel] },
  grpc: { below: ["core", "policies", "gen"], unknown: [otel] },
  client: { below: ["core", "policies", "grpc"], unknown: [otel] },
  server: { below: ["core", "policies", "grpc"], unknown: [otel] },
  pipeline: { below: ["core", "policies", "grpc", "client", "server"], unknown: [otel] },
  guard: { below: ["core", "policies", "grpc", "client"], unknown: [otel] },
  telemetry: { below: ["core", "policies", "grpc"], unknown: [] },
  testing: { below: ["core", "policies", "grpc", "gen"], unknown: [otel] },
  // It runs the real interceptors in virtual time, and reads what the process reader of the server shares with it. Of the
  // pipelines it knows the types of their options.
  lab: {
    below: ["core", "policies", "grpc", "server", "pipeline", "testing", "weir"],
    unknown: [otel],
  },
  // Stores that several processes share. It knows the ports of the policies, and no call.
  redis: { below: ["core", "policies"], unknown: [grpc, otel] },
  // It reads what others send, by the names that telemetry gives it, and takes no part in any call.
  viewer: { below: ["core", "gen", "telemetry"], unknown: [otel] },
  // Policies as data: it reads the schema, and asks the pipelines whether they would take the options.
  config: {
    below: ["core", "policies", "grpc", "client", "server", "pipeline", "guard", "gen"],
    unknown: [grpc, otel],
  },
  // The program that the package brings. It asks servers for their schemas.
  cli: {
    below: ["core", "policies", "grpc", "client", "redis", "viewer", "lab", "config", "gen"],
    unknown: [otel],
  },
  // The only file that knows everything; the test kit is no part of what runs in production.
  weir: {
    below: ["core", "policies", "grpc", "client", "server", "pipeline", "guard", "telemetry"],
    unknown: [],
  },
  entry: {
    below: [
      "core",
      "policies",
      "grpc",
      "client",
      "server",
      "pipeline",
      "guard",
      "telemetry",
      "testing",
      "redis",
      "viewer",
      "config",
      "weir",
    ],
    unknown: [otel],
  },
};

/**
 * The policies that a policy, and what is no pipeline, may import. Policies not named here know no other. The pipelines,
 * `weir.ts` and the entry points put policies together, so they know all of them.
 */
export const policiesKnownTo: Readonly<Record<string, readonly string[]>> = {
  "policies/admission": ["limits", "pressure"],
  "policies/brownout": ["fallback", "pressure"],
  "policies/flags": ["fallback"],
  "policies/retry": ["idempotency"],
  cli: ["flags", "idempotency"],
  config: ["fallback", "idempotency", "retry"],
  grpc: ["fallback", "faults", "flags", "idempotency", "retry"],
  guard: ["breaker", "bulkhead", "deadline", "retry"],
  lab: ["admission", "pressure"],
  redis: ["fallback", "flags", "idempotency", "rate-limit", "retry"],
};

/** Who may take time and chance from the process, and why it must. Everyone else is handed them. */
export const exemptFromPorts: Readonly<Record<string, { names: readonly string[]; why: string }>> =
  {
    "core/clock.ts": {
      names: ["performance.now", "Date.now", "setTimeout", "setImmediate", "Math.random"],
      why: "it is the port",
    },
    "lab/world.ts": {
      names: ["setImmediate"],
      why: "each piece of work of a virtual process is a task of the real event loop, which drains what it queued",
    },
    "testing/clock/virtual-clock.ts": {
      names: ["setImmediate"],
      why: "virtual time moves only when a real turn of the loop has drained all that is due",
    },
    "testing/loopback/loopback.ts": {
      names: ["node:timers/promises"],
      why: "it joins client and server over real sockets, where time is real",
    },
  };

/** Who may import a module whose name is computed, and why. */
const loadsOthers: Readonly<Record<string, string>> = {
  "cli/simulate.ts": "a scenario may be a module of the user",
};

const namelessNames = new Set(["util", "utils", "helper", "helpers", "manager", "managers"]);

export interface Package {
  readonly entries: readonly string[];
  readonly dependencies: readonly string[];
}

/** Every rule that a module breaks, as a sentence. `file` is relative to src, with forward slashes. */
export function violations(file: string, source: string, pkg: Package): string[] {
  const found: string[] = [];
  const layer = layerOf(file, pkg);
  if (layer === undefined) return ["stands in no layer: name it in the table of layers"];

  if (file.split(/[/.-]/).some((word) => namelessNames.has(word))) {
    found.push("is named for no concept");
  }
  const facts = factsOf(file, source);
  for (const specifier of facts.imports) {
    if (specifier === computedName && Object.hasOwn(loadsOthers, file)) continue;
    const wrong = wrongImport(file, layer, specifier, pkg);
    if (wrong !== undefined) found.push(`imports ${specifier}: ${wrong}`);
  }
  const exempt = exemptFromPorts[file]?.names ?? [];
  for (const { name, line } of facts.reaches) {
    if (layer === "gen" || exempt.includes(name)) continue;
    found.push(`reaches for ${name} on line ${line}; time and chance are handed in`);
  }
  return found;
}

function wrongImport(
  file: string,
  layer: Layer,
  specifier: string,
  pkg: Package,
): string | undefined {
  if (specifier.startsWith(".")) {
    const target = posix.join(posix.dirname(file), specifier).replace(/\.js$/, ".ts");
    if (target.startsWith("..")) return "it is outside of src";
    const targetLayer = layerOf(target, pkg);
    if (targetLayer === undefined) return "it stands in no layer";
    const down =
      targetLayer === layer ? layer !== "entry" : rules[layer].below.includes(targetLayer);
    if (!down) return `${layer} may not import ${targetLayer}`;
    return wrongPolicy(file, target);
  }
  const name = packageOf(specifier);
  const known = name ?? (specifier.startsWith("node:") ? specifier : `node:${specifier}`);
  // The entry point of telemetry is the one entry point that may name what telemetry stands on.
  const excused = file === "otel.ts" && otel.test(known);
  if (!excused && rules[layer].unknown.some((pattern) => pattern.test(known))) {
    return `${layer} must not know it`;
  }
  if (name !== undefined && !pkg.dependencies.includes(name)) {
    return "it is neither a dependency nor a peer dependency";
  }
  return undefined;
}

function wrongPolicy(file: string, target: string): string | undefined {
  const [, policy] = /^policies\/([\w-]+)\//.exec(target) ?? [];
  const from = sliceOf(file);
  if (policy === undefined || from === undefined || from === `policies/${policy}`) return undefined;
  return policiesKnownTo[from]?.includes(policy) === true
    ? undefined
    : `${from} may not import the policy ${policy}`;
}

/** Where a file stands in the table of policies; `undefined` where all of them may be known. */
export function sliceOf(file: string): string | undefined {
  const [folder = "", policy = "", ...rest] = file.split("/");
  if (policy === "" || folder === "pipeline") return undefined;
  return folder === "policies" && rest.length > 0 ? `policies/${policy}` : folder;
}

function layerOf(file: string, pkg: Package): Layer | undefined {
  const [folder = "", ...rest] = file.split("/");
  const name = rest.at(-1);
  if (name === undefined) {
    if (file === "weir.ts") return "weir";
    return pkg.entries.includes(file) ? "entry" : undefined;
  }
  if (folder === "policies") {
    if (rest.length === 1) return undefined;
    if (/^client\b/.test(name)) return "client";
    return /^server\b/.test(name) ? "server" : "policies";
  }
  return isFolderOfItsOwn(folder) ? folder : undefined;
}

/** `weir` and `entry` are single files, `client` and `server` are roles of files in `policies`. */
function isFolderOfItsOwn(folder: string): folder is Layer {
  return Object.hasOwn(rules, folder) && !["weir", "entry", "client", "server"].includes(folder);
}

/**
 * The import cycles among modules: each group of files that reach one another. `imports` has the files that each imports.
 */
export function cyclesIn(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const reached = new Map<string, ReadonlySet<string>>();
  for (const file of imports.keys()) {
    const seen = new Set<string>();
    const open = [...(imports.get(file) ?? [])];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      open.push(...(imports.get(next) ?? []));
    }
    reached.set(file, seen);
  }
  const cycles: string[][] = [];
  const told = new Set<string>();
  for (const [file, seen] of reached) {
    if (told.has(file) || !seen.has(file)) continue;
    const cycle = [...seen].filter((other) => reached.get(other)?.has(file) === true).sort();
    for (const each of cycle) told.add(each);
    cycles.push(cycle);
  }
  return cycles;
}
