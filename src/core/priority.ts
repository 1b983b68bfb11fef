/** How important a call is, from most to least. Calls are served in this order. */
export const priorities = ["critical", "high", "normal", "low"] as const;

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/priorities.md */
export type Priority = (typeof priorities)[number];

/** The rank of a priority; 0 is served first. */
export const priorityRank = {
  critical: 0,
  high: 1,
  normal: 2,
  low: 3,
} as const satisfies Record<Priority, number>;

/**
 * How much of what all calls share a priority may use while calls of higher priorities need it too. The rest is kept for
 * those.
 */
export const usableShare = {
  critical: 1,
  high: 0.95,
  normal: 0.85,
  low: 0.7,
} as const satisfies Record<Priority, number>;

export function isPriority(value: unknown): value is Priority {
  return value === "critical" || value === "high" || value === "normal" || value === "low";
}

/** The number of cohorts. */
export const cohorts = 128;

/** How long a key stays in its cohort: an hour, in milliseconds. Then it gets another, so that no user is always shed first. */
const cohortPeriodMs = 3_600_000;

/**
 * The cohort of a user or tenant in the hour of `wallMs`. It is the same in every service, so that services shed the same
 * users, and a call that needs three services does not run the risk three times (DAGOR, "Overload Control for Scaling WeChat
 * Microservices", 2018).
 *
 * @param wallMs Milliseconds since the Unix epoch.
 * @returns A whole number from 0 to 127.
 */
export function cohortOf(key: string, wallMs: number): number {
  const period = Math.floor(wallMs / cohortPeriodMs);
  // FNV-1a over the hour and the key, then the finalizer of MurmurHash3, so that similar keys get unrelated cohorts.
  let hash = 0x811c9dc5 ^ (period & 0xff);
  hash = Math.imul(hash, 0x01000193) ^ ((period >>> 8) & 0xffff);
  for (let index = 0; index < key.length; index += 1) {
    hash = Math.imul(hash, 0x01000193) ^ key.charCodeAt(index);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) & (cohorts - 1);
}
