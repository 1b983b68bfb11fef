import { type IdempotencyLevel, idempotencyLevels, levelFromSchema } from "../core/idempotency.js";
import { InvalidOptionError, oneOf } from "../core/options.js";
import { levelsInDescriptors, type MethodLevels } from "./descriptor-levels.js";

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
export function levelsIn(source: unknown, at: string): MethodLevels {
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
