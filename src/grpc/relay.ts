import type { Metadata, StatusObject } from "@grpc/grpc-js";
import { RefusalMetadata } from "./refusal-metadata.js";
import { passedOn, rejectionOf } from "./rejection.js";
import type { PartialStatus } from "./types.js";

/**
 * Final statuses of client calls of this process after which the toolkit has given up retrying. A handler that
 * passes such an error on (`callback(error)`) hands its metadata to the server call, by identity.
 */
const givenUp = new WeakSet<Metadata>();

/** Notes that no layer above should try this call again: this one has. */
export function noteGivenUp({ metadata }: StatusObject): void {
  givenUp.add(metadata);
}

/** Other statuses than refusals that server policies of this process have made: they are said here for the first time. */
const saidHere = new WeakSet<Metadata>();

export function noteSaidHere({ metadata }: StatusObject): void {
  saidHere.add(metadata);
}

function isSaidHere(metadata: Metadata): boolean {
  return RefusalMetadata.isOriginal(metadata) || saidHere.has(metadata);
}

/** Copies to which a server policy has added something, and what the handler gave. */
const copiedFrom = new WeakMap<Metadata, Metadata>();

/** Notes that `copy` stands for what a handler gave: whatever is known of that is known of the copy. */
export function noteCopied(copy: Metadata, given: Metadata): void {
  copiedFrom.set(copy, originalOf(given));
}

function originalOf(metadata: Metadata): Metadata {
  return copiedFrom.get(metadata) ?? metadata;
}

/** A policy of this server has refused the call, or ended it, and no handler. */
export function isRefusedHere(metadata: Metadata): boolean {
  return RefusalMetadata.isOriginal(originalOf(metadata));
}

/**
 * What a server sends for a status that its handler got from a service below. The pushback was meant for the
 * handler's own call and is taken out; the rejection stays, with its hops counted up, so that callers know that
 * retries are exhausted below. Any other status is sent as it is.
 */
export function relayed(status: PartialStatus): PartialStatus {
  const { metadata } = status;
  if (metadata === null || metadata === undefined) return status;
  const given = originalOf(metadata);
  if (isSaidHere(given)) return status;
  const rejection = rejectionOf({ metadata: given });
  if (rejection !== undefined) return passedOn(status, metadata, rejection);
  if (!givenUp.has(given)) return status;
  const exhausted = {
    reason: "RETRY_EXHAUSTED_BELOW",
    local: false,
    hops: 0,
    metadata: {},
  } as const;
  return passedOn(status, metadata, exhausted);
}
