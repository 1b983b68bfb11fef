import {
  createFileRegistry,
  type DescField,
  type DescMessage,
  type FileRegistry,
  fromBinary,
  ScalarType,
} from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { policyDescriptor } from "../gen/weir/v1/policy_descriptor.js";

let registry: FileRegistry | undefined;

/** A message of `weir.v1`, by its name. */
export function messageNamed(name: string): DescMessage {
  registry ??= createFileRegistry(
    fromBinary(FileDescriptorSetSchema, base64Decode(policyDescriptor.join(""))),
  );
  const message = registry.getMessage(`weir.v1.${name}`);
  if (message === undefined) throw new Error(`weir.v1 has no message ${name}`);
  return message;
}

/** What a field of the schema is in the code. */
export interface FieldMeaning {
  /** The name of the option. */
  readonly option: string;
  /** The word that stands in the place of a value: `false`, or a text such as `together`. `undefined` for a value. */
  readonly word: string | false | undefined;
}

const durationName = "google.protobuf.Duration";

/** By the rules in the head of the schema. */
export function meaningOf(field: DescField): FieldMeaning {
  // A word is told by its name: that of another member of the same choice, and the word behind it.
  const base = field.oneof?.fields.find(
    (other) => other !== field && field.name.startsWith(`${other.name}_`),
  );
  if (base === undefined) {
    return { option: isInMs(field) ? `${field.jsonName}Ms` : field.jsonName, word: undefined };
  }
  const word = field.name.slice(base.name.length + 1).replaceAll("_", "-");
  return { option: meaningOf(base).option, word: word === "off" ? false : word };
}

function isInMs({ message }: DescField): boolean {
  return message?.typeName === durationName || message?.typeName === "weir.v1.DurationRange";
}

export function isDuration(message: DescMessage): boolean {
  return message.typeName === durationName;
}

export function isNumber(scalar: ScalarType): boolean {
  return scalar !== ScalarType.BOOL && scalar !== ScalarType.STRING;
}

export function isBoolean(scalar: ScalarType): boolean {
  return scalar === ScalarType.BOOL;
}

/** A field of a message by the name that JSON has for it; also by that of the schema, as protobuf's JSON allows. */
export function fieldNamed(message: DescMessage, name: string): DescField | undefined {
  return message.fields.find((field) => field.jsonName === name || field.name === name);
}
