import { optionalFunction } from "./options.js";
import { asking, type ReportError, shown } from "./user-code.js";

/** How many tokens a call takes. */
export type CostOf<C> = (call: C) => number;

/**
 * The cost function of a rate. The user's own may throw, or give something that is no number of tokens; then the
 * call costs one.
 *
 * @throws InvalidOptionError for something that is no function.
 */
export function costFunction<C>(
  cost: CostOf<C> | undefined,
  report: ReportError,
  option: string,
): CostOf<C> {
  const own = optionalFunction(option, cost);
  if (own === undefined) return () => 1;
  return asking(own, tokens, () => 1, report, option);
}

function tokens(answer: unknown): number {
  if (typeof answer === "number" && Number.isFinite(answer) && answer >= 0) return answer;
  throw new RangeError(`a cost must be a number of at least 0, got ${shown(answer)}`);
}
