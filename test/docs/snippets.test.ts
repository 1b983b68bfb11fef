import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { blocksOf, documentsOf, regionIn, rewrite, wantedFor } from "../../scripts/snippets.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));

const blocks = documentsOf(root).flatMap((page) =>
  blocksOf(readFileSync(join(root, page), "utf8")).map((block) => ({
    at: `${page}:${block.line + 1}`,
    block,
  })),
);

it.each(blocks)("$at is a region of an example", ({ block }) => {
  expect(block.body).toBe(wantedFor(root, block));
});

describe("a region", () => {
  it("is dedented and leaves out its markers and those of regions inside it", () => {
    const source = [
      "setup();",
      "function main() {",
      "  // #region outer",
      "  if (a) {",
      "    // #region inner",
      "    b();",
      "",
      "    // #endregion",
      "  }",
      "  // #endregion outer",
      "}",
    ].join("\n");
    expect(regionIn(source, "outer")).toBe("if (a) {\n  b();\n\n}");
    expect(regionIn(source, "inner")).toBe("b();");
  });

  it.each([
    ["a();", "there is no region x"],
    ["// #region x\na();", "the region x is never ended"],
    ["// #endregion", "never began"],
    ["// #region x\n// #endregion\n// #region x\n// #endregion", "two regions are called x"],
  ])("is refused in %j", (source, message) => {
    expect(() => regionIn(source, "x")).toThrow(message);
  });
});

describe("a page", () => {
  const folder = mkdtempSync(join(tmpdir(), "grpc-weir-docs-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, "examples"));
  writeFileSync(join(folder, "examples/a.ts"), "// #region use\n  a();\n\n  b();\n// #endregion\n");

  const tagged = "<!-- region: examples/a.ts#use -->\n```ts\na();\n\nb();\n```\n";

  it("keeps a block that is its region", () => {
    expect(rewrite(folder, tagged)).toEqual({ markdown: tagged, problems: [] });
  });

  it("gets every stale block rewritten, also inside a list", () => {
    const stale = [
      "- <!-- region: elsewhere -->",
      "  <!-- region: examples/a.ts#use -->",
      "  ```ts",
      "  old();",
      "  ```",
      "",
      "<!-- region: examples/a.ts#use -->",
      "```ts",
      "```",
      "",
    ].join("\n");
    const { markdown, problems } = rewrite(folder, stale);
    expect(problems).toEqual([]);
    expect(markdown).toContain("  ```ts\n  a();\n\n  b();\n  ```\n");
    expect(markdown).toContain("\n```ts\na();\n\nb();\n```\n");
    expect(blocksOf(markdown).map((block) => block.body)).toEqual(["a();\n\nb();", "a();\n\nb();"]);
  });

  it.each([
    ["```ts\na();\n```\n", "the line before the block must be"],
    ["<!-- region: examples/a.ts#use -->\n\n```ts\na();\n```\n", "the line before the block"],
    ["<!-- region: src/a.ts#use -->\n```typescript\na();\n```\n", "the line before the block"],
    ["<!-- region: examples/../a.ts#use -->\n```ts\n```\n", "leaves examples/"],
    ["<!-- region: examples/a.ts#gone -->\n```ts\n```\n", "there is no region gone"],
    ["<!-- region: examples/b.ts#use -->\n```ts\n```\n", "examples/b.ts: ENOENT"],
  ])("is refused for %j", (page, message) => {
    const { markdown, problems } = rewrite(folder, page);
    expect(markdown).toBe(page);
    expect(problems).toHaveLength(1);
    expect(problems[0]?.message).toContain(message);
  });

  it("may hold blocks of other languages, with whatever they quote", () => {
    const page = "````md\n```ts\na();\n```\n````\n\n```sh\nnpm test\n```\n";
    expect(blocksOf(page)).toEqual([]);
  });
});
