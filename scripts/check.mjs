// Every check of the house but the tests, in order. A failure does not stop the others: one run
// tells all that is wrong. `--report=FILE` also writes the verdicts as JSON.
import { spawn } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative, sep } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const report = process.argv.find((arg) => arg.startsWith("--report="))?.slice("--report=".length);

/** Runs a program and keeps what it prints, so that only failures fill the screen. */
function run(program, args, cwd = root) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const keep = (chunk) => {
      output += chunk;
    };
    child.stdout.setEncoding("utf8").on("data", keep);
    child.stderr.setEncoding("utf8").on("data", keep);
    child.on("error", (error) => resolve({ ok: false, output: `${output}${error.message}\n` }));
    child.on("close", (code, signal) => {
      const end = signal === null ? "" : `ended by ${signal}\n`;
      resolve({ ok: code === 0, output: output + end });
    });
  });
}

const bin = (name, ...args) => run(join(root, "node_modules", ".bin", name), args);
const script = (name, cwd) => run("npm", ["run", "--silent", name], cwd);

/** The files under a folder with their text, by path with forward slashes. */
async function textsUnder(base, folder) {
  const entries = await readdir(join(base, folder), { recursive: true, withFileTypes: true }).catch(
    // A folder that is not there holds no files; what is missing shows in the comparison.
    () => [],
  );
  const texts = new Map();
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    texts.set(relative(base, path).split(sep).join("/"), await readFile(path, "utf8"));
  }
  return texts;
}

/**
 * Generates into a copy, because the generator empties its folders first: a run in place would pull
 * the code from under whatever else uses the tree.
 */
async function generatedIsFresh() {
  const copy = await mkdtemp(join(tmpdir(), "grpc-weir-generate-"));
  try {
    const inputs = ["proto", "scripts", "package.json", "biome.json", ".gitignore"];
    const buf = (await readdir(root)).filter((name) => /^buf\..*yaml$/.test(name));
    for (const name of [...inputs, ...buf]) {
      await cp(join(root, name), join(copy, name), { recursive: true });
    }
    await symlink(join(root, "node_modules"), join(copy, "node_modules"), "junction");
    const generated = await script("generate", copy);
    if (!generated.ok) return generated;

    const wrong = [];
    for (const folder of ["src/gen", "examples/gen"]) {
      const [here, fresh] = await Promise.all([textsUnder(root, folder), textsUnder(copy, folder)]);
      for (const [path, text] of fresh) {
        if (!here.has(path)) wrong.push(`missing: ${path}`);
        else if (here.get(path) !== text) wrong.push(`out of date: ${path}`);
      }
      for (const path of here.keys()) if (!fresh.has(path)) wrong.push(`not generated: ${path}`);
    }
    const advice = wrong.length > 0 ? "\nRun `npm run generate` and commit what it writes.\n" : "";
    return { ok: wrong.length === 0, output: wrong.join("\n") + advice };
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

/**
 * Compares the schema with that of the commit before. Where there is none, as in a shallow clone or a package, there is
 * nothing to compare with.
 */
async function schemaStaysCompatible() {
  const before = await mkdtemp(join(tmpdir(), "grpc-weir-schema-"));
  try {
    const archive = join(before, "proto.tar");
    const got = await run("git", ["archive", "-o", archive, "HEAD~1", "proto", "buf.yaml"]);
    if (!got.ok) return { ok: true, output: got.output };
    const unpacked = await run("tar", ["-xf", archive, "-C", before]);
    return unpacked.ok ? await bin("buf", "breaking", "--against", before) : unpacked;
  } finally {
    await rm(before, { recursive: true, force: true });
  }
}

/** @type {{ name: string, needs?: string, run: () => Promise<{ ok: boolean, output: string }> }[]} */
const steps = [
  { name: "types", run: () => script("types") },
  { name: "build", run: () => script("build") },
  { name: "build:examples", needs: "build", run: () => script("build:examples") },
  { name: "bench types", needs: "build", run: () => bin("tsc", "-p", "bench", "--noEmit") },
  { name: "lab types", run: () => bin("tsc", "-p", "lab", "--noEmit") },
  { name: "biome check", run: () => bin("biome", "check", "--diagnostic-level=warn", ".") },
  { name: "oxlint", run: () => bin("oxlint", "--type-aware", "--deny-warnings") },
  { name: "buf lint", run: () => bin("buf", "lint") },
  { name: "buf breaking", run: schemaStaysCompatible },
  {
    name: "buf format",
    run: () => bin("buf", "format", "-d", "--exit-code", "--exclude-path", "proto/opentelemetry"),
  },
  { name: "generated code", run: generatedIsFresh },
  { name: "knip", run: () => bin("knip", "--no-progress") },
  // What only tests use is dead code, unless it says that it is exported for them.
  {
    name: "knip production",
    run: () => bin("knip", "--no-progress", "--production", "--tags=-internal"),
  },
  { name: "publint", needs: "build", run: () => bin("publint", "--strict") },
  {
    name: "attw",
    needs: "build",
    run: () => bin("attw", "--pack", ".", "--profile", "strict"),
  },
  { name: "docs", run: () => run(process.execPath, [join("scripts", "docs.mjs"), "--check"]) },
  { name: "prose", run: () => run(process.execPath, [join("scripts", "prose.mjs")]) },
  {
    name: "policy reference",
    run: () => run(process.execPath, [join("scripts", "policy-reference.mjs"), "--check"]),
  },
];

const results = [];
for (const { name, needs, run: runStep } of steps) {
  const startedAt = performance.now();
  const blocked = needs !== undefined && results.some((r) => r.name === needs && !r.ok);
  // A check that could not be made is no check passed.
  const { ok, output } = blocked
    ? { ok: false, output: `not run: it needs ${needs}\n` }
    : await runStep().catch((error) => ({ ok: false, output: `${error.stack}\n` }));
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  results.push({ name, ok });
  console.log(`${ok ? "ok    " : "FAILED"}  ${name.padEnd(16)} ${seconds.padStart(5)} s`);
  if (!ok) {
    // Some tools colour what they write in CI, whoever reads it.
    const plain = stripVTControlCharacters(output).trim();
    console.log(`\n${plain.replace(/^(?=.)/gm, "    ")}\n`);
  }
}

const failed = results.filter((result) => !result.ok).map((result) => result.name);
console.log(
  failed.length === 0
    ? `\nall ${results.length} checks hold`
    : `\n${failed.length} of ${results.length} checks failed: ${failed.join(", ")}`,
);
if (report !== undefined) await writeFile(report, JSON.stringify(results));
process.exitCode = failed.length === 0 ? 0 : 1;
