import { Buffer } from "node:buffer";
import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { PartialStatus } from "../types.js";

// grpc-js hands on whatever an interceptor passes as a status: its own `StatusBuilder` makes statuses without metadata,
// details or code. The toolkit reads statuses, so each is completed where it arrives. A complete status stays the same
// object.

/** The details where an interceptor passed no status at all. The origin is `local-limit`. */
const noStatusText = "An interceptor ended the call without a status";

/**
 * Completes the status of a call below: a missing code becomes UNKNOWN, missing details become empty, and metadata that
 * are a plain object become `Metadata` with those of its values that metadata can carry.
 */
export function receivedStatus(given: unknown): StatusObject {
  try {
    if (isWhole(given)) return given;
    return madeWhole(given);
  } catch {
    // A getter of the status threw.
    return noStatus();
  }
}

/** Completes a status that a handler or a server interceptor sends. It may have no metadata. */
export function sentStatus(given: unknown): PartialStatus {
  try {
    if (isWhole(given) || isSendable(given)) return given;
    return madeWhole(given);
  } catch {
    return noStatus();
  }
}

/** Metadata as they are, and any other object as `Metadata` with those of its values that metadata can carry. */
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
        // The key or value is not allowed in metadata.
      }
    }
  }
  return metadata;
}

/** By its methods: the metadata of another copy of grpc-js are no instance of this one's class. */
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

/** A value that may be a status. */
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
