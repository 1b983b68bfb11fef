// Builds `dist/cjs` from the ES modules in `dist`: what `require` loads where a loader cannot load ES
// modules with it. The entry points share chunks, so that all of them have one state.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
const commonjs = join(dist, "cjs");

const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
const entries = Object.values(manifest.exports).flatMap((target) =>
  typeof target === "string" ? [] : [join(root, target.default)],
);

const bundle = await rolldown({
  input: entries,
  platform: "node",
  // What is no file of this package stays a `require`.
  external: (id) => !/^[./]/.test(id) && !id.startsWith(root),
  onLog(level, log) {
    if (level === "warn") throw new Error(log.message);
  },
});
await bundle.write({
  dir: commonjs,
  format: "cjs",
  esModule: true,
  // All in one folder: the server of the page finds the page from there.
  entryFileNames: "[name].js",
  chunkFileNames: "[name]-chunk.js",
});
await bundle.close();
// The package says that its files are ES modules; these are not.
await writeFile(
  join(commonjs, "package.json"),
  `${JSON.stringify({ type: "commonjs", sideEffects: false }, undefined, 2)}\n`,
);

// The declarations are the same text, read as those of CommonJS modules because of where they are.
const declarations = new Set(entries.map((entry) => declarationOf(entry)));
for (const file of declarations) {
  const text = await readFile(file, "utf8");
  for (const [, specifier] of text.matchAll(/\b(?:from |import\()"(\.[^"]+)"/g)) {
    declarations.add(declarationOf(join(dirname(file), specifier)));
  }
  const copy = join(commonjs, relative(dist, file));
  await mkdir(dirname(copy), { recursive: true });
  await copyFile(file, copy);
}

function declarationOf(module) {
  return module.replace(/\.js$/, ".d.ts");
}
