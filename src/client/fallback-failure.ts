import { Metadata, type StatusObject } from "@grpc/grpc-js";
import { type ReportError, safely } from "../core/user-code.js";
import type { CallRecord } from "../grpc/call-record.js";
import { Failure } from "../grpc/outcome.js";
import type { FallbackFailure } from "./fallback-provider.js";

/** What is known of a failure. The attempt that ended with it has the best evidence of where it came from. */
export function failureOf(
  status: StatusObject,
  { attempts, target }: CallRecord,
  sawHeaders: boolean,
  peer: string,
): FallbackFailure {
  const attempt = attempts.findLast((one) => one.failure?.status.metadata === status.metadata);
  const failure = attempt?.failure ?? Failure.read(status, { sawHeaders, peer, target });
  return { ...status, origin: failure?.origin ?? "remote", rejection: failure?.rejection };
}

/**
 * Tells what a provider threw. The status of a call of its own is no defect: services fail, and the numbers and
 * the decision say it.
 */
export function reportFailure(error: unknown, provider: string, report: ReportError): void {
  const isStatus =
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "number" &&
    "metadata" in error &&
    error.metadata instanceof Metadata;
  if (!isStatus) safely(report, error, `fallback ${provider}`);
}
