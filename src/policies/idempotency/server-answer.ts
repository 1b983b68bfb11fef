import { Buffer } from "node:buffer";
import { Metadata, type MetadataValue, status as Status } from "@grpc/grpc-js";
import type { CompleteAnswer } from "../../grpc/context/inbound-call.js";

/** A value of metadata in JSON: text, or bytes in base64. */
type Value = string | readonly [string];
type Entries = readonly (readonly [string, readonly Value[]])[];

/** What stands before the message of a stored answer. A later version may add fields. */
interface Head {
  readonly v: 1;
  readonly code: Status;
  readonly details: string;
  readonly headers?: Entries;
  readonly trailers?: Entries;
  /** A message follows. */
  readonly message?: true;
  /** The answer was too large: it says only that the call has run. */
  readonly tooLarge?: true;
}

/** A stored answer, or that there was one which was too large to be stored. */
export type StoredAnswer = CompleteAnswer | "too large";

/** How many bytes hold the length of the head. */
const lengthBytes = 4;

/** An answer as a store keeps it: the length of the head in four bytes, the head in JSON, and the message. */
export function encodeAnswer({ headers, message, status }: CompleteAnswer): Uint8Array {
  const { code, details, metadata } = status;
  return encode(
    {
      v: 1,
      code,
      details: details ?? "",
      ...(headers === undefined ? {} : { headers: entriesOf(headers) }),
      ...(metadata === undefined || metadata === null ? {} : { trailers: entriesOf(metadata) }),
      ...(message === undefined ? {} : { message: true }),
    },
    message,
  );
}

/** What is stored in place of an answer that is too large. */
export function encodeTooLarge({ status }: CompleteAnswer): Uint8Array {
  return encode({ v: 1, code: status.code, details: "", tooLarge: true }, undefined);
}

/** @throws Error for what {@link encodeAnswer} has not written. */
export function decodeAnswer(stored: Uint8Array): StoredAnswer {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  const messageAt = lengthBytes + bytes.readUInt32BE(0);
  if (messageAt > bytes.length) throw new RangeError("a stored answer is cut off");
  const head: unknown = JSON.parse(bytes.toString("utf8", lengthBytes, messageAt));
  if (!isHead(head)) throw new TypeError("a stored answer is of another version");
  if (head.tooLarge === true) return "too large";
  const { code, details, headers, trailers, message } = head;
  return {
    headers: headers === undefined ? undefined : metadataOf(headers),
    message: message === true ? bytes.subarray(messageAt) : undefined,
    status: { code, details, metadata: metadataOf(trailers ?? []) },
  };
}

function encode(head: Head, message: Uint8Array | undefined): Uint8Array {
  const text = Buffer.from(JSON.stringify(head));
  const length = Buffer.alloc(lengthBytes);
  length.writeUInt32BE(text.length);
  return Buffer.concat(message === undefined ? [length, text] : [length, text, message]);
}

function entriesOf(metadata: Metadata): Entries {
  return Object.keys(metadata.getMap()).map((key) => [key, metadata.get(key).map(storable)]);
}

function storable(value: MetadataValue): Value {
  return typeof value === "string" ? value : [value.toString("base64")];
}

function metadataOf(entries: Entries): Metadata {
  const metadata = new Metadata();
  for (const [key, values] of entries) {
    for (const value of values) {
      metadata.add(key, typeof value === "string" ? value : Buffer.from(value[0], "base64"));
    }
  }
  return metadata;
}

function isHead(head: unknown): head is Head {
  if (typeof head !== "object" || head === null) return false;
  const {
    v,
    code,
    details,
    headers = [],
    trailers = [],
  }: Partial<Record<keyof Head, unknown>> = head;
  return (
    v === 1 &&
    typeof code === "number" &&
    Status[code] !== undefined &&
    typeof details === "string" &&
    areEntries(headers) &&
    areEntries(trailers)
  );
}

function areEntries(given: unknown): given is Entries {
  return Array.isArray(given) && given.every(isEntry);
}

function isEntry(given: unknown): boolean {
  if (!Array.isArray(given)) return false;
  const [key, values]: readonly unknown[] = given;
  return typeof key === "string" && Array.isArray(values) && values.every(isValue);
}

function isValue(given: unknown): given is Value {
  return typeof given === "string" || (Array.isArray(given) && typeof given[0] === "string");
}
