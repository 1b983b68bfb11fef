import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build, type Rolldown } from "vite";
import { expect, it } from "vitest";
import { entryPoints, sourceRoot } from "../../arch/package-under-test.js";

/** What an application bundles: minified and compressed, in kilobytes, without packages that are not of the toolkit. */
async function kilobytesOf(source: string): Promise<number> {
  const start = "\0start";
  const built = (await build({
    configFile: false,
    logLevel: "silent",
    plugins: [
      {
        name: "source",
        resolveId: (id) => (id === start ? start : undefined),
        load: (id) => (id === start ? source : undefined),
      },
    ],
    build: {
      write: false,
      minify: true,
      ssr: true,
      rolldownOptions: {
        input: start,
        external: (id: string) => /^(@|node:|lru-cache$|yaml$)/.test(id),
        treeshake: { moduleSideEffects: false },
      },
    },
  })) as Rolldown.RolldownOutput;
  const bytes = built.output.map((file) =>
    file.type === "chunk" ? gzipSync(file.code).length : 0,
  );
  return bytes.reduce((sum, each) => sum + each, 0) / 1_000;
}

/** The budget of each entry point in kilobytes, a tenth above what it took when it was set. */
const budgets: Readonly<Record<string, number>> = {
  ".": 148,
  "./client": 83,
  "./server": 62,
  "./config": 108,
  "./otel": 38,
  "./redis": 15,
  "./testing": 21,
  "./viewer": 24,
};

const entryOf = (file: string) => JSON.stringify(join(sourceRoot, file));

it.each(entryPoints)("$subpath is within its budget of size", async ({ subpath, file }) => {
  const budget = budgets[subpath] ?? 0;
  const size = await kilobytesOf(`export * from ${entryOf(file)};`);
  expect(size).toBeLessThan(budget);
  // A budget that is far away watches nothing.
  expect(size).toBeGreaterThan(0.8 * budget);
});

it("deadlines, retries and a breaker for a client take at most 40 kB", async () => {
  const names = "deadline, retry, breaker";
  const size = await kilobytesOf(`export { ${names} } from ${entryOf("client.ts")};`);
  expect(size).toBeLessThan(40);
  expect(size).toBeGreaterThan(30);
});
