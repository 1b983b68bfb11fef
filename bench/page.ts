import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const begin = "<!-- measured -->";
const end = "<!-- /measured -->";

/** A file in `docs`. */
export function docsFile(name: string): string {
  return fileURLToPath(new URL(`../../docs/${name}`, import.meta.url));
}

/** Writes numbers between the marks of a page in `docs`. Throws where it has none. */
export function writeMeasured(name: string, numbers: readonly string[]): void {
  const page = readFileSync(docsFile(name), "utf8");
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from < 0 || to < from) throw new Error(`docs/${name} has no ${begin} … ${end}`);
  const head = page.slice(0, from + begin.length);
  writeFileSync(docsFile(name), `${head}\n${numbers.join("\n")}\n${page.slice(to)}`);
}

/** Rows of text as lines of a table in Markdown. */
export function markdownTable(
  titles: readonly string[],
  rows: readonly (readonly string[])[],
): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(titles), `|${titles.map(() => "---|").join("")}`, ...rows.map(line)];
}
