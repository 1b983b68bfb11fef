import { Metadata } from "@grpc/grpc-js";
import type { AdmissionLevel } from "../core/admission-level.js";
import { cohorts, isPriority, type Priority } from "../core/priority.js";
import { isIdempotencyKey } from "../policies/idempotency/levels.js";
import type { PartialStatus } from "./types.js";

/**
 * Request: the priority of the call, exactly `critical`, `high`, `normal` or `low`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/priorities.md
 */
export const priorityKey = "x-request-priority";
/**
 * Request: the order of load shedding inside a priority, a whole number from 0 to 127. Lower ones are shed first.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/priorities.md
 */
export const cohortKey = "x-request-cohort";
/** Request, on attempts after the first: how many attempts of the same call came before (gRFC A6). */
export const previousAttemptsKey = "grpc-previous-rpc-attempts";
/** Request: how many services above are retrying the call for which this one is made. */
export const retryDepthKey = "x-weir-retry-depth";
/**
 * Trailer: the client that received this status has retried the call or decided not to, and services above should not.
 * A client sets it in the status that the application gets, so that it travels with every copy of the metadata.
 */
export const retriesExhaustedKey = "x-weir-retries-exhausted";
/** Trailer: after how many milliseconds to retry; a negative value for not at all (gRFC A6). */
export const pushbackKey = "grpc-retry-pushback-ms";

/**
 * Request: the key of the call. A server that honours it runs the call once, however often it is sent. The name is that of
 * the IETF draft "The Idempotency-Key HTTP Header Field", in lower case.
 */
export const idempotencyKeyName = "idempotency-key";
/**
 * Trailer of every answer to a call with an idempotency key, from a server that honours keys: `honoured`, or `unprotected`
 * where its store has failed and the call may run twice.
 */
export const keyMarkName = "x-weir-idempotency";
/** Header and trailer of an answer that an earlier call with the same idempotency key was given: `true`. */
export const replayedName = "x-weir-replayed";

/** The idempotency key in the metadata of a call. */
type KeyInMetadata =
  | { readonly kind: "absent" }
  | { readonly kind: "invalid" }
  | { readonly kind: "key"; readonly key: string };

/** More than one key, and a key that {@link isIdempotencyKey} refuses, are invalid. */
export function readIdempotencyKey(metadata: Pick<Metadata, "get">): KeyInMetadata {
  const values = metadata.get(idempotencyKeyName);
  if (values.length === 0) return { kind: "absent" };
  const [key] = values;
  return values.length === 1 && isIdempotencyKey(key) ? { kind: "key", key } : { kind: "invalid" };
}

/**
 * A status without the marks of the two names above. Only the server that the caller has called may say that it honours
 * keys; a handler may have passed on the trailers of a call of its own.
 */
export function withoutKeyMarks(status: PartialStatus): PartialStatus {
  const given = status.metadata;
  if (given === undefined || given === null) return status;
  if (given.get(keyMarkName).length === 0 && given.get(replayedName).length === 0) return status;
  const metadata = given.clone();
  metadata.remove(keyMarkName);
  metadata.remove(replayedName);
  return { ...status, metadata };
}

/** The priority in the metadata. Exactly one valid value counts. */
export function readPriority(metadata: Metadata): Priority | "absent" | "invalid" {
  const values = metadata.get(priorityKey);
  if (values.length === 0) return "absent";
  const value = values[0];
  return values.length === 1 && isPriority(value) ? value : "invalid";
}

/** The cohort in the metadata; `undefined` for none, or for an invalid one. */
export function readCohort(metadata: Metadata): number | undefined {
  const values = metadata.get(cohortKey);
  const value = values[0];
  if (values.length !== 1 || typeof value !== "string" || !/^\d{1,3}$/.test(value))
    return undefined;
  const cohort = Number(value);
  return cohort < cohorts ? cohort : undefined;
}

/**
 * The server's pushback: the exact wait in milliseconds, or `stop` for no retry. `undefined` without pushback. Anything
 * but one int32 is `stop`, as gRFC A6 requires; grpc-js's own retries go on at once instead.
 */
