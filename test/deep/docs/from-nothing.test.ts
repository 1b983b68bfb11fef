import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const run = promisify(execFile);

/** A page as a script of the shell: its commands in their order, and its files, each as far as the page has written it by then. */
function scriptOf(page: string): string {
  const lines: string[] = ["set -eu"];
  const files = new Map<string, string>();
  let file: string | undefined;
  for (const [, text = "", language = "", block = ""] of page.matchAll(
    /((?:(?!^ *```)[^\n]*\n)*)^```(\w*)\n(.*?)^```$/gms,
  )) {
    file = /(?:into|one file,) `([\w./-]+)`/.exec(text)?.[1] ?? file;
    if (language === "sh") lines.push(block.replaceAll("\\\n", ""));
    else if (file === undefined) throw new Error(`no text says where this belongs: ${block}`);
    else {
      files.set(file, `${files.get(file) ?? ""}${block}\n`);
      lines.push(`cat > ${file} <<'END OF FILE'\n${files.get(file)}END OF FILE`);
    }
  }
  return lines.join("\n");
}

let folder: string;
let packed: string;
let tutorial: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "grpc-weir-from-nothing-"));
  const packing = ["pack", root, "--ignore-scripts", "--json", "--pack-destination", folder];
  const { stdout } = await run("npm", packing);
  const [made] = JSON.parse(stdout) as readonly { readonly filename: string }[];
  packed = join(folder, made?.filename ?? "");
  tutorial = await readFile(join(root, "docs/tutorial.md"), "utf8");
}, 60_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Follows a page in an empty folder, with the package as it would be published. */
async function follow(page: string): Promise<string> {
  // With what the page says of Node.js 20, on which this suite runs. After ten seconds the reader presses Ctrl+C.
  const script = scriptOf(page)
    .replaceAll(/^node (.*)$/gm, "timeout -s INT 10 npx tsx $1 || test $? = 124")
    .replace(
      "npm install grpc-weir",
      `npm install --no-audit --no-fund --prefer-offline tsx ${packed}`,
    );
  const cwd = await mkdtemp(join(folder, "reader-"));
  const { NODE_OPTIONS: _, NODE_ENV: __, VITEST: ___, ...env } = process.env;
  const { stdout } = await run("bash", ["-c", script], { cwd, env, timeout: 150_000 });
  return stdout;
}

it("who follows the tutorial from an empty folder has it attached, prioritised and seen", async () => {
  const runs = (await follow(tutorial)).split(/^order 1: /m).slice(1);
  const [bare, attached, bareLater, attachedLater = ""] = runs;

  expect([bare, attached]).toEqual(["still warming up\n", "OK\n"]);
  expect(bareLater).toMatch(/^still warming up\n/);
  const served = ["critical", "high", "normal", "low"].map((priority) =>
    Number(new RegExp(`'${priority}' +│ 100 +│ (\\d+)`).exec(attachedLater)?.[1]),
  );
  const [critical = 0, high = 0, normal = 0, low = 0] = served;
  // By priority, whatever this machine can do.
  expect(critical + high).toBeGreaterThan(normal + low);
  expect(attachedLater).toMatch(/LOAD_SHED|QUEUE_TIMEOUT|CONCURRENCY_LIMIT/);
  expect(attachedLater).toMatch(/^open http:\/\/127\.0\.0\.1:\d+/m);
}, 180_000);

it("a page that says of no file where it belongs cannot be followed", () => {
  expect(() => scriptOf("# Page\n\n```ts\nlet a;\n```\n")).toThrow("where this belongs");
});
