/** What is compared of a run in the lab and one on sockets: shares of the calls, and requests for each call. */
export type Compared = "good" | "critical" | "refused" | "amplification";

/** The lab may differ from what was measured by this share of it. */
const tolerance = 0.15;
/** A share of the calls so small differs by chance alone. */
const least = 0.01;

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Whether the lab is further from what was measured than it may be. */
export function disagree(what: Compared, lab: number, measured: number): boolean {
  const allowed = tolerance * measured;
  return Math.abs(lab - measured) > (what === "amplification" ? allowed : Math.max(allowed, least));
}

/** By how much the lab is above or below what was measured. */
export function differenceText(lab: number, measured: number): string {
  if (lab === measured) return "0 %";
  if (measured === 0) return "";
  const difference = 100 * (lab / measured - 1);
  return `${difference > 0 ? "+" : ""}${difference.toFixed(0)} %`;
}
