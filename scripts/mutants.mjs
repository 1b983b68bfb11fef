// How many small faults in the code do the tests notice? Plants a sample of them, one at a time, and runs the tests
// that come by; prints those that no test noticed, and the score. The faults live in memory: no file is changed.
//
//   npm run test:mutants -- [--seed 7] [--count 150] [--files src/core/keyed,src/policies] [--tests test/core]
//                           [--only id,id] [--seconds 60]
//
// `--files` holds beginnings of paths, `--tests` beginnings of the tests to run (without it, all unit tests), `--only`
// what stands before each survivor, and `--seconds` how much of the tests that come by is run for one mutant: quick
// ones that are near to its file come first.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadConfigFromFile } from "vite";
import { createVitest } from "vitest/node";
import { mutantsOf, withMutants } from "./mutations.mjs";

/** Where faults are planted. */
const folders = ["src/core", "src/policies"];
/** Unit tests that do not have to notice: they take long, or look at no behaviour. */
const passedOver = "test/{arch,conformance,docs,race}/**";
const goalPercent = 95;

const { values: options } = parseArgs({
  options: {
    seed: { type: "string", default: `${Date.now() % 1_000_000}` },
    count: { type: "string", default: "150" },
    files: { type: "string", default: folders.join() },
    tests: { type: "string", default: "test" },
    only: { type: "string" },
    seconds: { type: "string", default: "60" },
  },
});

const root = fileURLToPath(new URL("..", import.meta.url));
const pathOf = (file) => relative(root, file).split(sep).join("/");
const sourceOf = new Map(sourcesBelow(options.files.split(",")));
const equivalents = JSON.parse(readFileSync(join(root, "scripts/mutants-equivalent.json"), "utf8"));
const sample = chosen([...sourceOf].flatMap(([file, source]) => mutantsOf(file, source)));

const vitest = await startVitest();
const testFiles = await runWithout();
const survivors = [];
for (const [number, mutant] of sample.entries()) {
  if (await isNoticed(number, mutant)) continue;
  survivors.push(mutant);
  console.log(`${mutant.id}\n    ${mutant.line}\n    ${mutant.change}`);
}
report();
await vitest.close();
process.exitCode = survivors.length / sample.length > 1 - goalPercent / 100 ? 1 : 0;

function sourcesBelow(beginnings) {
  return readdirSync(join(root, "src"), { recursive: true })
    .map((name) => `src/${name.split(sep).join("/")}`)
    .filter((file) => file.endsWith(".ts") && beginnings.some((start) => file.startsWith(start)))
    .sort()
    .map((file) => [file, readFileSync(join(root, file), "utf8")]);
}

/** The mutants to try. One seed chooses the same ones as long as the code is the same. */
function chosen(all) {
  if (options.only !== undefined) {
    const ids = options.only.split(",");
    return all.filter(({ id }) => ids.includes(id));
  }
  const left = all.filter((mutant) => !isEquivalent(mutant));
  let state = Number(options.seed);
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const picked = [];
  while (picked.length < Number(options.count) && left.length > 0) {
    picked.push(...left.splice(Math.floor(random() * left.length), 1));
  }
  return picked;
}

/** Whether someone has judged that no test can notice it, and noted why. */
function isEquivalent(mutant) {
  return equivalents.some(
    ({ file, line, change }) =>
      file === mutant.file && line === mutant.line && change === mutant.change,
  );
}

async function startVitest() {
  const configFile = join(root, "vitest.config.ts");
  const { config } = await loadConfigFromFile({ command: "serve", mode: "test" }, configFile);
  const unit = config.test.projects.find(({ test }) => test.name === "unit").test;
  const numbered = [...sample.entries()];
  const mutants = {
    name: "mutants",
    enforce: "pre",
    transform(_, id) {
      const file = pathOf(id);
      const here = numbered.filter(([, mutant]) => mutant.file === file);
      return here.length === 0
        ? undefined
        : { code: withMutants(sourceOf.get(file), here), map: null };
    },
  };
  class InTheOrderGiven {
    sort(files) {
      return files;
    }
    shard(files) {
      return files;
    }
  }
  const started = await createVitest(
    "test",
    {
      ...unit,
      config: false,
      root,
      exclude: [...unit.exclude, passedOver],
      setupFiles: [...unit.setupFiles, join(root, "scripts/mutants-setup.mjs")],
      pool: "forks",
      execArgv: ["--no-warnings"],
      maxWorkers: 1,
      testTimeout: 10_000,
      watch: false,
      silent: true,
      reporters: [{}],
      sequence: { sequencer: InTheOrderGiven },
    },
    { resolve: config.resolve, plugins: [mutants] },
  );
  await started.standalone();
  return started;
}

