import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Package } from "./layers.js";

export const sourceRoot = fileURLToPath(new URL("../../src/", import.meta.url));

interface Manifest {
  readonly exports: Readonly<Record<string, string | { readonly default: string }>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
) as Manifest;

/** Each entry point of the package: how a user names it, and its file in src. */
export const entryPoints = Object.entries(manifest.exports).flatMap(([subpath, target]) => {
  // `./package.json` is the one export that is no module.
  if (typeof target === "string") return [];
  const file = target.default.replace(/^\.\/dist\//, "").replace(/\.js$/, ".ts");
  return [{ subpath, file }];
});

export const packageUnderTest: Package = {
  entries: entryPoints.map((entry) => entry.file),
  dependencies: [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)],
};
