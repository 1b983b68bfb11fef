import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const entry = (name: string) => fileURLToPath(new URL(`./src/${name}.ts`, import.meta.url));

const { CI } = process.env;

/**
 * In CI the random cases of properties follow from the commit: each commit draws others, and who runs one again gets the same.
 */
const commit = spawnSync("git", ["rev-parse", "--short=7", "HEAD"], { encoding: "utf8" });
const commitSeed =
  CI === undefined || commit.status !== 0
    ? undefined
    : Number.parseInt(commit.stdout.trim().slice(0, 7), 16);

/** Files that need a process of their own: they measure it, or change what all of it shares. */
const alone = [
  "test/telemetry/*.test.ts",
  "test/pipeline/server-leaks.test.ts",
  "test/pipeline/server-leaks-core.test.ts",
  "test/pipeline/server-shutdown.test.ts",
  "test/policies/pressure/server-process-reader.test.ts",
  "test/core/keyed-memory.test.ts",
  "test/grpc/server/budget.test.ts",
  "test/testing/in-memory/faults.test.ts",
  "test/grpc/client/kept-request.test.ts",
  "test/conformance/loopback.test.ts",
];

/** Tests of the deep suite that look at the times at which things happen, or compare them. */
const inRealTime = ["test/deep/e2e/*.test.ts", "test/deep/conformance/in-memory-parity.test.ts"];

/** Tests that start a `redis-server`. Without one they are skipped, and fail in CI. */
const withRedis = ["test/deep/redis/*.test.ts", "test/deep/idempotency/chaos.test.ts"];
const skipped =
  CI === undefined && spawnSync("redis-server", ["--version"]).status !== 0 ? withRedis : [];

/** Tests that the deep suite runs again, over sockets. */
const overEveryTransport = [
  "test/telemetry/endings.test.ts",
  "test/telemetry/client-spans.test.ts",
  "test/telemetry/server-spans.test.ts",
];

for (const path of [...alone, ...inRealTime, ...withRedis, ...overEveryTransport]) {
  if (!path.includes("*") && !existsSync(fileURLToPath(new URL(path, import.meta.url)))) {
    throw new Error(`there is no ${path}`);
  }
}

export default defineConfig({
  resolve: {
    alias: [
      { find: /^grpc-weir$/, replacement: entry("index") },
      {
        find: /^grpc-weir\/(client|server|config|otel|redis|testing|viewer)$/,
        replacement: entry("$1"),
      },
    ],
  },
  test: {
    projects: [
      {
        // One process for many files, which saves most of their time: nothing here may stay behind in the process.
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/deep/**", ...alone],
          isolate: false,
          setupFiles: ["test/no-sockets.ts", "test/replay-properties.ts", "test/chance.ts"],
          provide: { sockets: false, commitSeed },
        },
      },
      {
        extends: true,
        test: {
          name: "alone",
          include: alone,
          setupFiles: ["test/chance.ts"],
          provide: { sockets: false },
        },
      },
      {
        // What takes long or opens sockets.
        extends: true,
        test: {
          name: "deep",
          include: ["test/deep/**/*.test.ts", ...overEveryTransport],
          exclude: [...inRealTime, ...skipped],
          setupFiles: ["test/chance.ts"],
          provide: { sockets: true },
        },
      },
      {
        // One file at a time, so that its neighbours do not make it late.
        extends: true,
        test: { name: "real time", include: inRealTime, maxWorkers: 1 },
      },
      {
        // What the toolkit reads off the texts and the behaviour of grpc-js, on the oldest one that is supported.
        extends: true,
        resolve: { alias: [{ find: /^@grpc\/grpc-js$/, replacement: "grpc-js-oldest" }] },
        test: { name: "oldest grpc-js", include: ["test/deep/grpc-js/**/*.test.ts"] },
      },
    ],
    maxWorkers: "100%",
    testTimeout: 20_000,
    hookTimeout: 20_000,
    dangerouslyIgnoreUnhandledErrors: false,
    coverage: { include: ["src/**"], exclude: ["src/gen/**"] },
  },
});
