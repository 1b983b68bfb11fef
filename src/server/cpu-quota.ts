import { readFileSync } from "node:fs";

/** Reads a file of the system; `undefined` where there is none. */
export type ReadText = (path: string) => string | undefined;

const root = "/sys/fs/cgroup";

/**
 * How many cores the control groups of this process allow, or `undefined` where they set no bound or there are none. A
 * bound of any group above counts too, so the narrowest holds. In a container its own group is the root.
 */
export function cpuQuota(read: ReadText = readSystemText): number | undefined {
  let narrowest = Number.POSITIVE_INFINITY;
  for (const line of (read("/proc/self/cgroup") ?? "0::/\n1:cpu:/").split("\n")) {
    // `0::/system.slice/orders.service` in version 2, `4:cpu,cpuacct:/orders` in version 1.
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const unified = controllers === "";
    if (!unified && !controllers.split(",").includes("cpu")) continue;
    for (const group of groupsOf(path)) {
      const cores = unified ? unifiedQuota(group, read) : legacyQuota(group, read);
      // No bound reads as `max` or -1.
      if (cores > 0) narrowest = Math.min(narrowest, cores);
    }
  }
  return Number.isFinite(narrowest) ? narrowest : undefined;
}

/** A group and those above it, as `/a/b`, `/a` and the root, which is empty. */
function groupsOf(path: string): string[] {
  const names = path.split("/").filter((name) => name !== "" && name !== "..");
  return Array.from({ length: names.length + 1 }, (_, above) =>
    names
      .slice(0, names.length - above)
      .map((name) => `/${name}`)
      .join(""),
  );
}

function unifiedQuota(group: string, read: ReadText): number {
  const [quota, period] = (read(`${root}${group}/cpu.max`) ?? "").trim().split(" ").map(Number);
  return (quota ?? Number.NaN) / (period ?? Number.NaN);
}

function legacyQuota(group: string, read: ReadText): number {
  const number = (name: string) => Number(read(`${root}/cpu${group}/${name}`) ?? Number.NaN);
  return number("cpu.cfs_quota_us") / number("cpu.cfs_period_us");
}

function readSystemText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