/** Runs every test once while all mutants are asleep: how long each file takes, and which mutants it comes by. */
async function runWithout() {
  const beginnings = options.tests.split(",");
  const files = (await vitest.globTestSpecifications()).filter(({ moduleId }) =>
    beginnings.some((start) => pathOf(moduleId).startsWith(start)),
  );
  const { testModules } = await run(files, { active: -1, mostPasses: 0, mostSeconds: 1_200 });
  for (const module of testModules.filter((module) => !module.ok())) {
    const failed = [...module.children.allTests("failed")].map(({ fullName }) => fullName);
    console.log(
      `left out, as it fails without a mutant: ${module.relativeModuleId} ${failed.join(" · ")}`,
    );
  }
  return testModules
    .filter((module) => module.ok())
    .map((module) => ({
      specification: module.toTestSpecification(),
      milliseconds: module.diagnostic().duration,
      passes: module.meta().passes ?? {},
    }));
}

/** Whether a test fails because of a mutant. Tests that are quick and near to its file come first. */
async function isNoticed(number, mutant) {
  const stepsTo = stepsFrom(mutant.file);
  const cost = (test) => test.milliseconds * (stepsTo.get(test.specification.moduleId) ?? Infinity);
  let milliseconds = 0;
  // What a module does as it is loaded belongs to every test file that imports it, not only to the first one.
  const chosen = testFiles
    .filter((test) =>
      mutant.isStatic ? stepsTo.has(test.specification.moduleId) : number in test.passes,
    )
    .sort((a, b) => cost(a) - cost(b))
    .filter((test) => {
      const isInTime = milliseconds < Number(options.seconds) * 1_000;
      milliseconds += test.milliseconds;
      return isInTime;
    });
  if (chosen.length === 0) return false;
  const passes = chosen.map((test) => test.passes[number] ?? 0);
  vitest.config.bail = 1;
  const { testModules, unhandledErrors } = await run(
    chosen.map(({ specification }) => specification),
    {
      active: number,
      mostPasses: 100_000 + 20 * Math.max(...passes),
      mostSeconds: 60 + (10 * milliseconds) / 1_000,
    },
  );
  return unhandledErrors.length > 0 || testModules.some((module) => module.state() === "failed");
}

/** How many imports lie between a file and each of those that need it. */
function stepsFrom(file) {
  const graph = vitest.vite.environments.ssr.moduleGraph;
  const steps = new Map();
  let next = graph.getModulesByFile(join(root, file)) ?? new Set();
  for (let step = 0; next.size > 0; step += 1) {
    const further = new Set();
    for (const { file: path, importers } of next) {
      if (steps.has(path)) continue;
      steps.set(path, step);
      for (const importer of importers) further.add(importer);
    }
    next = further;
  }
  return steps;
}

async function run(specifications, mutant) {
  vitest.provide("mutant", mutant);
  const { testModules, unhandledErrors } = await vitest.runTestSpecifications(specifications);
  // Vitest also gives what it knows of earlier runs.
  const asked = new Set(specifications.map(({ moduleId }) => moduleId));
  return {
    testModules: testModules.filter(({ moduleId }) => asked.has(moduleId)),
    unhandledErrors,
  };
}

function report() {
  const score = (those) => {
    const noticed = those.filter((mutant) => !survivors.includes(mutant)).length;
    return `${((100 * noticed) / those.length).toFixed(1)} % of ${those.length}`;
  };
  const folderOf = (file) => file.slice(0, file.lastIndexOf("/"));
  for (const folder of new Set([...sourceOf.keys()].map(folderOf))) {
    const those = sample.filter(({ file }) => folderOf(file) === folder);
    if (those.length > 0) console.log(`${folder}: ${score(those)}`);
  }
  console.log(`noticed: ${score(sample)}`);
  const { seed, count, files } = options;
  console.log(`again: npm run test:mutants -- --seed ${seed} --count ${count} --files ${files}`);
}
