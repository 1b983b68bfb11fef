/** The middle of some measurements and how far they spread: median and quartiles. */
export interface Spread {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: at(sorted, 0.5), low: at(sorted, 0.25), high: at(sorted, 0.75) };
}

/**
 * Two series that were measured in the same rounds, compared round by round: whatever else the machine did
 * in a round has met both, so the comparison is steadier than that of the two medians.
 */
export function pairwise(
  ours: readonly number[],
  peers: readonly number[],
  compare: (our: number, peer: number) => number,
): Spread {
  return spreadOf(ours.map((our, round) => compare(our, peers[round] ?? Number.NaN)));
}

export const ratio = (our: number, peer: number): number => our / peer;
export const difference = (our: number, peer: number): number => our - peer;

/** Linear between the two nearest. */
function at(sorted: readonly number[], share: number): number {
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)] ?? Number.NaN;
  const above = sorted[Math.ceil(place)] ?? Number.NaN;
  return below + (above - below) * (place - Math.floor(place));
}

/** The mean of the lowest tenth. Whatever disturbs a measurement makes it higher, so these come nearest. */
export function lowest(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const kept = sorted.slice(0, Math.max(1, Math.round(sorted.length / 10)));
  return kept.reduce((sum, value) => sum + value, 0) / kept.length;
}
