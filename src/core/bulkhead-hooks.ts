import { ask, keyText, type ReportError, shown } from "./user-code.js";

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
  return ask(() => weight(call), permits, 1, report, where);
}

function permits(answer: unknown): number {
  if (typeof answer === "number" && Number.isSafeInteger(answer) && answer >= 1) return answer;
  throw new RangeError(`a weight is a whole number of at least 1, got ${shown(answer)}`);
}

/** The name of a call's partition, whatever the user's function does; `undefined` for the default one. */
export function partitionOf<C>(
  partition: BulkheadHooks<C>["partition"],
  call: C,
  report: ReportError,
  where: string,
): string | undefined {
  if (partition === undefined) return undefined;
  return ask(() => partition(call), keyText, undefined, report, where);
}
