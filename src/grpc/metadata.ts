import { Metadata } from "@grpc/grpc-js";
import type { AdmissionLevel } from "../core/admission-level.js";
import { cohorts, isPriority, type Priority } from "../core/priority.js";

/** Request: how much the call matters. Exactly `critical`, `high`, `normal` or `low`. */
export const priorityKey = "x-request-priority";
/** Request: who inside a priority is shed first, a whole number from 0 to 127. */
export const cohortKey = "x-request-cohort";
/** Request: how many attempts of the same call came before, on attempts after the first (gRFC A6). */
export const previousAttemptsKey = "grpc-previous-rpc-attempts";
/** Request: how many services above are retrying the call that this one is made for. */
export const retryDepthKey = "x-weir-retry-depth";
/**
 * Trailer: the client that was given this status has retried the call, or decided not to, and nobody above should. A
 * client puts it into what it hands to the application, so that it travels with every copy of the metadata.
 */
export const retriesExhaustedKey = "x-weir-retries-exhausted";
/** Trailer: when to retry, in milliseconds, or not at all (gRFC A6). */
export const pushbackKey = "grpc-retry-pushback-ms";

/** What a priority key says: a priority, nothing, or something that is none. */
export function readPriority(metadata: Metadata): Priority | "absent" | "invalid" {
  const values = metadata.get(priorityKey);
  if (values.length === 0) return "absent";
  const [value] = values;
  return values.length === 1 && isPriority(value) ? value : "invalid";
}

/** The cohort that the caller names; `undefined` for none or for nonsense. */
export function readCohort(metadata: Metadata): number | undefined {
  const values = metadata.get(cohortKey);
  const [value] = values;
  if (values.length !== 1 || typeof value !== "string" || !/^\d{1,3}$/.test(value))
    return undefined;
  const cohort = Number(value);
  return cohort < cohorts ? cohort : undefined;
}

/**
 * What the server asks of retries: `undefined` nothing, `stop` do not retry, or the exact wait in
 * milliseconds. Anything but one int32 is `stop`, as gRFC A6 wants; grpc-js's own retries go on at once.
 */
export function readPushback(metadata: Metadata): number | "stop" | undefined {
  const values = metadata.get(pushbackKey);
  if (values.length === 0) return undefined;
  const [value] = values;
  if (values.length > 1 || typeof value !== "string" || !/^[+-]?\d{1,10}$/.test(value))
    return "stop";
  const ms = Number(value) + 0; // a wait of "-0" is 0
  return ms >= 0 && ms <= 0x7fff_ffff ? ms : "stop";
}

/** How many attempts came before this one, as the caller says; 0 for the first or for nonsense. */
export function readPreviousAttempts(metadata: Metadata): number {
  return readCount(metadata, previousAttemptsKey);
}

/** How many services above are retrying, as the caller says; 0 for none or for nonsense. */
export function readRetryDepth(metadata: Metadata): number {
  return readCount(metadata, retryDepthKey);
}

function readCount(metadata: Metadata, key: string): number {
  const values = metadata.get(key);
  const [value] = values;
  if (values.length !== 1 || typeof value !== "string" || !/^\d{1,4}$/.test(value)) return 0;
  return Number(value);
}

/**
 * Trailer: from which place on the server refuses calls at present, and how long that holds, on every answer while
 * it does: `v=1;level=3;ttl-ms=1000`. See {@link AdmissionLevel} for what a level is. More fields may follow.
 */
export const admissionKey = "x-weir-admission";

/** Longer values are nobody's. */
const maxLength = 128;
/** No word of a server holds longer, in milliseconds. */
const maxTtlMs = 2_000;
const field = /^([a-z][a-z-]{0,15})=([\w.-]{1,32})$/;

export function formatAdmission({ level, ttlMs }: AdmissionLevel): string {
  return `v=1;level=${level};ttl-ms=${ttlMs}`;
}

/** What a server says of the calls it would refuse. What is malformed, repeated or too long reads as absent. */
export function readAdmission(metadata: Metadata): AdmissionLevel | undefined {
  const values = metadata.get(admissionKey);
  const [value] = values;
  if (values.length !== 1 || typeof value !== "string" || value.length > maxLength) {
    return undefined;
  }
  const fields = new Map<string, string>();
  for (const part of value.split(";")) {
    const [, name, said] = field.exec(part) ?? [];
    if (name === undefined || said === undefined || fields.has(name)) return undefined;
    fields.set(name, said);
  }
  if (fields.get("v") !== "1") return undefined;
  const level = fields.get("level") ?? "";
  const ttl = fields.get("ttl-ms") ?? "";
  // From the first rank that can be refused to the end of the last.
  if (!/^(?:[1-3](?:\.\d{1,4})?|4)$/.test(level) || !/^[1-9]\d{0,5}$/.test(ttl)) return undefined;
  return { level: Number(level), ttlMs: Math.min(Number(ttl), maxTtlMs) };
}

/** Metadata to which a policy of this process has put a level. What a service below said is not among it. */
const toldHere = new WeakSet<Metadata>();

export function tellAdmission(metadata: Metadata, admission: string): void {
  metadata.set(admissionKey, admission);
  toldHere.add(metadata);
}

/** A policy of this process has put the level there. */
export function isToldHere(metadata: Metadata): boolean {
  return toldHere.has(metadata);
}

/**
 * The trailers of a status as they leave this server: with its own level, if it has one to say, and without that of
 * a service below whose status a handler passes on. What the handler has given is left as it is.
 */
export function withAdmission(
  metadata: Metadata | undefined,
  admission: string | undefined,
): Metadata | undefined {
  const foreign =
    metadata !== undefined && metadata.get(admissionKey).length > 0 && !toldHere.has(metadata);
  if (admission === undefined && !foreign) return metadata;
  const own = metadata?.clone() ?? new Metadata();
  if (admission === undefined) own.remove(admissionKey);
  else tellAdmission(own, admission);
  return own;
}
