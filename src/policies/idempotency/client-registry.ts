import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { InvalidOptionError, oneOf } from "../../core/options.js";
import { type IdempotencyLevel, idempotencyLevels, levelFromSchema } from "./levels.js";

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

/**
 * What can tell of the options of methods. The shapes are those of the generators and loaders, described by what
 * is read of them, so that none has to be installed:
 *
 * - a serialized `FileDescriptorSet`, or the `fileDescriptorProtos` of proto-loader;
 * - levels by method, `{ "pkg.Service/Method": "idempotent" }`;
 * - a package definition of proto-loader, a service of it, or a client constructor made of it;
 * - a service definition of ts-proto's `outputServices=generic-definitions`;
 * - the `protoMetadata` of ts-proto's `outputSchema`, with its file descriptor.
 */
export type MethodSource =
  | Uint8Array
  | readonly Uint8Array[]
  | Readonly<Record<string, IdempotencyLevel>>
  | Readonly<Record<string, object>>
  | { readonly service: object }
  | { readonly fullName: string; readonly methods: object }
  | { readonly fileDescriptor: object };

/** Whatever a source may have of what is looked for. Nothing of it is certain before it is looked at. */
interface Shape {
  readonly fileDescriptor?: unknown;
  readonly fullName?: unknown;
  readonly methods?: unknown;
  readonly service?: unknown;
  readonly package?: unknown;
  readonly method?: unknown;
  readonly name?: unknown;
  readonly path?: unknown;
  readonly options?: unknown;
  readonly requestType?: unknown;
  readonly fileDescriptorProtos?: unknown;
  readonly idempotencyLevel?: unknown;
  readonly idempotency_level?: unknown;
}

type Levels = Map<string, IdempotencyLevel>;

const rule =
  "a serialized FileDescriptorSet, a package or service of proto-loader, a generic definition or protoMetadata " +
  "of ts-proto, or levels by pkg.Service/Method";
const noOptionsRule =
  "a definition that carries method options. ts-proto's outputServices=grpc-js leaves them out: give the " +
  "serialized FileDescriptorSet of `buf build -o` or `protoc --descriptor_set_out` instead";

/**
 * The levels that a source states. Methods of which a schema says nothing are left out.
 *
 * @param at Where the source stands, for errors.
 * @throws InvalidOptionError when it is no source, or one that cannot carry options.
 */
function levelsIn(source: unknown, at: string): MethodLevels {
  if (source instanceof Uint8Array) return decoded([source], at);
  if (Array.isArray(source)) return decoded(source, at);
  if (!isShape(source)) throw new InvalidOptionError(at, rule, source);
  const { fileDescriptor, fullName, methods, service } = source;
  if (typeof source === "function") {
    if (!isShape(service)) throw new InvalidOptionError(at, rule, "a function");
    return loaded(service, at);
  }
  if (isShape(fileDescriptor)) return ofFileDescriptor(fileDescriptor);
  if (typeof fullName === "string" && isShape(methods)) {
    return ofMethods(fullName, Object.values(methods), new Map());
  }
  if (isShape(service) && Object.keys(source).length === 1) return loaded(service, at);
  const named = Object.entries(source).some(
    ([name, value]) => name.includes("/") || typeof value === "string",
  );
  return named ? stated(source, at) : loaded(source, at);
}

function decoded(descriptors: readonly unknown[], at: string): Levels {
  const levels: Levels = new Map();
  for (const bytes of descriptors) {
    if (!(bytes instanceof Uint8Array)) throw new InvalidOptionError(at, rule, bytes);
    try {
      for (const [path, level] of levelsInDescriptors(bytes)) levels.set(path, level);
    } catch {
      throw new InvalidOptionError(at, rule, `${bytes.length} bytes that do not decode`);
    }
  }
  return levels;
}

/** What a person wrote down. Here `unknown` is a statement too: it takes back what a schema says. */
function stated(source: object, at: string): Levels {
  const levels: Levels = new Map();
  const entries: readonly (readonly [string, unknown])[] = Object.entries(source);
  for (const [name, value] of entries) {
    const path = /^\/?([\w.]+\/\w+)$/.exec(name)?.[1];
    if (path === undefined) {
      throw new InvalidOptionError(`${at}["${name}"]`, "named pkg.Service/Method", name);
    }
    levels.set(path, oneOf(`${at}["${name}"]`, value, idempotencyLevels));
  }
  return levels;
}

