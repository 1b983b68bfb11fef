import { readFileSync } from "node:fs";
import { cpus } from "node:os";

/** Reads a file of the system; `undefined` where there is none. */
export type ReadText = (path: string) => string | undefined;

const root = "/sys/fs/cgroup";

/**
 * How many cores the control groups of this process allow, or `undefined` where they set no bound or there are none. A
 * bound of any group above counts too, so the narrowest holds. In a container its own group is the root.
 *
 * Never more than the cores there are: they are used up first, and a share of more would not tell.
 *
 * @param machineCores 0 where they cannot be told.
 */
export function cpuQuota(
  read: ReadText = readSystemText,
  machineCores = cpus().length,
): number | undefined {
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
  if (!Number.isFinite(narrowest)) return undefined;
  return Math.min(narrowest, machineCores || Infinity, allowedCores(read) || Infinity);
}

/**
 * The cores on which this process may run, among them such as the machine could have and has not; 0 where nothing
 * tells. Not `availableParallelism()`: from libuv 1.49 on it knows the quota too, rounded down.
 */
function allowedCores(read: ReadText): number {
  // `0-3,8`
  const [, list = ""] =
    /^Cpus_allowed_list:\s*([\d,-]+)$/m.exec(read("/proc/self/status") ?? "") ?? [];
  let cores = 0;
  for (const range of list.split(",").filter((each) => each !== "")) {
    const [first = Number.NaN, last = first] = range.split("-").map(Number);
    cores += last - first + 1;
  }
  return cores;
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
