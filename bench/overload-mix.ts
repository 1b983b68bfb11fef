/** Best first. */
export const priorityNames = ["critical", "high", "normal", "low"] as const;
export type PriorityName = (typeof priorityNames)[number];

/** The share of each priority of all calls. */
export const mix: Readonly<Record<PriorityName, number>> = {
  critical: 0.05,
  high: 0.2,
  normal: 0.45,
  low: 0.3,
};

/** The priority of a call, drawn from the mix. */
export function mixed(): PriorityName {
  let left = Math.random();
  for (const name of priorityNames) {
    left -= mix[name];
    if (left < 0) return name;
  }
  return "low";
}
