import { posix } from "node:path";
import { factsOf, packageOf } from "./module-facts.js";

type Layer =
  | "gen"
  | "core"
  | "grpc"
  | "client"
  | "server"
  | "telemetry"
  | "stores"
  | "testing"
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

/** An import may only point down; client, server and telemetry stand side by side. */
const rules: Readonly<Record<Layer, LayerRule>> = {
  gen: { below: [], unknown: [node, otel] },
  core: { below: [], unknown: [node, grpc, otel] },
  stores: { below: ["core"], unknown: [grpc, otel] },
  grpc: { below: ["core", "gen"], unknown: [otel] },
  client: { below: ["core", "grpc", "stores"], unknown: [otel] },
  server: { below: ["core", "grpc"], unknown: [otel] },
  telemetry: { below: ["core", "grpc"], unknown: [] },
  testing: { below: ["core", "grpc", "gen"], unknown: [otel] },
  // The only file that knows everything; the test kit is no part of what runs in production.
  weir: { below: ["core", "grpc", "client", "server", "telemetry", "stores"], unknown: [] },
  entry: {
    below: ["core", "grpc", "client", "server", "telemetry", "stores", "testing", "weir"],
    unknown: [otel],
  },
};

/** Who may take time and chance from the process, and why it must. Everyone else is handed them. */
export const exemptFromPorts: Readonly<Record<string, { names: readonly string[]; why: string }>> =
  {
    "core/clock.ts": {
      names: ["performance.now", "Date.now", "setTimeout", "setImmediate"],
      why: "it is the port",
    },
    "core/random.ts": { names: ["Math.random"], why: "it is the port" },
    "testing/virtual-clock.ts": {
      names: ["setImmediate"],
      why: "virtual time moves only when a real turn of the loop has drained all that is due",
    },
    "testing/loopback.ts": {
      names: ["node:timers/promises"],
      why: "it joins client and server over real sockets, where time is real",
    },
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
    if (targetLayer === layer && layer !== "entry") return undefined;
    return rules[layer].below.includes(targetLayer)
      ? undefined
      : `${layer} may not import ${targetLayer}`;
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

function layerOf(file: string, pkg: Package): Layer | undefined {
  const [folder = "", ...rest] = file.split("/");
  if (rest.length === 0) {
    if (file === "weir.ts") return "weir";
    return pkg.entries.includes(file) ? "entry" : undefined;
  }
  // `weir` and `entry` are single files, not folders.
  const isLayer = folder in rules && folder !== "weir" && folder !== "entry";
  return isLayer ? (folder as Layer) : undefined;
}
