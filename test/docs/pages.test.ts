import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { documentsOf } from "../../scripts/snippets.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const read = (page: string) => readFileSync(join(root, page), "utf8");

/** Without blocks of code and code in lines, in which brackets are no links. */
function proseOf(markdown: string): string {
  return markdown
    .replace(/^( *)(`{3,})[^\n]*\n[\s\S]*?^\1\2`*$/gm, "")
    .replace(/`[^`\n]*`/g, "code");
}

/** The targets of links and pictures, as they are written. */
function linksOf(markdown: string): string[] {
  return [...proseOf(markdown).matchAll(/\]\(([^()\s]+)\)/g)].map(([, target = ""]) => target);
}

/** The anchors of a page, by the rule of GitHub. */
function anchorsOf(markdown: string): Set<string> {
  const anchors = new Set<string>();
  const prose = markdown.replace(/^( *)(`{3,})[^\n]*\n[\s\S]*?^\1\2`*$/gm, "");
  for (const [, heading = ""] of prose.matchAll(/^#{1,6} +(.+)$/gm)) {
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const anchor = text
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replaceAll(" ", "-");
    let unused = anchor;
    for (let count = 1; anchors.has(unused); count += 1) unused = `${anchor}-${count}`;
    anchors.add(unused);
  }
  for (const [, id = ""] of prose.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id);
  return anchors;
}

const anchorsOfPage = new Map<string, Set<string>>();

/** Why a link leads nowhere, or undefined if it leads somewhere. */
function problemOf(page: string, link: string): string | undefined {
  if (/^[a-z]+:/.test(link)) return undefined;
  const [path = "", anchor] = link.split("#");
  const target = path === "" ? page : posix.normalize(posix.join(posix.dirname(page), path));
  if (!existsSync(join(root, target))) return `there is no ${target}`;
  if (anchor === undefined || statSync(join(root, target)).isDirectory()) return undefined;
  const anchors = anchorsOfPage.get(target) ?? anchorsOf(read(target));
  anchorsOfPage.set(target, anchors);
  return anchors.has(anchor) ? undefined : `${target} has no heading #${anchor}`;
}

const documents = [...documentsOf(root), "CONTRIBUTING.md", "SECURITY.md", "AGENTS.md"];

it.each(documents)("all links of %s lead somewhere", (page) => {
  const dead = linksOf(read(page)).flatMap((link) => problemOf(page, link) ?? []);
  expect(dead).toEqual([]);
});

describe("a link", () => {
  it("is no link inside of code", () => {
    expect(linksOf("[a](b.md) `[c](d.md)`\n\n```ts\nx[0](e)\n```\n![f](g.svg)")).toEqual([
      "b.md",
      "g.svg",
    ]);
  });

  it.each([
    ["policies.md#order", undefined],
    ["#how-to", undefined],
    ["adr/", undefined],
    ["https://grpc.io", undefined],
    ["gone.md", "there is no docs/gone.md"],
    ["policies.md#gone", "docs/policies.md has no heading #gone"],
  ])("to %s leads where it should, or is reported", (link, problem) => {
    expect(problemOf("docs/README.md", link)).toBe(problem);
  });

  it("finds headings as GitHub names them", () => {
    const page = "# Why: a `b`?\n## `Rate` [x](y.md), z_1\n## Same\n## Same\n```\n# not\n```\n";
    expect([...anchorsOf(page)]).toEqual(["why-a-b", "rate-x-z_1", "same", "same-1"]);
  });
});

describe("the numbers", () => {
  /** The cells of a row of a table, by what its first cell says. */
  const rowOf = (page: string, first: string) => {
    const row = page.split("\n").find((line) => line.startsWith(`| ${first} |`));
    return row === undefined
      ? []
      : row
          .split("|")
          .slice(1, -1)
          .map((cell) => cell.trim());
  };
  const readme = read("README.md");

  it.each([
    ["client, defaults", "client, unary calls", "weir, defaults"],
    ["client with deadline, retries, breaker and bulkhead", "client, unary calls", "weir, full"],
    ["server with admission", "server, unary calls", "weir with admission"],
  ])("for the cost of a %s are those that were measured", (row, table, variant) => {
    const node24 = read("docs/cost.md").split("### Node 24")[1] ?? "";
    const measured = node24.slice(node24.indexOf(`| ${table} |`));
    const microseconds = (first: string) => `${Math.round(Number(rowOf(measured, first)[1]))} µs`;
    expect(rowOf(readme, row).slice(1)).toEqual([
      microseconds("bare grpc-js"),
      microseconds(variant),
    ]);
  });

  it.each(["grpc-js, retryPolicy", "weir, defaults", "weir, full", "cockatiel", "nice-grpc"])(
    "for the cost of %s are those that were measured, in the comparison too",
    (variant) => {
      const ratioIn = (table: string) => {
        const node24 = read("docs/cost.md").split("### Node 24")[1] ?? "";
        const [, rows = ""] = node24.split(`| ${table} |`);
        return rowOf(rows.split("\n\n")[0] ?? "", variant)[2]?.split(" ")[0] ?? "";
      };
      expect(rowOf(read("docs/comparison.md"), variant).slice(1)).toEqual([
        ratioIn("client, unary calls"),
        ratioIn("client, each call is retried once"),
      ]);
    },
  );

  it("for incidents are those of the lab", () => {
    const [, lab = ""] = read("docs/lab.md").split("## Measured");
    const columns = rowOf(lab, "incident");
    const incidents = [...readme.matchAll(/^\| (.*\(`([\w-]+)`\)) \|/gm)];
    expect(incidents).not.toEqual([]);
    for (const [, first = "", incident = ""] of incidents) {
      const measured = rowOf(lab, `\`${incident}\``);
      const wanted = ["bare", "retryPolicy", "weir"].map((way) => measured[columns.indexOf(way)]);
      expect(rowOf(readme, first).slice(1), incident).toEqual(wanted);
    }
  });
});

describe("docs/README.md", () => {
  const index = linksOf(read("docs/README.md")).filter((link) => link.endsWith(".md"));
  const folders = { recursive: true, encoding: "utf8" } as const;
  const pages = readdirSync(join(root, "docs"), folders)
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => name.endsWith(".md") && name !== "README.md" && dirname(name) !== "adr");

  it.each(pages)("lists %s once: add a line where a reader looks for it", (page) => {
    // The sentence on top leads to the tutorial, too.
    const listed = index.slice(1).filter((link) => link === page);
    expect(listed).toEqual([page]);
  });

  it("has the four kinds of pages", () => {
    const headings = [...read("docs/README.md").matchAll(/^## (.+)$/gm)].map(([, text]) => text);
    expect(headings).toEqual(["Tutorial", "How to", "Reference", "Explanation"]);
  });
});

it.each(["production", "staging"])("docs/configuration.md has the file of %s as it is", (name) => {
  const file = read(`examples/configuration/${name}.yaml`);

  expect(read("docs/configuration.md")).toContain(`\`\`\`yaml\n${file}\`\`\`\n`);
});
