import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import {
  admissionKey,
  isToldHere,
  pushbackKey,
  readPushback,
  retriesExhaustedKey,
} from "../metadata.js";
import type { PartialStatus } from "../types.js";
import {
  dealtWithBelow,
  decodeStatusDetails,
  isLocal,
  oneHopFurther,
  passOnStatusDetails,
  rejectionDomain,
  rejectionOf,
  shareStatusDetails,
  statusDetailsKey,
} from "./rejection.js";
import { RefusalMetadata } from "./server-rejection.js";

// A handler may pass an error of its own call on in many ways: as it came, with a clone of its metadata, merged into
// others, through JSON, as an error of its own with the same words. What is known of it is therefore read off what it
// says, and off what the calls of the handler have failed with; the identity of an object is lost with the first copy.

/** Copies to which a server policy has added something, and what it stands for. */
const copiedFrom = new WeakMap<Metadata, Metadata>();

/** Notes that `copy` stands for what was given: a refusal stays one. */
export function noteCopied(copy: Metadata, given: Metadata): void {
  copiedFrom.set(copy, copiedFrom.get(given) ?? given);
}

/** A policy of this server has refused the call, or ended it, and no handler. */
export function isRefusedHere(metadata: Metadata): boolean {
  return RefusalMetadata.isOriginal(copiedFrom.get(metadata) ?? metadata);
}

/**
 * The status of a call after which the toolkit has given up retrying, as the application gets it: it says so, to
 * services above whose handlers pass it on. A status of this process's own says so already.
 */
export function retriesExhausted(status: StatusObject): StatusObject {
  if (status.code === Status.OK || isLocal(status)) return status;
  // A clone: an interceptor below may end many calls with one object.
  const metadata = status.metadata.clone();
  metadata.set(retriesExhaustedKey, "1");
  shareStatusDetails(status.metadata, metadata);
  return { ...status, metadata };
}

/** More than a handler's failed calls usually have to say. */
const maxRemembered = 16;

/** What the calls that a handler made have failed with, as far as it must not reach the handler's own caller. */
export class FailuresBelow {
  /** Waits that were asked for: of the handler, not of its caller. */
  readonly #waits = new Set<number | "stop">();
  /** Failures that were retried already, or must not be. */
  readonly #exhausted: { readonly code: Status; readonly details: string }[] = [];
  #forgot = false;

  note(status: Pick<StatusObject, "code" | "details"> & { readonly metadata?: unknown }): void {
    const metadata = metadataIn(status);
    if (metadata === undefined) return;
    this.#noteWait(readPushback(metadata));
    this.#noteWait(decodeStatusDetails(metadata).retryDelayMs);
    if (!dealtWithBelow(metadata, rejectionOf(status))) return;
    const { code, details } = status;
    if (this.#exhausted.length >= maxRemembered) this.#forgot = true;
    else if (!this.#exhausted.some((one) => one.code === code && one.details === details)) {
      this.#exhausted.push({ code, details });
    }
  }

  /** Whether a service below has asked for this wait. */
  askedFor(wait: number | "stop" | undefined): boolean {
    return wait !== undefined && (this.#forgot || this.#waits.has(wait));
  }

  /** Whether the handler's status is one of those that were retried below, in the same words or in a longer text. */
  exhausted({ code, details }: Pick<StatusObject, "code" | "details">): boolean {
    // What a handler gives as details is anything.
    const text = String(details);
    return this.#exhausted.some(
      (one) => one.code === code && (one.details === "" ? text === "" : text.includes(one.details)),
    );
  }

  #noteWait(wait: number | "stop" | undefined): void {
    if (wait === undefined) return;
    if (this.#waits.size >= maxRemembered && !this.#waits.has(wait)) this.#forgot = true;
    else this.#waits.add(wait);
  }
}

/** What is known of the inbound call whose status leaves. */
interface Answering {
  /** A policy of this server has answered it, and not its handler. */
  readonly answeredByPolicy: boolean;
  readonly failuresBelow: FailuresBelow | undefined;
}

/**
 * What a server sends for the status of its handler. What the handler has got from a service below was meant for the
 * handler's own call: pushback and RetryInfo are taken out, a refusal stays with its hops counted up, and where retries
 * are exhausted below, callers are told so. What the handler says itself is sent as it is.
 */
export function relayed(status: PartialStatus, call: Answering): PartialStatus {
  if (status.code === Status.OK || call.answeredByPolicy) return status;
  const given = metadataIn(status);
  // Something that is no metadata: sending it says so.
  if (given === undefined && status.metadata) return status;
  if (given !== undefined && isRefusedHere(given)) return status;
  const metadata = given ?? new Metadata();
  const below = call.failuresBelow;
  const marked = metadata.get(retriesExhaustedKey).length > 0;
  const exhausted = marked || below?.exhausted(status) === true;
  const pushback = readPushback(metadata);
  const hasDetails = metadata.get(statusDetailsKey).length > 0;
  const told = metadata.get(admissionKey).length > 0 && !isToldHere(metadata);
  if (!exhausted && pushback === undefined && !hasDetails && !told) return status;
  const details = decodeStatusDetails(metadata);
  const refusedBelow = oneHopFurther(details);
  const passedOn =
    exhausted ||
    told ||
    refusedBelow !== undefined ||
    isReceived(metadata) ||
    below?.askedFor(pushback) === true ||
    below?.askedFor(details.retryDelayMs) === true;
  if (!passedOn) return status;
  const errorInfo = refusedBelow ?? (exhausted ? exhaustedBelow : undefined);
  const kept = metadata.clone();
  kept.remove(pushbackKey);
  if (told) kept.remove(admissionKey);
  const bytes = passOnStatusDetails(metadata, status, rejectionDomain, errorInfo);
  if (bytes === "unreadable") {
    if (exhausted) kept.set(retriesExhaustedKey, "1");
    return { ...status, metadata: kept };
  }
  kept.remove(retriesExhaustedKey);
  if (bytes === undefined) kept.remove(statusDetailsKey);
  else kept.set(statusDetailsKey, bytes);
  return { ...status, metadata: kept };
}

/** What a server sends that passes everything on: all but what its own client has added. */
export function passedThrough(status: PartialStatus): PartialStatus {
  const given = metadataIn(status);
  if (given === undefined || given.get(retriesExhaustedKey).length === 0) return status;
  const metadata = given.clone();
  metadata.remove(retriesExhaustedKey);
  return { ...status, metadata };
}

const exhaustedBelow = {
  reason: "RETRY_EXHAUSTED_BELOW",
  domain: rejectionDomain,
  metadata: { hops: "1" },
} as const;

/**
 * Metadata that came from a server, or a copy of it: a trailers-only answer keeps the headers of HTTP that came with
 * it, and nobody sets those by hand. A bare client's failure is known by it.
 */
function isReceived(metadata: Metadata): boolean {
  const [type] = metadata.get("content-type");
  return typeof type === "string" && type.startsWith("application/grpc");
}

/** Of whichever copy of grpc-js it comes: a process may have several. */
function metadataIn({ metadata }: { readonly metadata?: unknown }): Metadata | undefined {
  return isMetadata(metadata) ? metadata : undefined;
}

function isMetadata(value: unknown): value is Metadata {
  if (value instanceof Metadata) return true;
  if (typeof value !== "object" || value === null) return false;
  return ["get", "set", "remove", "clone"].every(
    (name) => typeof Reflect.get(value, name) === "function",
  );
}
