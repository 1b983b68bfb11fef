import { readFile, writeFile } from "node:fs/promises";
import { extname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { fileSource } from "../config/source.js";
import { nearest } from "../core/nearest.js";
import { InvalidOptionError } from "../core/options.js";
import { catalogue } from "../lab/catalogue.js";
import type { Incident } from "../lab/incident.js";
import type { Peer } from "../lab/peers/peer.js";
import { peers } from "../lab/peers/peers.js";
import { weirDefaults } from "../lab/peers/weir.js";
import { readPolicies } from "../lab/policies.js";
import { page } from "../lab/report/page.js";
import { verdicts } from "../lab/report/verdict.js";
import { type IncidentReport, runIncident } from "../lab/run.js";
import { readScenario } from "../lab/scenario.js";
import { type Run, table } from "../lab/table.js";
import { simulateUsage } from "./simulate-usage.js";
import { CommandError, readArguments, type Terminal, UsageError } from "./terminal.js";

const text = { type: "string" } as const;
const yes = { type: "boolean" } as const;

/** What is run: a scenario, and who is compared in it, the first one with all others. */
interface Plan {
  readonly incident: Incident;
  readonly compared: readonly Peer[];
  readonly seeds: readonly number[];
  /** What was given: the scenario, and policies. */
  readonly given: readonly { readonly title: string; readonly value: unknown }[];
}

/**
 * Runs a scenario in virtual time, and shows what became of its calls with and without policies.
 *
 * @throws CommandError
 */
export async function simulate(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = readArguments(args, {
    policies: text,
    compare: text,
    peer: { type: "string", multiple: true },
    seed: text,
    seeds: text,
    html: text,
    json: yes,
    list: yes,
  });
  if (values.help === true) {
    terminal.stdout.write(simulateUsage);
    return;
  }
  if (values.list === true) {
    const lines = catalogue.map(({ name, what }) => `${name.padEnd(longestName + 2)}${what}\n`);
    terminal.stdout.write(lines.join(""));
    return;
  }
  const [name, ...more] = positionals;
  if (name === undefined) throw new UsageError("simulate takes a file or the name of an incident");
  if (more.length > 0) throw new UsageError(`too many arguments: ${more.join(" ")}`);
  const seed = numberIn("seed", values.seed, 2 ** 31 - 1);
  const seeds = Array.from(
    { length: numberIn("seeds", values.seeds, 1_000) },
    (_, at) => seed + at,
  );
  const plan = await planOf(name, seeds, values);
  const runs = await runAll(plan, values.html !== undefined);
  const sentences = verdicts(runs);
  if (values.html !== undefined) {
    const command = `npx grpc-weir simulate ${args.map(quoted).join(" ")}`;
    const version = await versionOfPackage();
    await write(values.html, page({ ...plan, runs, command, version }));
  }
  if (values.json === true) {
    const { incident } = plan;
    const plain = runs.map(({ peer, reports }) => ({ peer, reports: reports.map(numbersOf) }));
    const result = { incident: incident.name, seeds, verdicts: sentences, runs: plain };
    terminal.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
    return;
  }
  terminal.stdout.write(`${table(plan.incident, runs)}\n${sentences.join("\n")}\n`);
  if (values.html !== undefined) terminal.stdout.write(`\nThe report is in ${values.html}\n`);
}

/** A report without what is as long as the run. */
function numbersOf({ incident, peer, seed, phases, recoveryMs, pieces }: IncidentReport): object {
  return { incident, peer, seed, phases, recoveryMs, pieces };
}

const longestName = Math.max(...catalogue.map(({ name }) => name.length));

interface Files {
  readonly policies?: string | undefined;
  readonly compare?: string | undefined;
  readonly peer?: readonly string[] | undefined;
}

async function planOf(name: string, seeds: readonly number[], given: Files): Promise<Plan> {
  const known = catalogue.find((incident) => incident.name === name);
  const inputs: { title: string; value: unknown }[] = [];
  let incident: Incident;
  let own: Peer | undefined;
  if (known !== undefined) {
    incident = known;
    inputs.push({ title: "The scenario", value: known });
  } else {
    if (!looksLikeFile(name)) throw new UsageError(unknownIncident(name));
    const value = await load(name);
    const read = checked(name, () => readScenario(value, stem(name)));
    ({ incident } = read);
    own = read.policies;
    inputs.push({ title: `The scenario: ${name}`, value });
  }
  const policiesIn = async (file: string) => {
    if (isDocument(file)) {
      const { client, methods, server } = checked(file, () => fileSource(file).read());
      const value = { client: { ...client, methods }, server };
      inputs.push({ title: `Policies: ${file}`, value });
      return checked(file, () => readPolicies("policies", value, stem(file)));
    }
    const value = await load(file);
    inputs.push({ title: `Policies: ${file}`, value });
    return checked(file, () => readPolicies("policies", value, stem(file)));
  };
  if (given.policies !== undefined) own = await policiesIn(given.policies);
  const second = given.compare === undefined ? [] : [await policiesIn(given.compare)];
  const others = (given.peer ?? ["bare"]).map((each) => peerCalled(each, incident));
  const compared = [...others, own ?? weirDefaults, ...second];
  // Asked for by --peer, and there anyway.
  const unique = compared.filter((peer, at) => compared.indexOf(peer) === at);
  return { incident, compared: withOwnNames(unique), seeds, given: inputs };
}

/** Two files may have the same name. */
function withOwnNames(all: readonly Peer[]): readonly Peer[] {
  const names = new Map<string, number>();
  return all.map((peer) => {
    const before = names.get(peer.name) ?? 0;
    names.set(peer.name, before + 1);
    return before === 0 ? peer : { ...peer, name: `${peer.name} (${before + 1})` };
  });
}

function peerCalled(name: string, { fixedLimit }: Incident): Peer {
  const peer = peers.find((each) => each.name === name);
  const names = peers.map((each) => each.name);
  if (peer === undefined) {
    throw new UsageError(`--peer is one of ${names.join("; ")}${meant(name, names)}, not ${name}`);
  }
  if (name === "fixed limit" && !Number.isFinite(fixedLimit)) {
    throw new UsageError("the peer fixed limit needs the fixedLimit of the scenario");
  }
  return peer;
}

function unknownIncident(name: string): string {
  const near = meant(
    name,
    catalogue.map((incident) => incident.name),
  );
  return `there is no incident ${name}${near}; --list shows them, and a file ends with ${extensions.join(", ")}`;
}

function meant(name: string, names: readonly string[]): string {
  const near = nearest(name, names);
  return near === undefined ? "" : ` (did you mean ${near}?)`;
}

async function runAll(plan: Plan, timeline: boolean): Promise<readonly Run[]> {
  const runs: Run[] = [];
  for (const peer of plan.compared) {
    const reports = [];
    for (const [at, seed] of plan.seeds.entries()) {
      const options = { timeline: timeline && at === 0 };
      reports.push(await runIncident(plan.incident, peer, seed, options));
    }
    runs.push({ peer: peer.name, reports });
  }
  return runs;
}

const extensions = [".json", ".js", ".mjs", ".ts", ".mts"] as const;

/** A document of policies, as `createWeir({ policies })` reads it. */
function isDocument(file: string): boolean {
  return [".yaml", ".yml"].includes(extname(file));
}

function looksLikeFile(name: string): boolean {
  return /[/\\.]/.test(name);
}

/** `policies/strict.json` is called `strict`. */
function stem(file: string): string {
  return file.replace(/^.*[/\\]/, "").replace(/\.\w+$/, "");
}

/** What a file holds: data in JSON, or the default export of a module. */
async function load(file: string): Promise<unknown> {
  const extension = extname(file);
  if (!extensions.some((each) => each === extension)) {
    throw new UsageError(`${file} does not end with one of ${extensions.join(", ")}`);
  }
  if (extension !== ".json") return importOf(file);
  let content: string;
  try {
    content = await readFile(file, "utf8");
  } catch (error) {
    throw new CommandError(1, `${file} cannot be read: ${messageOf(error)}`);
  }
  try {
    return JSON.parse(content);
  } catch (error) {
    throw new CommandError(1, `${file} is not JSON: ${messageOf(error)}`);
  }
}

async function importOf(file: string): Promise<unknown> {
  let module: { readonly default?: unknown };
  try {
    module = await import(pathToFileURL(resolve(file)).href);
  } catch (error) {
    const unknown = error instanceof Error && "code" in error ? error.code : undefined;
    if (unknown === "ERR_UNKNOWN_FILE_EXTENSION") {
      const text = `${file}: this Node does not read TypeScript; Node 22.18 does, or give JSON or .mjs`;
      throw new CommandError(1, text);
    }
    throw new CommandError(1, `${file} cannot be loaded: ${messageOf(error)}`);
  }
  if (module.default === undefined) throw new CommandError(1, `${file} has no default export`);
  return module.default;
}

/** Says in which file an option is wrong. */
function checked<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof InvalidOptionError)) throw error;
    throw new CommandError(1, `${file}: ${error.message}`);
  }
}

function numberIn(option: string, given: string | undefined, most: number): number {
  if (given === undefined) return 1;
  const value = Number(given);
  if (/^\d+$/.test(given) && value >= 1 && value <= most) return value;
  throw new UsageError(`--${option} is a number from 1 to ${most}, not ${JSON.stringify(given)}`);
}

async function write(file: string, content: string): Promise<void> {
  try {
    await writeFile(file, content);
  } catch (error) {
    throw new CommandError(1, `${file} cannot be written: ${messageOf(error)}`);
  }
}

/** An argument as a shell takes it. */
function quoted(argument: string): string {
  return /^[\w./:=@-]+$/.test(argument)
    ? argument
    : `'${argument.replaceAll("'", String.raw`'\''`)}'`;
}

async function versionOfPackage(): Promise<string> {
  const file = new URL("../../package.json", import.meta.url);
  const { version }: { readonly version: string } = JSON.parse(await readFile(file, "utf8"));
  return version;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
