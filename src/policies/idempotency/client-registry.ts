import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { InvalidOptionError, oneOf } from "../../core/options.js";
import { type IdempotencyLevel, idempotencyLevels, levelFromSchema } from "./levels.js";

/**
 * The idempotency levels of methods, as the schema states them. grpc-js does not show the options of a method to
 * interceptors, so they are read from a definition, once, while the weir is built.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export class MethodRegistry {
  readonly #levels: Levels;
  /** The methods of each service whose schema was given. */
  readonly #services: ReadonlyMap<string, ReadonlySet<string>>;

  /** @internal Use {@link methodRegistry}. */
  constructor(levels: Levels, services: ReadonlyMap<string, ReadonlySet<string>>) {
    this.#levels = levels;
    this.#services = services;
  }

  /**
   * The idempotency level of a method; `unknown` if no source states one.
   *
   * @param path `/pkg.Service/Method`, with or without the slash in front.
   */
  levelOf(path: string): IdempotencyLevel {
    return this.#levels.get(path.startsWith("/") ? path.slice(1) : path) ?? "unknown";
  }

  /** @internal The methods of each service whose schema was given. */
  get services(): ReadonlyMap<string, ReadonlySet<string>> {
    return this.#services;
  }

  /**
   * Refuses a method that its service does not have, as far as the service is known.
   *
   * @internal
   * @param option The option that names the method, for the error.
   * @param name `pkg.Service/Method`, or the name of a service, which is not checked.
   */
  check(option: string, name: string): void {
    const [service = "", method] = name.split("/");
    const methods = this.#services.get(service);
    if (method === undefined || methods === undefined || methods.has(method)) return;
    throw new InvalidOptionError(
      option,
      `a method of ${service}: ${[...methods].join(", ")}`,
      name,
    );
  }
}

/**
 * Reads `idempotency_level` (`MethodOptions` in google/protobuf/descriptor.proto) from any mix of sources. If two sources
 * state a level for the same method, the later one counts. A schema without a level does not change an earlier one; an
 * `unknown` in a plain object does.
 *
 * Some definitions do not contain method options: services of ts-proto's `outputServices=grpc-js` and of the static
 * grpc-tools generator. They are refused, because reading them as `unknown` would hide that. Give the descriptor set for
 * them:
 *
 * ```ts
 * // buf build -o descriptors.binpb
 * methodRegistry(readFileSync("descriptors.binpb"));
 * ```
 *
 * proto-loader drops the options of a descriptor set that it loads (`loadFileDescriptorSetFromBuffer`), but keeps the
 * descriptors, which are read instead: both the package definition and the bytes themselves work.
 *
 * @throws InvalidOptionError for a source of another shape, naming its position, such as `methodRegistry[1]`.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export function methodRegistry(...sources: readonly MethodSource[]): MethodRegistry {
  return registryOf(sources, "methodRegistry");
}

/**
 * {@link methodRegistry} for another function that takes the sources.
 *
 * @param name That of the function, for error messages.
 */
export function registryOf(sources: readonly MethodSource[], name: string): MethodRegistry {
  const levels: MutableLevels = new Map();
  const services = new Map<string, Set<string>>();
  for (const [index, source] of sources.entries()) {
    const found = levelsIn(source, `${name}[${index}]`);
    layOver(levels, found.levels);
    if (!found.schema) continue;
    for (const path of found.levels.keys()) {
      const [service = "", method = ""] = path.split("/");
      services.set(service, (services.get(service) ?? new Set()).add(method));
    }
  }
  return new MethodRegistry(levels, services);
}

/**
 * A source of method options. The types describe only what is read of the output of generators and loaders, so that none
 * of them has to be installed:
 *
 * - a serialized `FileDescriptorSet`, or the `fileDescriptorProtos` of proto-loader;
 * - levels by method, `{ "pkg.Service/Method": "idempotent" }`;
 * - a package definition of proto-loader, a service of it, or a client constructor made of it;
 * - a service definition of ts-proto's `outputServices=generic-definitions`;
 * - the `protoMetadata` of ts-proto's `outputSchema`, with its file descriptor.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export type MethodSource =
  | Uint8Array
  | readonly Uint8Array[]
  | Readonly<Record<string, IdempotencyLevel>>
  | Readonly<Record<string, object>>
  | { readonly service: object }
  | { readonly fullName: string; readonly methods: object }
  | { readonly fileDescriptor: object };

/** The properties that a source may have. Each has to be checked before it is used. */
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

/** Idempotency levels by `pkg.Service/Method`; `undefined` for a method whose schema states none. */
type Levels = ReadonlyMap<string, IdempotencyLevel | undefined>;
type MutableLevels = Map<string, IdempotencyLevel | undefined>;

/** Adds levels. Where none is stated, an earlier one stays. */
function layOver(levels: MutableLevels, found: Levels): void {
  for (const [path, level] of found) {
    if (level !== undefined || !levels.has(path)) levels.set(path, level);
  }
}

const rule =
  "a serialized FileDescriptorSet, a package or service of proto-loader, a generic definition or protoMetadata " +
  "of ts-proto, or levels by pkg.Service/Method";
const noOptionsRule =
  "a definition that carries method options. ts-proto's outputServices=grpc-js leaves them out: give the " +
  "serialized FileDescriptorSet of `buf build -o` or `protoc --descriptor_set_out` instead";

