/**
 * How a finished attempt counts for the policies that admitted it.
 * `ignored`: the caller left, or we refused the call ourselves. It is evidence of nothing.
 */
export type Outcome = "success" | "failure" | "ignored";

/**
 * What a policy hands out on admission. It is settled exactly once; settling again does nothing,
 * so every path that may be the last one can settle without asking.
 */
export interface Permit {
  settle(outcome: Outcome): void;
}

/** A permit that runs `onSettle` at the first settle and never again. */
export function permit(onSettle: (outcome: Outcome) => void): Permit {
  let settled = false;
  return {
    settle(outcome) {
      if (settled) return;
      settled = true;
      onSettle(outcome);
    },
  };
}
