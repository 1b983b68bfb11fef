import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../../viewer-page/src", import.meta.url));

it("the page takes from the toolkit the types of what they say to each other, and nothing else", () => {
  const imports = readdirSync(root, { recursive: true })
    .map(String)
    .filter((file) => /\.tsx?$/.test(file))
    .flatMap((file) => [
      ...readFileSync(join(root, file), "utf8").matchAll(/^import .*?"([^"]+)";$/gms),
    ]);
  const fromToolkit = imports.filter(([, from = ""]) => from.includes("/src/"));
  expect(fromToolkit).not.toEqual([]);
  for (const [statement, from] of fromToolkit) {
    expect(statement).toMatch(/^import type /);
    expect(from).toMatch(/\/src\/viewer\/api\.js$/);
  }
  const packages = imports.flatMap(([, from = ""]) => (from.startsWith(".") ? [] : [from]));
  expect([...new Set(packages)].sort()).toEqual([
    "preact",
    "preact/hooks",
    "uplot",
    "uplot/dist/uPlot.min.css",
  ]);
});
