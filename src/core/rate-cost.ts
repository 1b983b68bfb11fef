import { type ReportError, safely } from "./notify.js";
import { optionalFunction } from "./options.js";

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
  return (call) => {
    try {
      const tokens = own(call);
      if (Number.isFinite(tokens) && tokens >= 0) return tokens;
      throw new RangeError(`a cost must be a number of at least 0, got ${String(tokens)}`);
    } catch (error) {
      safely(report, error, option);
      return 1;
    }
  };
}
