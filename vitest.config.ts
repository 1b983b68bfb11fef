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
    include: ["test/**/*.test.ts"],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    dangerouslyIgnoreUnhandledErrors: false,
    coverage: { include: ["src/**"], exclude: ["src/gen/**"] },
  },
});