/** What proto-loader made: a package of services and messages, or one service. */
function loaded(source: object, at: string): Levels {
  const levels: Levels = new Map();
  // The types of a package share one list of descriptors: it is read once.
  const read = new Map<unknown, Levels>();
  const described = (type: unknown): Levels | undefined => {
    const descriptors = isShape(type) ? type.fileDescriptorProtos : undefined;
    if (!Array.isArray(descriptors)) return undefined;
    const found = read.get(descriptors) ?? decoded(descriptors, at);
    read.set(descriptors, found);
    return found;
  };
  const readMethod = ({ path, options, requestType }: Shape): void => {
    const name = String(path).replace(/^\//, "");
    // Of a descriptor set that it loads, proto-loader fills the options with defaults; its descriptors are whole.
    const inSchema = described(requestType);
    if (inSchema === undefined && !isShape(options)) {
      throw new InvalidOptionError(at, noOptionsRule, `${name} without options`);
    }
    const inOptions = isShape(options) ? levelFromSchema(options.idempotency_level) : "unknown";
    const level = inOptions === "unknown" ? inSchema?.get(name) : inOptions;
    if (level !== undefined) levels.set(name, level);
  };
  for (const entry of Object.values(source)) {
    if (isMethod(entry)) readMethod(entry);
    else if (!isType(entry)) {
      const methods: readonly unknown[] = isShape(entry) ? Object.values(entry) : [entry];
      for (const method of methods) {
        if (!isMethod(method)) throw new InvalidOptionError(at, rule, source);
        readMethod(method);
      }
    }
  }
  return levels;
}

function ofMethods(service: string, methods: readonly unknown[], levels: Levels): Levels {
  for (const method of methods) {
    if (!isShape(method)) continue;
    const { name, options } = method;
    const level = isShape(options) ? levelFromSchema(options.idempotencyLevel) : "unknown";
    if (level !== "unknown") levels.set(`${service}/${String(name)}`, level);
  }
  return levels;
}

function ofFileDescriptor({ package: pkg, service: services }: Shape): Levels {
  const levels: Levels = new Map();
  const prefix = typeof pkg === "string" && pkg !== "" ? `${pkg}.` : "";
  for (const service of Array.isArray(services) ? services : []) {
    if (isShape(service) && Array.isArray(service.method)) {
      ofMethods(`${prefix}${String(service.name)}`, service.method, levels);
    }
  }
  return levels;
}

/** A message or an enum of a package that proto-loader made. */
function isType(value: unknown): boolean {
  return isShape(value) && Array.isArray(value.fileDescriptorProtos);
}

function isMethod(value: unknown): value is Shape {
  return isShape(value) && typeof value.path === "string";
}

function isShape(value: unknown): value is Shape {
  if (typeof value === "function") return true;
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Idempotency levels by `pkg.Service/Method`. */
export type MethodLevels = ReadonlyMap<string, IdempotencyLevel>;

// Field numbers of google/protobuf/descriptor.proto. Six of them are all that is needed, and unlike a
// registry of files, reading them does not ask for the imports of a file to be there.
const setFile = 1;
const filePackage = 2;
const fileService = 6;
const serviceName = 1;
const serviceMethod = 2;
const methodName = 1;
const methodOptions = 4;
const optionsIdempotencyLevel = 34;

/** A field that is one of bytes, text or message; or a number. Others are skipped. */
interface Field {
  readonly number: number;
  readonly value: Uint8Array | number;
}

/**
 * The levels that a serialized `FileDescriptorSet` or a single `FileDescriptorProto` states. Methods that state
 * none are left out.
 *
 * @throws RangeError or Error when the bytes are no protobuf message.
 */
function levelsInDescriptors(bytes: Uint8Array): MethodLevels {
  const levels = new Map<string, IdempotencyLevel>();
  const fields = fieldsOf(bytes);
  // A set has files in field 1 and nothing else of its own; a file has its name there, and more beside it.
  const isFile = fields.some(({ number }) => number > setFile && number < 100);
  for (const file of isFile ? [fields] : messages(fields, setFile)) {
    const pkg = text(file, filePackage);
    for (const service of messages(file, fileService)) {
      const name = text(service, serviceName);
      const fullName = pkg === "" ? name : `${pkg}.${name}`;
      for (const method of messages(service, serviceMethod)) {
        const level = levelOfMethod(method);
        if (level !== "unknown") levels.set(`${fullName}/${text(method, methodName)}`, level);
      }
    }
  }
  return levels;
}

function levelOfMethod(method: readonly Field[]): IdempotencyLevel {
  let level: IdempotencyLevel = "unknown";
  for (const options of messages(method, methodOptions)) {
    for (const { number, value } of options) {
      if (number === optionsIdempotencyLevel) level = levelFromSchema(value);
    }
  }
  return level;
}

function messages(fields: readonly Field[], wanted: number): Field[][] {
  const found: Field[][] = [];
  for (const { number, value } of fields) {
    if (number === wanted && typeof value !== "number") found.push(fieldsOf(value));
  }
  return found;
}

function text(fields: readonly Field[], wanted: number): string {
  // Of a field that should stand once and stands twice, the last counts.
  const field = fields.findLast(({ number }) => number === wanted);
  return field === undefined || typeof field.value === "number"
    ? ""
    : new TextDecoder().decode(field.value);
}

function fieldsOf(bytes: Uint8Array): Field[] {
  const reader = new BinaryReader(bytes);
  const fields: Field[] = [];
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (wireType === WireType.LengthDelimited) fields.push({ number, value: reader.bytes() });
    else if (wireType === WireType.Varint) fields.push({ number, value: reader.int32() });
    else reader.skip(wireType, number);
  }
  return fields;
}
