import { Buffer } from "node:buffer";
import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { PartialStatus } from "../types.js";

// grpc-js hands on whatever an interceptor gives for a status, and looks at it only where it is shown or sent. Its
// own `StatusBuilder` makes statuses without metadata, details or code. The toolkit reads statuses on their way, so
// each is made whole where it enters. One that is whole stays the object that it is.

/** The details of a status that is none at all. Its origin is `local-limit`: no server has said it. */
const noStatusText = "An interceptor ended the call without a status";

/**
 * A status that a call below has ended with, made whole: a missing code is UNKNOWN, missing details are empty, and
 * metadata of another kind become `Metadata` with the values that metadata can carry.
 */
export function receivedStatus(given: unknown): StatusObject {
  try {
    if (isWhole(given)) return given;
    return madeWhole(given);
  } catch {
    // A getter of somebody else's threw.
    return noStatus();
  }
}

/** The same for a status that a handler or a server interceptor sends. It may go without metadata. */
export function sentStatus(given: unknown): PartialStatus {
  try {
    if (isWhole(given) || isSendable(given)) return given;
    return madeWhole(given);
  } catch {
    return noStatus();
  }
}

/** What somebody else gave for metadata, as metadata. */
export function receivedMetadata(given: unknown): Metadata {
  if (isMetadata(given)) return given;
  const metadata = new Metadata();
  if (typeof given !== "object" || given === null) return metadata;
  const entries: readonly [string, unknown][] = Object.entries(given);
  for (const [key, value] of entries) {
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    for (const one of values) {
      if (typeof one !== "string" && !Buffer.isBuffer(one)) continue;
      try {
        metadata.add(key, one);
      } catch {
        // No metadata can carry it.
      }
    }
  }
  return metadata;
}

/** By what it can do: the metadata of another copy of grpc-js are as good. */
function isMetadata(given: unknown): given is Metadata {
  if (given instanceof Metadata) return true;
  if (typeof given !== "object" || given === null) return false;
  return (
    "get" in given &&
    typeof given.get === "function" &&
    "clone" in given &&
    typeof given.clone === "function"
  );
}

/** What may be a status. */
interface Loose {
  readonly code?: unknown;
  readonly details?: unknown;
  readonly metadata?: unknown;
}

function hasWords(given: unknown): given is Omit<StatusObject, "metadata"> {
  if (typeof given !== "object" || given === null) return false;
  const { code, details }: Loose = given;
  return Number.isInteger(code) && typeof details === "string";
}

// Asked in each layer, of a status that is whole as a rule.
function isWhole(given: unknown): given is StatusObject {
  if (!hasWords(given)) return false;
  const { metadata }: Loose = given;
  return isMetadata(metadata);
}

function isSendable(given: unknown): given is PartialStatus {
  return hasWords(given) && (!("metadata" in given) || (given.metadata ?? null) === null);
}

function madeWhole(given: unknown): StatusObject {
  if (typeof given !== "object" || given === null) return noStatus();
  const code =
    "code" in given && typeof given.code === "number" && Number.isInteger(given.code)
      ? given.code
      : undefined;
  const details =
    "details" in given && typeof given.details === "string" ? given.details : undefined;
  const message = given instanceof Error ? given.message : undefined;
  if (code === undefined && details === undefined && message === undefined) return noStatus();
  return {
    ...given,
    code: code ?? Status.UNKNOWN,
    details: details ?? message ?? "",
    metadata: receivedMetadata("metadata" in given ? given.metadata : undefined),
  };
}

function noStatus(): StatusObject {
  return { code: Status.UNKNOWN, details: noStatusText, metadata: new Metadata() };
}
