import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = new URL("../../", import.meta.url);

/** What a page names in backquotes that is a path in the repository: it has a slash and begins with a folder of ours. */
function pathsIn(markdown: string): string[] {
  const quoted = [...markdown.matchAll(/`([^`\s]+)`/g)].map(([, text = ""]) => text);
  const ours = /^(src|test|docs|examples|bench|scripts|proto|\.ci|\.github)\/[\w./*<>-]*$/;
  return quoted.filter((text) => ours.test(text) && !/[*<>]/.test(text));
}

/** Pages by which somebody finds their way. */
describe.each(["docs/architecture.md", "CONTRIBUTING.md", "AGENTS.md"])("%s", (page) => {
  const markdown = readFileSync(fileURLToPath(new URL(page, root)), "utf8");

  it("names only paths that exist", () => {
    const paths = pathsIn(markdown);
    expect(paths).not.toEqual([]);
    expect(paths.filter((path) => !existsSync(fileURLToPath(new URL(path, root))))).toEqual([]);
  });

  it("links only to pages that exist", () => {
    const links = [...markdown.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map(([, to = ""]) => to);
    const from = new URL(page, root);
    expect(links.filter((to) => !existsSync(fileURLToPath(new URL(to, from))))).toEqual([]);
  });
});

it("paths are told from other code", () => {
  expect(
    pathsIn(
      "`src/a.ts`, `src/<policy>/`, `npx vitest run test/arch`, `client*.ts`, `docs/`, `GateRun`, `src/*`",
    ),
  ).toEqual(["src/a.ts", "docs/"]);
});
