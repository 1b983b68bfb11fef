import {
  type DescField,
  type DescMessage,
  fromBinary,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { InvalidOptionError, isRecord } from "../core/options.js";
import type { PolicyDocument, Position } from "./document.js";
import { fieldNamed, isDuration, messageNamed } from "./schema.js";

/** The number of the extensions `weir.v1.method` and `weir.v1.service` (`proto/weir/v1/options.proto`). */
const optionNumber = 51_930;

const optionsFile = "weir/v1/options.proto";
/** What protobufjs calls the extension. */
const methodOption = "(weir.v1.method)";

/** The document of one schema: the options of services (`pkg.Service`) and methods (`pkg.Service/Method`), by name. */
export type SchemaDocument = PolicyDocument & { readonly value: Readonly<Record<string, unknown>> };

/**
 * What a source of `methodRegistry` states in options of `weir.v1`, in the JSON form of protobuf. The source has been read by
 * `methodRegistry` before, which refuses what is no schema.
 *
 * @param at The position of the source, for error messages.
 */
export function documentsIn(source: unknown, at: string): readonly SchemaDocument[] {
  if (source instanceof Uint8Array) return inDescriptors([source], at);
  if (Array.isArray(source)) return inDescriptors(source, at);
  if (typeof source === "function")
    return documentsIn((source as { service?: unknown }).service, at);
  if (!isRecord(source)) return [];
  const { fileDescriptor, fullName, methods } = source;
  if (isRecord(fileDescriptor)) return inMetadata(fileDescriptor, entry(source, "options"));
  if (typeof fullName === "string" && isRecord(methods)) return inDefinition(fullName, methods, at);
  return inLoaded(source);
}

function inDescriptors(all: readonly Uint8Array[], at: string): readonly SchemaDocument[] {
  const files = all.flatMap(filesIn);
  const imports = new Map(files.map(({ name, dependency }) => [name, dependency]));
  const found: SchemaDocument[] = [];
  for (const file of files) {
    // Others may use the number for something else.
    if (!reaches(file.name, imports, new Set())) continue;
    const stated = new Map<string, unknown>();
    const paths = new Map<string, readonly number[]>();
    const note = (name: string, path: readonly number[], value: unknown) => {
      if (value === undefined) return;
      stated.set(name, value);
      paths.set(name, path);
    };
    for (const [index, service] of file.service.entries()) {
      const name = file.package === "" ? service.name : `${file.package}.${service.name}`;
      // Numbers of fields in google/protobuf/descriptor.proto: service, its options, its methods, and theirs.
      note(name, [6, index, 3, optionNumber], decoded("ServiceOptions", service.options, at));
      for (const [number, method] of service.method.entries()) {
        const path = [6, index, 2, number, 4, optionNumber];
        note(`${name}/${method.name}`, path, decoded("MethodOptions", method.options, at));
      }
    }
    if (stated.size === 0) continue;
    found.push({
      name: file.name,
      value: Object.fromEntries(stated),
      positionOf: ([name]) => positionIn(file, paths.get(String(name))),
    });
  }
  return found;
}

/** The files of a serialized `FileDescriptorSet`, or the one that a serialized `FileDescriptorProto` is. */
function filesIn(bytes: Uint8Array): readonly FileDescriptorProto[] {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    // A set has no other field than its files.
    if (number > 1) return [fromBinary(FileDescriptorProtoSchema, bytes)];
    reader.skip(wireType, number);
  }
  return fromBinary(FileDescriptorSetSchema, bytes).file;
}

/** Whether a file imports the options, itself or through others. */
function reaches(
  file: string,
  imports: ReadonlyMap<string, readonly string[]>,
  seen: Set<string>,
): boolean {
  if (seen.has(file)) return false;
  seen.add(file);
  return (imports.get(file) ?? []).some(
    (each) => each === optionsFile || reaches(each, imports, seen),
  );
}

/** The extension in the options of a descriptor, as JSON; `undefined` without it. */
function decoded(message: string, options: Message | undefined, at: string): unknown {
  const given = options?.$unknown?.filter(({ no }) => no === optionNumber) ?? [];
  return given.length === 0
    ? undefined
    : decodedBytes(
        message,
        given.map(({ data }) => data),
        at,
      );
}

/** @param parts Each with its length in front, as in the message around it. They count as one message. */
function decodedBytes(message: string, parts: readonly Uint8Array[], at: string): unknown {
  const schema = messageNamed(message);
  try {
    const bytes = parts.map((part) => new BinaryReader(part).bytes());
    return toJson(schema, fromBinary(schema, Buffer.concat(bytes)));
  } catch {
    const rule = `a schema whose option ${optionNumber} is a weir.v1.${message}`;
    throw new InvalidOptionError(at, rule, "bytes that do not decode");
  }
}

/** The place of an option in its file, where the compiler has noted it: the first part of it that was written. */
function positionIn(
  { sourceCodeInfo }: FileDescriptorProto,
  path: readonly number[] | undefined,
): Position | undefined {
  if (path === undefined) return undefined;
  const found = sourceCodeInfo?.location.find(
    (each) =>
      each.path.length >= path.length && path.every((part, index) => part === each.path[index]),
  );
  const [line, column] = found?.span ?? [];
  return line === undefined || column === undefined
    ? undefined
    : { line: line + 1, column: column + 1 };
}

