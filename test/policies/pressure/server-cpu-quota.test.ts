import { cpus } from "node:os";
import { describe, expect, it } from "vitest";
import { cpuQuota } from "../../../src/policies/pressure/server-process-reader.js";

/** More than any quota of these files. */
const manyCores = 64;
const reading = (files: Readonly<Record<string, string>>) => (path: string) => files[path];

describe("the CPU quota of a process", () => {
  it.each([
    [
      "its own group in version 2, as in a container",
      { "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n" },
      1.5,
    ],
    [
      "its own group in version 1",
      {
        "/proc/self/cgroup": "7:memory:/\n4:cpu,cpuacct:/\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
      },
      0.5,
    ],
    [
      "a group below the root, as of a service",
      {
        "/proc/self/cgroup": "0::/system.slice/orders.service\n",
        "/sys/fs/cgroup/system.slice/orders.service/cpu.max": "20000 100000\n",
      },
      0.2,
    ],
    [
      "the narrowest of the groups above it",
      {
        "/proc/self/cgroup": "3:cpu:/a/b\n",
        "/sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "400000",
        "/sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000",
        "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "100000",
        "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
      },
      1,
    ],
    ["the root where nothing tells of groups", { "/sys/fs/cgroup/cpu.max": "30000 10000" }, 3],
  ])("is that of %s", (_whose, files, cores) => {
    expect(cpuQuota(reading(files), manyCores)).toBe(cores);
  });

  it.each([
    ["there are no groups", {}],
    ["none sets a bound", { "/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/cpu.max": "max 1" }],
    ["it cannot be read", { "/proc/self/cgroup": "what\n", "/sys/fs/cgroup/cpu.max": "soon" }],
    [
      "only other controllers do",
      {
        "/proc/self/cgroup": "1:memory:/\n",
        "/sys/fs/cgroup/cpu.max": "1 1",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "1",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "1",
      },
    ],
    ["it is zero", { "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "0 100000" }],
  ])("is none where %s", (_why, files) => {
    expect(cpuQuota(reading(files), manyCores)).toBeUndefined();
  });

  const eight = { "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "800000 100000\n" };
  const half = { "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "250000 100000\n" };
  const allowed = (list: string) => ({
    "/proc/self/status": `Name:\tnode\nCpus_allowed:\tff\nCpus_allowed_list:\t${list}\nMems_allowed:\t1\n`,
  });

  it.each([
    ["of the machine", eight, 2, 2],
    ["on which the process may run", { ...eight, ...allowed("0-1,4") }, 64, 3],
    ["of the machine, though it could have more", { ...eight, ...allowed("0-127") }, 4, 4],
    ["on which the process may run, be it one", { ...eight, ...allowed("7") }, 64, 1],
  ])("is never more than the cores %s", (_which, files, machineCores, cores) => {
    expect(cpuQuota(reading(files), machineCores)).toBe(cores);
  });

  it("keeps its fraction below the cores, and where those cannot be told", () => {
    expect(cpuQuota(reading({ ...half, ...allowed("0-3") }), 4)).toBe(2.5);
    expect(cpuQuota(reading({ ...half, ...allowed("what") }), 0)).toBe(2.5);
  });

  it("is bounded by the cores of this machine unless told otherwise", () => {
    const huge = { "/sys/fs/cgroup/cpu.max": "100000000 100" };
    expect(cpuQuota(reading(huge))).toBe(cpus().length);
  });
});