export function readPushback(metadata: Metadata): number | "stop" | undefined {
  const values = metadata.get(pushbackKey);
  if (values.length === 0) return undefined;
  const value = values[0];
  if (values.length > 1 || typeof value !== "string" || !/^[+-]?\d{1,10}$/.test(value))
    return "stop";
  const ms = Number(value) + 0; // a wait of "-0" is 0
  return ms >= 0 && ms <= 0x7fff_ffff ? ms : "stop";
}

/** How many attempts the caller says came before this one; 0 for the first, or for an invalid value. */
export function readPreviousAttempts(metadata: Metadata): number {
  return readCount(metadata, previousAttemptsKey);
}

/** How many services above the caller says are retrying; 0 for none, or for an invalid value. */
export function readRetryDepth(metadata: Metadata): number {
  return readCount(metadata, retryDepthKey);
}

function readCount(metadata: Metadata, key: string): number {
  const values = metadata.get(key);
  const value = values[0];
  if (values.length !== 1 || typeof value !== "string" || !/^\d{1,4}$/.test(value)) return 0;
  return Number(value);
}

/**
 * Trailer of every answer while the server sheds load: the level from which on it refuses calls, and for how many
 * milliseconds that holds, as `v=1;level=3;ttl-ms=1000`. {@link AdmissionLevel} explains levels. A later version may
 * add fields.
 */
export const admissionKey = "x-weir-admission";

/** Longer values are ignored. */
const maxLength = 128;
/** A longer time is shortened to this, in milliseconds. */
const maxTtlMs = 2_000;
const field = /^([a-z][a-z-]{0,15})=([\w.-]{1,32})$/;

export function formatAdmission({ level, ttlMs }: AdmissionLevel): string {
  return `v=1;level=${level};ttl-ms=${ttlMs}`;
}

/** The level in the trailers of a server. A malformed, repeated or too long value counts as absent. */
export function readAdmission(metadata: Metadata): AdmissionLevel | undefined {
  const values = metadata.get(admissionKey);
  const value = values[0];
  if (values.length !== 1 || typeof value !== "string" || value.length > maxLength) {
    return undefined;
  }
  const fields = new Map<string, string>();
  for (const part of value.split(";")) {
    const [, name, text] = field.exec(part) ?? [];
    if (name === undefined || text === undefined || fields.has(name)) return undefined;
    fields.set(name, text);
  }
  if (fields.get("v") !== "1") return undefined;
  const level = fields.get("level") ?? "";
  const ttl = fields.get("ttl-ms") ?? "";
  // From the first rank that can be shed to the end of the last.
  if (!/^(?:[1-3](?:\.\d{1,4})?|4)$/.test(level) || !/^[1-9]\d{0,5}$/.test(ttl)) return undefined;
  return { level: Number(level), ttlMs: Math.min(Number(ttl), maxTtlMs) };
}

/** Metadata in which a policy of this process has set the level. */
const ownAdmission = new WeakSet<Metadata>();

/** Notes that the level in the metadata is this server's. */
export function noteOwnAdmission(metadata: Metadata): void {
  ownAdmission.add(metadata);
}

/** Whether the level is this server's, and not that of a service below. */
export function isOwnAdmission(metadata: Metadata): boolean {
  return ownAdmission.has(metadata);
}

/**
 * The trailers that this server sends: with its own level, if it sheds load, and without the level of a service below
 * whose status a handler passes on. The given metadata are not changed.
 */
export function withAdmission(
  metadata: Metadata | undefined,
  admission: string | undefined,
): Metadata | undefined {
  const foreign =
    metadata !== undefined && metadata.get(admissionKey).length > 0 && !ownAdmission.has(metadata);
  if (admission === undefined && !foreign) return metadata;
  const own = metadata?.clone() ?? new Metadata();
  if (admission === undefined) own.remove(admissionKey);
  else {
    own.set(admissionKey, admission);
    noteOwnAdmission(own);
  }
  return own;
}
