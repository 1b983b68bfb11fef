import { readFileSync } from "node:fs";
import { InvalidOptionError } from "../core/options.js";
import type { PolicySet, SchemaPolicies, SchemaSource } from "../pipeline/policy-set.js";
import { type MethodSource, registryOf } from "../policies/idempotency/client-registry.js";
import { policySetOf } from "./check.js";
import { mappedOptions } from "./mapping.js";
import { documentsIn } from "./schema-options.js";

/**
 * What the owners of services say of their methods in the schema, for `createWeir({ schema: … })`: `option (weir.v1.method)` and
 * `option (weir.v1.service)` of `proto/weir/v1/options.proto`, and gRPC's `idempotency_level`. It is read when the weir is
 * created.
 *
 * Not all sources have all options: definitions of proto-loader and of ts-proto (`outputServices=generic-definitions`) have
 * those of methods, and not those of services. A descriptor set that proto-loader has loaded has none. Descriptor sets,
 * and `protoMetadata` of ts-proto's `outputSchema`, have all.
 *
 * @param sources Paths of serialized descriptor sets (`buf build -o schema.binpb`), and what `methodRegistry` takes. Where two
 *   say something of the same method, the later one counts.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export function schemaSource(...sources: readonly (string | MethodSource)[]): SchemaSource {
  if (sources.length === 0) throw new InvalidOptionError("schemaSource", "given a source", "none");
  return { name: "schema", read: () => policiesIn(sources) };
}

function policiesIn(sources: readonly (string | MethodSource)[]): SchemaPolicies {
  const given = sources.map((source, index) =>
    typeof source === "string" ? bytesOf(source, `schemaSource[${index}]`) : source,
  );
  const registry = registryOf(given, "schemaSource");
  const sets = given
    .flatMap((source, index) => documentsIn(source, `schemaSource[${index}]`))
    .map((document) => policySetOf(document, mappedOptions));
  // The last one comes first.
  const later = sets.toReversed();
  return {
    registry,
    client: {},
    guards: {},
    methods: Object.assign({}, ...sets.map(({ methods }) => methods)) as PolicySet["methods"],
    server: serverOf(sets),
    placeOf: (option) =>
      later.map((set) => set.placeOf(option)).find((place) => place !== undefined),
  };
}

function serverOf(sets: readonly PolicySet[]): PolicySet["server"] {
  const joined = (policy: string, option: string) => {
    const named = sets.map(({ server }) => (server[policy] as Record<string, object>)?.[option]);
    const all: object = Object.assign({}, ...named);
    return Object.keys(all).length === 0 ? {} : { [policy]: { [option]: all } };
  };
  return { ...joined("priority", "methodDefaults"), ...joined("idempotency", "methods") };
}

function bytesOf(path: string, option: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new InvalidOptionError(option, "a file that can be read", path, `cannot be read: ${why}`);
  }
}
