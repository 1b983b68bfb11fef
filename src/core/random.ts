/** The port of chance: a number in [0, 1), as from `Math.random`. */
export type Random = () => number;

/** The chance of the process. Not for secrets. */
export const systemRandom: Random = () => Math.random();
