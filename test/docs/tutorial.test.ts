import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { blocksOf } from "../../scripts/snippets.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string) => readFileSync(join(root, path), "utf8");
const page = read("docs/tutorial.md");

it("has a program that is its blocks, pasted one below the other", () => {
  const pasted = blocksOf(page).map(({ body }) => body);
  const [, ...program] = read("examples/tutorial/main.ts").split("\n");
  const unmarked = program.filter((line) => !/^\/\/ #(end)?region\b/.test(line));
  // Blank lines between the blocks are left to whoever pastes.
  const withoutBlankLines = (text: string) => text.replace(/\n{2,}/g, "\n").trim();
  expect(withoutBlankLines(pasted.join("\n"))).toBe(withoutBlankLines(unmarked.join("\n")));
});

it("has the schema that the program reads", () => {
  const schema = /```proto\n([\s\S]*?)```/.exec(page)?.[1];
  expect(schema).toBe(read("examples/tutorial/shop.proto"));
});
