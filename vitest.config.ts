import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const entry = (name: string) => fileURLToPath(new URL(`./src/${name}.ts`, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^grpc-weir$/, replacement: entry("index") },
      { find: /^grpc-weir\/(client|server|otel|testing)$/, replacement: entry("$1") },
    ],
  },
  test: {
    projects: [
      { extends: true, test: { name: "newest", include: ["test/**/*.test.ts"] } },
      {
        // What the toolkit reads off the texts and the behaviour of grpc-js, on the oldest one that is supported.
        extends: true,
        resolve: { alias: [{ find: /^@grpc\/grpc-js$/, replacement: "grpc-js-oldest" }] },
        test: {
          name: "oldest grpc-js",
          include: [
            "test/grpc/status-origin*.test.ts",
            "test/grpc/grpc-js-*.test.ts",
            "test/e2e/resets.test.ts",
          ],
        },
      },
    ],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    dangerouslyIgnoreUnhandledErrors: false,
    coverage: { include: ["src/**"], exclude: ["src/gen/**"] },
  },
});
