/** How much a call matters, from most to least. The order is the order of service. */
export const priorities = ["critical", "high", "normal", "low"] as const;

export type Priority = (typeof priorities)[number];

/** Rank of a priority: 0 is served first. */
export const priorityRank = {
  critical: 0,
  high: 1,
  normal: 2,
  low: 3,
} as const satisfies Record<Priority, number>;

export function isPriority(value: unknown): value is Priority {
  return value === "critical" || value === "high" || value === "normal" || value === "low";
}
