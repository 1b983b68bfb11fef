import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import { oneOf } from "../../core/options.js";
import {
  admissionKey,
  isOwnAdmission,
  pushbackKey,
  readPushback,
  retriesExhaustedKey,
} from "../metadata.js";
import type { PartialStatus } from "../types.js";
import { speaksGrpc } from "./origin.js";
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

// When a handler ends with the error of a call that it made itself, parts of that error were meant for the handler and
// not for the handler's caller: pushback, RetryInfo and the reason of a refusal. A handler passes an error on in many
// ways: as it is, with a clone of its metadata, merged into other metadata, through JSON, or as a new error with the
// same text. So the identity of objects does not tell. This file compares what the handler sends with what its calls
// have failed with.

/** Copies of metadata to which a server policy has added a trailer, and the metadata they were copied from. */
const copiedFrom = new WeakMap<Metadata, Metadata>();

/** Notes that `copy` was made of `given`, so that the copy of a refusal counts as the refusal. */
export function noteCopied(copy: Metadata, given: Metadata): void {
  copiedFrom.set(copy, copiedFrom.get(given) ?? given);
}

/** Whether a policy of this server made the metadata, and no handler. */
export function isRefusedHere(metadata: Metadata): boolean {
  return RefusalMetadata.isOriginal(copiedFrom.get(metadata) ?? metadata);
}

/**
 * The status that the application gets when the toolkit has given up retrying. It has a trailer that says so, which
 * travels with the status if a handler passes it on. A status made in this process needs none: `rejectionOf` knows it.
 */
export function retriesExhausted(status: StatusObject): StatusObject {
  if (status.code === Status.OK || isLocal(status)) return status;
  // A clone, because an interceptor below may end many calls with the same object.
  const metadata = status.metadata.clone();
  metadata.set(retriesExhaustedKey, "1");
  shareStatusDetails(status.metadata, metadata);
  return { ...status, metadata };
}

/** How many waits, and how many failures, are remembered of a handler's calls. */
const maxRemembered = 16;

/** The failures of the calls that a handler made, as far as they must not reach the handler's caller. */
export class FailuresBelow {
  /** Waits that services below asked the handler for, by pushback or RetryInfo. */
  readonly #waits = new Set<number | "stop">();
  /** Failures that were retried already, or must not be retried. */
  readonly #exhausted: { readonly code: Status; readonly details: string }[] = [];
  #forgot = false;

  note(status: StatusObject): void {
    const { code, details, metadata } = status;
    this.#noteWait(readPushback(metadata));
    this.#noteWait(decodeStatusDetails(metadata).retryDelayMs);
    if (!dealtWithBelow(metadata, rejectionOf(status))) return;
    if (this.#exhausted.length >= maxRemembered) this.#forgot = true;
    else if (!this.#exhausted.some((one) => one.code === code && one.details === details)) {
      this.#exhausted.push({ code, details });
    }
  }

  /** Whether a service below asked for this wait, or may have: then there were too many to remember. */
  askedFor(wait: number | "stop" | undefined): boolean {
    return wait !== undefined && (this.#forgot || this.#waits.has(wait));
  }

  /** Whether the handler's status has the code and the text of a failure that was retried below. It may add text. */
  exhausted({ code, details }: Pick<StatusObject, "code" | "details">): boolean {
    // A handler may give anything as details.
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

/**
 * What happens to a status that a handler got from a service below and passes on. `mark`: its pushback is removed, and it is
 * marked so that callers do not retry what has been retried below. `pass`: it is passed on unchanged.
 */
export type Relay = (typeof relays)[number];

const relays = ["mark", "pass"] as const;

export function resolveRelay(relay: Relay | undefined, option: string): Relay {
  return oneOf(option, relay === undefined ? "mark" : relay, relays);
}

/** The inbound call whose status is sent. */
interface Answering {
  /** A policy of this server answered it, and not its handler. */
  readonly answeredByPolicy: boolean;
  readonly failuresBelow: FailuresBelow | undefined;
}

/**
 * The status that a server sends when its handler passes on the failure of a service below:
 *
 * - pushback, RetryInfo and the level of the other server's admission are removed;
 * - the reason of a refusal stays, with one hop more;
 * - where a service below has given up retrying, the reason is `RETRY_EXHAUSTED_BELOW`.
 *
 * A status of the handler itself is sent as it is.
 */
export function relayed(status: PartialStatus, call: Answering): PartialStatus {
  if (status.code === Status.OK || call.answeredByPolicy) return status;
  const metadata = status.metadata ?? new Metadata();
  if (isRefusedHere(metadata)) return status;
  const below = call.failuresBelow;
  const marked = metadata.get(retriesExhaustedKey).length > 0;
  const exhausted = marked || below?.exhausted(status) === true;
  const pushback = readPushback(metadata);
  const hasDetails = metadata.get(statusDetailsKey).length > 0;
  const foreignLevel = metadata.get(admissionKey).length > 0 && !isOwnAdmission(metadata);
  if (!exhausted && pushback === undefined && !hasDetails && !foreignLevel) return status;
  const details = decodeStatusDetails(metadata);
  const refusedBelow = oneHopFurther(details);
  const passedOn =
    exhausted ||
    foreignLevel ||
    refusedBelow !== undefined ||
    // The metadata came from a server, or are a copy of such. This finds failures of clients without the toolkit.
    speaksGrpc(metadata) ||
    below?.askedFor(pushback) === true ||
    below?.askedFor(details.retryDelayMs) === true;
  if (!passedOn) return status;
  const errorInfo = refusedBelow ?? (exhausted ? exhaustedBelow : undefined);
  const kept = metadata.clone();
  kept.remove(pushbackKey);
  if (foreignLevel) kept.remove(admissionKey);
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

/** The status that a server with `relay: "pass"` sends: as it is, without the trailer that its own client added. */
export function passedThrough(status: PartialStatus): PartialStatus {
  if (!status.metadata?.get(retriesExhaustedKey).length) return status;
  const metadata = status.metadata.clone();
  metadata.remove(retriesExhaustedKey);
  return { ...status, metadata };
}

const exhaustedBelow = {
  reason: "RETRY_EXHAUSTED_BELOW",
  domain: rejectionDomain,
  metadata: { hops: "1" },
} as const;
