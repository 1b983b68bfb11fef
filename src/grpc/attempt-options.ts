import type { Metadata } from "@grpc/grpc-js";
import {
  type AttemptRecord,
  attemptKey,
  type CallRecord,
  type OptionsWithOwn,
} from "./call-record.js";
import { CallDeadline, toEpoch } from "./deadline.js";
import { copyMetadata } from "./kept-metadata.js";
import { previousAttemptsKey, retryDepthKey } from "./metadata-keys.js";

/** The call options of one attempt. */
export function attemptOptions(
  options: OptionsWithOwn,
  { deadlineMs, clock }: CallRecord,
  attempt: AttemptRecord,
): OptionsWithOwn {
  // Before the copying and again after it: see the record's own key.
  const own: OptionsWithOwn = { [attemptKey]: attempt, ...options };
  own[attemptKey] = attempt;
  // A later attempt reads the wall clock anew: it may have been set since the call began. A deadline that the toolkit
  // watches does so by itself.
  const again = attempt.number > 1 && deadlineMs !== Number.POSITIVE_INFINITY;
  if (again && !(own.deadline instanceof CallDeadline)) own.deadline = toEpoch(deadlineMs, clock);
  return own;
}

/**
 * The metadata of one attempt. It says how many attempts came before (gRFC A6), and how many services are retrying, this
 * one included.
 *
 * @param base Kept, so that what an interceptor below adds for one attempt does not reach the next.
 */
export function attemptMetadata(
  base: Metadata,
  { inbound }: CallRecord,
  { previous }: AttemptRecord,
): Metadata {
  const depth = (inbound?.retryDepth ?? 0) + (previous > 0 ? 1 : 0);
  if (depth === 0) return base;
  const metadata = copyMetadata(base);
  if (previous > 0) metadata.set(previousAttemptsKey, String(previous));
  metadata.set(retryDepthKey, String(depth));
  return metadata;
}
