import { type ReportError, safely } from "./notify.js";

/** What a user's own functions say of a call that comes to a bulkhead. */
export interface BulkheadHooks<C> {
  /**
   * How many permits a call takes, a whole number of at least 1. It runs for each attempt, so it should be cheap.
   * What it throws, or answers beside such a number, is reported, and the call weighs 1. @defaultValue 1
   */
  readonly weight?: (call: C) => number;
  /**
   * Names the partition of a call. It runs for each attempt, so it should be cheap. A name that is not among the
   * partitions, or an error, which is reported, leads to the partition `default`.
   */
  readonly partition?: (call: C) => string;
}

/** The weight of a call, whatever the user's function does. */
export function weightOf<C>(
  weight: BulkheadHooks<C>["weight"],
  call: C,
  report: ReportError,
  where: string,
): number {
  if (weight === undefined) return 1;
  try {
    const answer = weight(call);
    if (Number.isSafeInteger(answer) && answer >= 1) return answer;
    safely(
      report,
      new RangeError(`a weight is a whole number of at least 1, got ${answer}`),
      where,
    );
  } catch (error) {
    safely(report, error, where);
  }
  return 1;
}

/** The name of a call's partition, whatever the user's function does; `undefined` for the default one. */
export function partitionOf<C>(
  partition: BulkheadHooks<C>["partition"],
  call: C,
  report: ReportError,
  where: string,
): string | undefined {
  if (partition === undefined) return undefined;
  try {
    return partition(call);
  } catch (error) {
    safely(report, error, where);
    return undefined;
  }
}
