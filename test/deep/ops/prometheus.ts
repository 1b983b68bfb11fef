import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { at, listAt, pathOf } from "../../ops/kit.js";
import { freePort } from "./ports.js";

/** A Prometheus of its own, with the alerts of `ops/`. */
export interface Prometheus {
  /** The values of the series that a query gives now; it throws where the query is wrong. */
  query(query: string): Promise<readonly number[]>;
  /** Each alert, and how its last evaluation went: `ok`, an error, or `unknown` before the first. */
  alerts(): Promise<Readonly<Record<string, string>>>;
  stop(): Promise<void>;
}

/** @param paths Of the pages of metrics, by job. */
export async function startPrometheus(
  port: number,
  paths: Readonly<Record<string, string>>,
): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), "grpc-weir-prometheus-"));
  const config = join(folder, "prometheus.yaml");
  const jobs = Object.entries(paths).map(([job_name, metrics_path]) => ({
    job_name,
    metrics_path,
    static_configs: [{ targets: [`127.0.0.1:${port}`] }],
  }));
  writeFileSync(
    config,
    stringify({
      global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
      rule_files: [pathOf("ops/alerts.yaml")],
      scrape_configs: jobs,
    }),
  );
  const address = `127.0.0.1:${await freePort()}`;
  const process = spawn(
    "prometheus",
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=${address}`,
      "--log.level=warn",
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let said = "";
  process.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const ended = new Promise<void>((resolve) => {
    process.once("close", () => resolve());
    process.once("error", (error) => {
      said += error.message;
      resolve();
    });
  });

  const get = async (path: string) => {
    let response: Response;
    try {
      response = await fetch(`http://${address}${path}`);
    } catch (error) {
      throw new Error(`Prometheus does not answer: ${said}`, { cause: error });
    }
    const answer: unknown = await response.json();
    if (at(answer, "status") !== "success") throw new Error(String(at(answer, "error")));
    return at(answer, "data");
  };
  return {
    async query(query) {
      const data = await get(`/api/v1/query?query=${encodeURIComponent(query)}`);
      return listAt(data, "result").map((series) => Number(listAt(series, "value")[1]));
    },
    async alerts() {
      const groups = listAt(await get("/api/v1/rules"), "groups");
      const rules = groups.flatMap((group) => listAt(group, "rules"));
      return Object.fromEntries(
        rules.map((rule) => [
          String(at(rule, "name")),
          [at(rule, "health"), at(rule, "lastError")].filter(Boolean).join(": "),
        ]),
      );
    },
    async stop() {
      process.kill();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
