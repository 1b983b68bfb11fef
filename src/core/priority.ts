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

/** How many cohorts there are. */
export const cohorts = 128;

/** For how long a key stays in its cohort. Each hour others come first, so that nobody is always the last. */
const cohortPeriodMs = 3_600_000;

/**
 * The cohort of a user or tenant in an hour: the same in every service, so that those who are shed by one are shed by
 * all, and a call that needs three services is not refused by chance three times (WeChat's DAGOR).
 *
 * @param wallMs Milliseconds since the epoch.
 * @returns A whole number from 0 to 127.
 */
export function cohortOf(key: string, wallMs: number): number {
  const period = Math.floor(wallMs / cohortPeriodMs);
  // FNV-1a over the key and the hour, and the last step of MurmurHash3: neighbours must not stay neighbours.
  let hash = 0x811c9dc5 ^ (period & 0xff);
  hash = Math.imul(hash, 0x01000193) ^ ((period >>> 8) & 0xffff);
  for (let index = 0; index < key.length; index += 1) {
    hash = Math.imul(hash, 0x01000193) ^ key.charCodeAt(index);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) & (cohorts - 1);
}
