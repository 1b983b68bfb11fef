import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import {
  type MethodRegistry,
  type MethodSource,
  methodRegistry,
} from "../policies/idempotency/client-registry.js";
import type { IdempotencyLevel } from "../policies/idempotency/levels.js";
import { givenSchema, schemaFlags } from "./given-schema.js";
import { initUsage } from "./init-usage.js";
import { CommandError, readArguments, refusing, type Terminal, UsageError } from "./terminal.js";

/**
 * Writes a document of policies to begin with, from the schemas of a server.
 *
 * @throws CommandError for wrong arguments, schemas that cannot be read, and a file that is there already.
 */
export async function init(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = readArguments(args, {
    ...schemaFlags,
    proto: { type: "string", multiple: true },
    force: { type: "boolean" },
  });
  if (values.help === true) {
    terminal.stdout.write(initUsage);
    return;
  }
  const [file = "policies.yaml", another] = positionals;
  if (another !== undefined) throw new UsageError("init writes one file");
  const { proto: protos = [], force = false } = values;
  const schema = await givenSchema(values);
  if (schema !== undefined && protos.length > 0) {
    throw new UsageError("give --descriptors, --reflect or --proto");
  }
  if (schema === undefined && protos.length === 0) {
    throw new UsageError("init needs schemas: --reflect, --descriptors or --proto");
  }
  const sources: readonly MethodSource[] =
    schema === undefined ? protos.flatMap(loadedProtos) : [schema.bytes];
  const from = schema?.name ?? protos.join(", ");
  const registry = refusing(from, () => methodRegistry(...sources));
  if (registry.services.size === 0) throw new CommandError(2, `${from} has no services`);
  if (!force && existsSync(file)) {
    throw new CommandError(1, `${file} is there already: name another file, or use --force`);
  }
  refusing(file, () => writeFileSync(file, documentFor(registry, from)));
  const methods = [...registry.services.values()].reduce((sum, { size }) => sum + size, 0);
  terminal.stdout.write(
    `${file}: ${methods} methods of ${[...registry.services.keys()].join(", ")}; all policies observe\n`,
  );
}

/** The definitions of a `.proto` file or of a folder of them, by the proto-loader of the project. */
function loadedProtos(path: string): readonly MethodSource[] {
  const isFolder = refusing(path, () => statSync(path).isDirectory());
  const files = isFolder
    ? readdirSync(path, { recursive: true, encoding: "utf8" }).filter((name) =>
        name.endsWith(".proto"),
      )
    : [basename(path)];
  const includeDirs = [isFolder ? path : dirname(path)];
  const loader = protoLoader();
  return files.map((name) =>
    refusing(name, () => loader.loadSync(name, { includeDirs, keepCase: true })),
  );
}

interface ProtoLoader {
  loadSync(file: string, options: object): Readonly<Record<string, object>>;
}

function protoLoader(): ProtoLoader {
  for (const from of [join(process.cwd(), "index.js"), import.meta.url]) {
    try {
      return createRequire(from)("@grpc/proto-loader") as ProtoLoader;
    } catch {
      // The next place may have it.
    }
  }
  throw new CommandError(
    2,
    "@grpc/proto-loader is not installed here: install it, or give --descriptors",
  );
}

const head = `# All of it observes: policies decide and count, and change no call. Attach it:
#
#   import { createWeir } from "grpc-weir";
#   import { fileSource } from "grpc-weir/config";
#   const weir = createWeir({ policies: fileSource("policies.yaml") });
#   // new …Client(address, credentials, weir.client()), new Server(weir.server())
#
# After a busy day, look at what would have been refused and how those calls ended: weir.observed(), or the metric
# weir.refusals with weir.enforced=false. Then take "mode: observe" away, one policy at a time. docs/observe-first.md
`;

const body = `client:
  # A deadline for calls that have none, from the 99th percentile of a healthy day. It is no policy that can observe, so it
  # is left out here. docs/deadlines.md
  # deadline: { default: 2s }
  #
  # Before you enforce: weir.decisions of the policy retry, by method. Does anything else retry these calls already (a service
  # config, a proxy, the caller)? docs/retries.md
  retry: { mode: observe }
  # Before you enforce: while all was well, next to nothing ended well that the breaker would have refused. docs/breaker.md
  breaker: { mode: observe }
server:
  # Before you enforce: calls whose time had run out were refused, and no others. docs/deadline-guard.md
  deadlineGuard: { mode: observe }
  # Before you enforce: weir.admission.limit stays above weir.admission.running on a normal day, and callers set priorities.
  # docs/admission.md, docs/priorities.md
  admission: { mode: observe }
`;

/** The document, with what the schemas say of each method. */
function documentFor(registry: MethodRegistry, from: string): string {
  const known: string[] = [];
  const unknown: string[] = [];
  for (const [service, methods] of registry.services) {
    for (const method of methods) {
      const name = `${service}/${method}`;
      const level = registry.levelOf(name);
      if (level === "unknown") {
        unknown.push(`  # - name: ${name}`, "  #   retry: { idempotent: true }");
      } else {
        known.push(
          `  # ${levelTexts[level]}`,
          `  - name: ${name}`,
          "    retry: { idempotent: true }",
        );
      }
    }
  }
  const asked =
    unknown.length === 0
      ? []
      : [
          "  # Of these the schema does not say whether they may run twice, so only attempts that no handler has seen are",
          "  # retried. If one may, say so in the schema (option idempotency_level = IDEMPOTENT), or here:",
          ...unknown,
        ];
  // A list without an item is written as such.
  const key = known.length === 0 ? "methods: []" : "methods:";
  return `# Policies for the services of ${from}.\n#\n${head}${body}${[key, ...known, ...asked].join("\n")}\n`;
}

const levelTexts: Readonly<Record<Exclude<IdempotencyLevel, "unknown">, string>> = {
  idempotent: "By its schema it may run twice.",
  "no-side-effects": "By its schema it changes nothing.",
};