/**
 * The levels that a source states, and whether it is a schema, which has all methods of its services.
 *
 * @param at The position of the source, for error messages.
 * @throws InvalidOptionError for a value of another shape, or a definition without method options.
 */
function levelsIn(
  source: unknown,
  at: string,
): { readonly levels: Levels; readonly schema: boolean } {
  if (isShape(source) && typeof source !== "function" && isStated(source)) {
    return { levels: stated(source, at), schema: false };
  }
  return { levels: levelsInSchema(source, at), schema: true };
}

/** A plain object of levels by method, and no schema. */
function isStated(source: Shape): boolean {
  if (source instanceof Uint8Array || isShape(source.fileDescriptor)) return false;
  if (typeof source.fullName === "string" && isShape(source.methods)) return false;
  return Object.entries(source).some(
    ([name, value]) => name.includes("/") || typeof value === "string",
  );
}

function levelsInSchema(source: unknown, at: string): Levels {
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
  return loaded(source, at);
}

function decoded(descriptors: readonly unknown[], at: string): Levels {
  const levels: MutableLevels = new Map();
  for (const bytes of descriptors) {
    if (!(bytes instanceof Uint8Array)) throw new InvalidOptionError(at, rule, bytes);
    try {
      layOver(levels, levelsInDescriptors(bytes));
    } catch {
      throw new InvalidOptionError(at, rule, `${bytes.length} bytes that do not decode`);
    }
  }
  return levels;
}

/** Levels by method, from a plain object. Here `unknown` counts: it replaces what a schema states. */
function stated(source: object, at: string): Levels {
  const levels: MutableLevels = new Map();
  const entries: readonly (readonly [string, unknown])[] = Object.entries(source);
  for (const [name, value] of entries) {
    const path = /^\/?([\w.]+\/\w+)$/.exec(name)?.[1];
    if (path === undefined) {
      throw new InvalidOptionError(`${at}["${name}"]`, "named pkg.Service/Method", name);
    }
    if (levels.has(path)) {
      throw new InvalidOptionError(`${at}["${name}"]`, `given once: ${path} is /${path}`, value);
    }
    levels.set(path, oneOf(`${at}["${name}"]`, value, idempotencyLevels));
  }
  return levels;
}

/** The output of proto-loader: a package of services and messages, or one service. */
function loaded(source: object, at: string): Levels {
  const levels: MutableLevels = new Map();
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
    // proto-loader replaces the options of a descriptor set by defaults; its descriptors keep them.
    const inSchema = described(requestType);
    if (inSchema === undefined && !isShape(options)) {
      throw new InvalidOptionError(at, noOptionsRule, `${name} without options`);
    }
    const inOptions = isShape(options) ? levelFromSchema(options.idempotency_level) : "unknown";
    const level = inOptions === "unknown" ? inSchema?.get(name) : inOptions;
    levels.set(name, level);
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

function ofMethods(service: string, methods: readonly unknown[], levels: MutableLevels): Levels {
  for (const method of methods) {
    if (!isShape(method)) continue;
    const { name, options } = method;
    const level = isShape(options) ? levelFromSchema(options.idempotencyLevel) : "unknown";
    levels.set(`${service}/${String(name)}`, statedLevel(level));
  }
  return levels;
}

function ofFileDescriptor({ package: pkg, service: services }: Shape): Levels {
  const levels: MutableLevels = new Map();
  const prefix = typeof pkg === "string" && pkg !== "" ? `${pkg}.` : "";
  for (const service of Array.isArray(services) ? services : []) {
    if (isShape(service) && Array.isArray(service.method)) {
      ofMethods(`${prefix}${String(service.name)}`, service.method, levels);
    }
  }
  return levels;
}

/** A message or an enum of a package of proto-loader. */
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

// Field numbers of google/protobuf/descriptor.proto. Reading these few by hand does not need the imports of a file, as a
// registry of files would.
const setFile = 1;
const filePackage = 2;
const fileService = 6;
const serviceName = 1;
const serviceMethod = 2;
const methodName = 1;
const methodOptions = 4;
const optionsIdempotencyLevel = 34;

/** A length-delimited field (bytes, text or message) or a varint. Fields of other wire types are skipped. */
interface Field {
  readonly number: number;
  readonly value: Uint8Array | number;
}

/**
 * The levels that a serialized `FileDescriptorSet` or `FileDescriptorProto` states.
 *
 * @throws RangeError or Error if the bytes are not a protobuf message.
 */
function levelsInDescriptors(bytes: Uint8Array): Levels {
  const levels: MutableLevels = new Map();
  const fields = fieldsOf(bytes);
  // Field 1 of a set holds its files, and is its only field. Field 1 of a file is its name, and it has others.
  const isFile = fields.some(({ number }) => number > setFile && number < 100);
  for (const file of isFile ? [fields] : messages(fields, setFile)) {
    const pkg = text(file, filePackage);
    for (const service of messages(file, fileService)) {
      const name = text(service, serviceName);
      const fullName = pkg === "" ? name : `${pkg}.${name}`;
      for (const method of messages(service, serviceMethod)) {
        levels.set(`${fullName}/${text(method, methodName)}`, statedLevel(levelOfMethod(method)));
      }
    }
  }
  return levels;
}

/** A schema that states `unknown` is the same as one that states nothing. */
function statedLevel(level: IdempotencyLevel): IdempotencyLevel | undefined {
  return level === "unknown" ? undefined : level;
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
  // If a field that should occur once occurs twice, the last one counts.
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
