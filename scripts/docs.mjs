// Writes the code of the examples into README.md and docs/. With `--check` it only says what differs.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { documentsOf, rewrite } from "./snippets.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const checkOnly = process.argv.includes("--check");

for (const page of documentsOf(root)) {
  const path = join(root, page);
  const before = readFileSync(path, "utf8").replaceAll("\r\n", "\n");
  const { markdown, problems } = rewrite(root, before);
  for (const { line, message } of problems) {
    console.error(`${page}:${line + 1}: ${message}`);
    process.exitCode = 1;
  }
  if (markdown === before) continue;
  if (checkOnly) {
    console.error(`${page}: its code is not that of the examples; run \`npm run docs\``);
    process.exitCode = 1;
  } else {
    writeFileSync(path, markdown);
    console.log(`${page}: written`);
  }
}
