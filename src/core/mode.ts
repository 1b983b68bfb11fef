/**
 * How a policy takes part: `enforce` it acts; `observe` it records what it would have done, on state
 * of its own, and changes nothing; `off` it does nothing. Changed while running without losing counters.
 */
export type Mode = "enforce" | "observe" | "off";

export const modes = ["enforce", "observe", "off"] as const satisfies readonly Mode[];