/** The `protoMetadata` of ts-proto's `outputSchema`, with messages that the generated code has decoded. */
function inMetadata(
  file: Readonly<Record<string, unknown>>,
  options: unknown,
): readonly SchemaDocument[] {
  const { name, package: pkg, dependency } = file;
  if (!Array.isArray(dependency) || !dependency.includes(optionsFile)) return [];
  const stated: Record<string, unknown> = {};
  const prefix = typeof pkg === "string" && pkg !== "" ? `${pkg}.` : "";
  for (const [service, its] of entriesOf(entry(options, "services"))) {
    const ofService = entry(entry(its, "options"), "service");
    if (ofService !== undefined) {
      stated[`${prefix}${service}`] = jsonOf(messageNamed("ServiceOptions"), ofService, "object");
    }
    for (const [method, ofMethod] of entriesOf(entry(its, "methods"))) {
      const value = entry(ofMethod, "method");
      if (value === undefined) continue;
      stated[`${prefix}${service}/${method}`] = jsonOf(
        messageNamed("MethodOptions"),
        value,
        "object",
      );
    }
  }
  return documentOf(String(name), stated);
}

/** A definition of ts-proto's `outputServices=generic-definitions`, whose methods keep options as bytes, by tag. */
function inDefinition(
  service: string,
  methods: Readonly<Record<string, unknown>>,
  at: string,
): readonly SchemaDocument[] {
  const stated: Record<string, unknown> = {};
  const tag = String((optionNumber << 3) | WireType.LengthDelimited);
  for (const method of Object.values(methods)) {
    const name = entry(method, "name");
    const parts = entry(entry(entry(method, "options"), "_unknownFields"), tag);
    if (!Array.isArray(parts)) continue;
    const bytes: readonly Uint8Array[] = parts.filter((part) => part instanceof Uint8Array);
    stated[`${service}/${String(name)}`] = decodedBytes("MethodOptions", bytes, at);
  }
  return documentOf(service, stated);
}

/** A package or a service of proto-loader, with options as protobufjs has parsed them. */
function inLoaded(source: Readonly<Record<string, unknown>>): readonly SchemaDocument[] {
  return Object.values(source).flatMap((each) => {
    if (typeof entry(each, "path") === "string") return inLoadedMethods([each]);
    return isRecord(each) ? inLoadedMethods(Object.values(each)) : [];
  });
}

function inLoadedMethods(methods: readonly unknown[]): readonly SchemaDocument[] {
  return methods.flatMap((method) => {
    const path = entry(method, "path");
    const value = entry(entry(method, "options"), methodOption);
    if (typeof path !== "string" || value === undefined) return [];
    const name = path.replace(/^\//, "");
    const [service = ""] = name.split("/");
    return documentOf(service, { [name]: jsonOf(messageNamed("MethodOptions"), value, "text") });
  });
}

function documentOf(
  name: string,
  value: Readonly<Record<string, unknown>>,
): readonly SchemaDocument[] {
  return Object.keys(value).length === 0 ? [] : [{ name, value, positionOf: () => undefined }];
}

/** How a message was decoded: as an object with the shape of the message, or as parsed from protobuf's text format. */
type Form = "object" | "text";

/** The JSON form of a message that somebody else has decoded. What the schema does not know stays, and is refused later. */
function jsonOf(schema: DescMessage, given: unknown, form: Form): unknown {
  if (!isRecord(given)) return given;
  const json: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    // ts-proto's `oneof=unions`: `{ retryChoice: { $case: "retry", retry: … } }`, or with `value`.
    const member = entry(value, "$case");
    const [known, inside] =
      typeof member === "string"
        ? [member, entry(value, member) ?? entry(value, "value")]
        : [name, value];
    const field = fieldNamed(schema, known);
    const read = field === undefined ? inside : jsonValue(field, inside, form);
    if (read !== undefined) json[known] = read;
  }
  return json;
}

/** `undefined` for what is as good as absent. */
function jsonValue(field: DescField, value: unknown, form: Form): unknown {
  const one = (item: unknown) =>
    field.message === undefined
      ? numberOf(item)
      : isDuration(field.message)
        ? durationText(item)
        : jsonOf(field.message, item, form);
  switch (field.fieldKind) {
    case "list": {
      const items: readonly unknown[] = Array.isArray(value) ? value : [value];
      return items.length === 0 ? undefined : items.map(one);
    }
    case "map": {
      const entries = mapEntries(value, form);
      if (entries.length === 0) return undefined;
      return Object.fromEntries(entries.map(([key, item]) => [key, one(item)]));
    }
    case "scalar":
    case "enum":
    case "message":
      // A text that is not optional, and was not given.
      return value === "" && field.name === "name" ? undefined : one(value);
  }
}

function mapEntries(value: unknown, form: Form): readonly (readonly [string, unknown])[] {
  if (value instanceof Map) {
    return [...value].map(([key, item]: [unknown, unknown]) => [String(key), item]);
  }
  if (form === "object") return entriesOf(value);
  const entries: readonly unknown[] = Array.isArray(value) ? value : [value];
  return entries.map((each) => [String(entry(each, "key")), entry(each, "value")]);
}

/** `0.3s`, of seconds and nanoseconds. What is no such message stays. */
function durationText(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const { seconds = 0, nanos = 0 } = value;
  const sum = Number(numberOf(seconds)) + Number(nanos) / 1e9;
  return Number.isFinite(sum) ? `${Number(sum.toFixed(9))}s` : value;
}

/** Numbers of 64 bits may be of another type. */
function numberOf(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  const toNumber = entry(value, "toNumber");
  return typeof toNumber === "function" ? Number(toNumber.call(value)) : value;
}

function entry(value: unknown, name: string): unknown {
  return isRecord(value) ? value[name] : undefined;
}

function entriesOf(value: unknown): readonly (readonly [string, unknown])[] {
  return isRecord(value) ? Object.entries(value) : [];
}
