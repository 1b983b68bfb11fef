import type { Metadata } from "@grpc/grpc-js";
import { cohorts } from "../core/cohort.js";
import { isPriority, type Priority } from "../core/priority.js";

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
