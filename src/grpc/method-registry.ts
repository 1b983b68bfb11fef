import type { IdempotencyLevel } from "../core/idempotency.js";
import { levelsIn, type MethodSource } from "./method-source.js";

/**
 * What the schema says of methods. grpc-js keeps the options of a method from interceptors, so they are read from
 * a definition once, while the weir is built.
 */
export class MethodRegistry {
  readonly #levels: ReadonlyMap<string, IdempotencyLevel>;

  /** Made with `methodRegistry`. */
  constructor(levels: ReadonlyMap<string, IdempotencyLevel>) {
    this.#levels = levels;
  }

  /**
   * The idempotency level of a method, `unknown` for one that no source tells of.
   *
   * @param path `/pkg.Service/Method`, with or without the slash in front.
   */
  levelOf(path: string): IdempotencyLevel {
    return this.#levels.get(path.startsWith("/") ? path.slice(1) : path) ?? "unknown";
  }
}

/**
 * Reads `idempotency_level` (google/protobuf/descriptor.proto, `MethodOptions`) out of any mix of sources. Where
 * two state a level for the same method, the later one counts; a schema that states none takes nothing back, an
 * `unknown` in a plain object does.
 *
 * Not every definition carries the options. Services of ts-proto's `outputServices=grpc-js` and of the static
 * grpc-tools generator do not, and are refused rather than read as unknown. For them, give the descriptor set:
 *
 * ```ts
 * // buf build -o descriptors.binpb
 * methodRegistry(readFileSync("descriptors.binpb"));
 * ```
 *
 * proto-loader loses the options of a descriptor set that it loads (`loadFileDescriptorSetFromBuffer`), but keeps
 * the descriptors, which are read here: both the package definition and the bytes themselves will do.
 *
 * @throws InvalidOptionError naming the position of a source that is none, such as `methodRegistry[1]`.
 */
export function methodRegistry(...sources: readonly MethodSource[]): MethodRegistry {
  const levels = new Map<string, IdempotencyLevel>();
  for (const [index, source] of sources.entries()) {
    for (const [path, level] of levelsIn(source, `methodRegistry[${index}]`)) {
      levels.set(path, level);
    }
  }
  return new MethodRegistry(levels);
}
