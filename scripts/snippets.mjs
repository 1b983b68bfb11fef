// The code blocks of the documents and the regions of the examples they are copies of.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const fence = /^( *)(`{3,}|~{3,})\s*([\w-]*)/;
const reference = /^\s*<!-- region: ((?:examples|test\/consumers)\/[\w./-]+\.ts)#([\w-]+) -->\s*$/;

/** README.md, if there is one, and every page under docs/, relative to the root. */
export function documentsOf(root) {
  const all = (folder) => {
    try {
      return readdirSync(join(root, folder), { recursive: true }).map(String);
    } catch (error) {
      if (error.code === "ENOENT") return [];
      throw error;
    }
  };
  const readme = readdirSync(root).filter((name) => name === "README.md");
  const pages = all("docs").filter((name) => name.endsWith(".md"));
  return [...readme, ...pages.map((name) => `docs/${name.replaceAll("\\", "/")}`).sort()];
}

function dedent(lines) {
  const depths = lines.filter((line) => line.trim() !== "").map((line) => line.search(/\S/));
  const depth = Math.min(...depths);
  return lines.map((line) => line.slice(depth).trimEnd());
}

/** The text of one region: dedented, without blank lines at its ends and markers of regions inside. */
export function regionIn(text, name) {
  const open = [];
  let found;
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const start = /^\s*\/\/ #region ([\w-]+)\s*$/.exec(line);
    if (start !== null) {
      open.push({ name: start[1], lines: [] });
    } else if (/^\s*\/\/ #endregion\b/.test(line)) {
      const closed = open.pop();
      if (closed === undefined) throw new Error(`line ${index + 1} ends a region that never began`);
      if (closed.name !== name) continue;
      if (found !== undefined) throw new Error(`two regions are called ${name}`);
      found = closed.lines;
    } else {
      for (const region of open) region.lines.push(line);
    }
  }
  if (open.length > 0) throw new Error(`the region ${open[0].name} is never ended`);
  if (found === undefined) throw new Error(`there is no region ${name}`);
  return dedent(found)
    .join("\n")
    .replace(/^\n+|\n+$/g, "");
}

/** The TypeScript blocks of a page. Lines are counted from 0; `from` and `to` enclose the body. */
export function blocksOf(markdown) {
  const lines = markdown.split(/\r?\n/);
  const blocks = [];
  for (let line = 0; line < lines.length; line += 1) {
    const opening = fence.exec(lines[line]);
    if (opening === null) continue;
    const [, indent, ticks, language] = opening;
    const from = line + 1;
    const closes = (text) => text.trim().startsWith(ticks) && /^(`+|~+)$/.test(text.trim());
    let to = from;
    while (to < lines.length && !closes(lines[to])) to += 1;
    if (language === "ts" || language === "typescript") {
      const named = reference.exec(lines[line - 1] ?? "");
      const body = lines.slice(from, to).map((text) => text.replace(indent, ""));
      blocks.push({
        line,
        from,
        to,
        indent,
        body: body.join("\n"),
        region: named === null ? undefined : { file: named[1], name: named[2] },
      });
    }
    line = to;
  }
  return blocks;
}

/** What a block must hold. Throws when it names no region, or one that is not there. */
export function wantedFor(root, block) {
  if (block.region === undefined) {
    throw new Error(
      "the line before the block must be <!-- region: examples/path.ts#name -->, so that the code is compiled",
    );
  }
  const { file, name } = block.region;
  if (file.split("/").includes("..")) throw new Error(`${file} leaves examples/`);
  try {
    return regionIn(readFileSync(join(root, file), "utf8"), name);
  } catch (error) {
    throw new Error(`${file}: ${error.message}`);
  }
}

/** The page with every block as its region says, and what kept a block from being written. */
export function rewrite(root, markdown) {
  const lines = markdown.split(/\r?\n/);
  const problems = [];
  // From the end, so that the lines of the blocks before stay where they are.
  for (const block of blocksOf(markdown).reverse()) {
    try {
      const body = wantedFor(root, block).split("\n");
      const indented = body.map((text) => (text === "" ? "" : block.indent + text));
      lines.splice(block.from, block.to - block.from, ...indented);
    } catch (error) {
      problems.unshift({ line: block.line, message: error.message });
    }
  }
  return { markdown: lines.join("\n"), problems };
}
