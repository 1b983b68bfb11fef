import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { type IdempotencyLevel, levelFromSchema } from "../core/idempotency.js";

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
export function levelsInDescriptors(bytes: Uint8Array): MethodLevels {
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
