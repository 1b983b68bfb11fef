import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseSync } from "vite";
import { describe, expect, it } from "vitest";
import { entryPoints, sourceRoot } from "./package-under-test.js";

const snapshots = fileURLToPath(new URL("./public-surface/", import.meta.url));
const snapshotName = (file: string) => file.replace(/\.ts$/, ".txt");

/**
 * What an entry point exports, one `value name` or `type name` a line. An entry point is a list
 * that somebody wrote by hand, so that nothing becomes public by accident: anything else throws.
 */
function surfaceOf(file: string, source: string): string[] {
  const { program, errors } = parseSync(file, source);
  const [error] = errors;
  if (error !== undefined) throw new Error(`${file} does not parse: ${error.message}`);
  return program.body
    .flatMap((statement) => {
      if (statement.type !== "ExportNamedDeclaration" || statement.source === null) {
        throw new Error(`${file} holds more than \`export { … } from\`: ${statement.type}`);
      }
      const allTypes = statement.exportKind === "type";
      return statement.specifiers.map(({ exported, exportKind }) => {
        const name = exported.type === "Literal" ? exported.value : exported.name;
        return `${allTypes || exportKind === "type" ? "type " : "value"} ${name}`;
      });
    })
    .sort();
}

describe.each(entryPoints)("$subpath", ({ file }) => {
  it("exports the names that were agreed", async () => {
    const path = join(sourceRoot, file);
    expect(existsSync(path), `package.json promises src/${file}`).toBe(true);
    const surface = surfaceOf(file, readFileSync(path, "utf8"));
    expect(surface).not.toEqual([]);
    await expect(`${surface.join("\n")}\n`).toMatchFileSnapshot(
      join(snapshots, snapshotName(file)),
    );
  });
});

it("keeps no record of an entry point that is gone", () => {
  const kept = existsSync(snapshots) ? readdirSync(snapshots) : [];
  const current = entryPoints.map(({ file }) => snapshotName(file));
  expect(kept.filter((name) => !current.includes(name))).toEqual([]);
});

describe("the reading of an entry point", () => {
  it("tells types from values", () => {
    const source = 'export { b, type C, d as a } from "./x.js";\nexport type { E } from "./y.js";';
    expect(surfaceOf("index.ts", source)).toEqual(["type  C", "type  E", "value a", "value b"]);
  });

  it.each([
    'export * from "./x.js";',
    'export * as x from "./x.js";',
    "export const a = 1;",
    'import { a } from "./x.js";\nexport { a };',
    'import "./x.js";',
    "export default 1;",
  ])("refuses %j", (source) => {
    expect(() => surfaceOf("index.ts", source)).toThrow("holds more than");
  });
});
