import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseSync } from "vite";
import { expect, it } from "vitest";
import { siteOf } from "../../scripts/site.mjs";
import { entryPoints, sourceRoot } from "./package-under-test.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const { homepage } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  readonly homepage: string;
};
/** Where pages are read; the address of the repository stands in package.json alone. */
const pages = `${homepage.replace(/#.*$/, "")}/blob/main/docs/`;

/** The headings of each page, by the path of the page. */
const headings = new Map(
  siteOf(root).search.map(({ url, sections }) => [
    url.replace(/index\.html$/, "README.html").replace(/\.html$/, ".md"),
    new Set(sections.map(({ id }) => id)),
  ]),
);

/** The comment above what a file exports under a name, there or in a file that it names. */
function commentOf(file: string, name: string): string {
  const source = readFileSync(file, "utf8");
  const declared = new RegExp(
    `^export (?:declare |abstract |async )*(?:function|const|class|interface|type) ${name}\\b`,
    "m",
  ).exec(source);
  if (declared !== null) {
    return /\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*$/.exec(source.slice(0, declared.index))?.[0] ?? "";
  }
  for (const { from, local } of namesOf(file)) {
    if (local === name && from !== undefined) return commentOf(from, name);
  }
  throw new Error(`${file} does not export ${name}`);
}

/** What a file exports from others. */
function namesOf(file: string): { readonly local: string; readonly from: string | undefined }[] {
  return parseSync(file, readFileSync(file, "utf8")).program.body.flatMap((statement) => {
    if (statement.type !== "ExportNamedDeclaration" || statement.source === null) return [];
    const from = join(dirname(file), statement.source.value.replace(/\.js$/, ".ts"));
    return statement.specifiers.map(({ local }) => ({
      local: local.type === "Literal" ? local.value : local.name,
      from,
    }));
  });
}

/** What is wrong with the link of a comment; `undefined` where it leads to a page, and to a heading of it. */
function problemOf(comment: string): string | undefined {
  const link = /@see (https:\S+)/.exec(comment)?.[1];
  if (link === undefined) return "has no link to a page";
  if (!link.startsWith(pages)) return `links to ${link}, which is none of the pages`;
  const [page = "", heading] = link.slice(pages.length).split("#");
  const known = headings.get(page);
  if (known === undefined) return `links to docs/${page}, which does not exist`;
  if (heading === undefined || known.has(heading)) return undefined;
  return `links to a heading of docs/${page} that does not exist: #${heading}`;
}

it.each(entryPoints)("what $subpath exports has a link to its page", ({ file }) => {
  const exported = namesOf(join(sourceRoot, file));
  const problems = exported.flatMap(({ local, from = "" }) => {
    const problem = problemOf(commentOf(from, local));
    return problem === undefined ? [] : [`${local} ${problem}`];
  });
  expect(exported).not.toEqual([]);
  expect(problems).toEqual([]);
});

it.each<[string, string | undefined]>([
  ["/** Text. */", "has no link to a page"],
  ["/** @see https://example.com/a.md */", "links to https://example.com/a.md, which is none of"],
  [`/** @see ${pages}none.md */`, "links to docs/none.md, which does not exist"],
  [`/** @see ${pages}drain.md#none */`, "links to a heading of docs/drain.md that does not exist"],
])("a link that leads nowhere is found: %s", (comment, problem) => {
  expect(problemOf(comment)).toContain(problem);
  expect(problemOf(`/** @see ${pages}drain.md#load-reports */`)).toBeUndefined();
});
