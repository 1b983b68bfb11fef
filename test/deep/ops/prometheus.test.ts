import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { panels, pathOf, rules } from "../../ops/kit.js";
import { busyService } from "./busy-service.js";
import { type Prometheus, startPrometheus } from "./prometheus.js";

const run = promisify(execFile);

const { CI } = process.env;

const missing = ["promtool", "prometheus"].filter(
  (program) => spawnSync(program, ["--version"]).status !== 0,
);
const why = `there is no ${missing.join(" and no ")}`;
/** In CI nothing is skipped: there the tests fail without the programs. */
const skipped = missing.length > 0 && CI === undefined;
const reason = skipped ? `, skipped: ${why}` : "";

describe.skipIf(skipped)(`promtool${reason}`, () => {
  it.each([
    ["check", "rules", "ops/alerts.yaml"],
    ["check", "config", "ops/prometheus.yaml"],
    ["test", "rules", "ops/alerts.test.yaml"],
  ])("%s %s %s finds nothing wrong", { timeout: 60_000 }, async (verb, what, file) => {
    const { stdout } = await run("promtool", [verb, what, pathOf(file)]);
    expect(stdout).toContain("SUCCESS");
  });
});

describe.skipIf(skipped)(`Prometheus that scrapes a service${reason}`, () => {
  let prometheus: Prometheus;
  const cleanups: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    if (missing.length > 0) throw new Error(why);
    const service = await busyService();
    cleanups.unshift(() => service.stop());
    prometheus = await startPrometheus(service.port, { node: "/node", collector: "/collector" });
    cleanups.unshift(() => prometheus.stop());
    // A rate needs two readings.
    await vi.waitFor(
      async () => {
        const read = await prometheus.query("count_over_time(up[1m]) > 2 and up == 1");
        expect(read).toHaveLength(2);
      },
      { timeout: 60_000, interval: 250 },
    );
  }, 90_000);

  afterAll(async () => {
    for (const cleanup of cleanups) await cleanup();
  });

  it("evaluates every alert without an error", async () => {
    const fine = Object.fromEntries(rules.map(({ alert }) => [alert, "ok"]));
    await expect.poll(() => prometheus.alerts(), { timeout: 15_000 }).toEqual(fine);
  });

  const queries = panels.flatMap(({ title, targets }) =>
    targets.map(({ query, legend }) => ({ title, legend, query })),
  );

  describe.each([
    { job: "node", by: "the exporter of Node.js" },
    { job: "collector", by: "the Collector" },
  ])("by the names of $by", ({ job }) => {
    it.each(queries)("has data for the panel $title, $legend", async ({ query }) => {
      const asked = query
        .replaceAll("$service", job)
        .replaceAll("$method", ".*")
        .replaceAll("$__rate_interval", "1m");
      const finite = async () => (await prometheus.query(asked)).filter(Number.isFinite);
      await expect.poll(finite, { timeout: 15_000, interval: 500 }).not.toEqual([]);
    });
  });
});
