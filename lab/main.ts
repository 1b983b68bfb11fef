import { parseArgs } from "node:util";
import { isRecord } from "../src/core/options.js";
import { catalogue } from "../src/lab/catalogue.js";
import type { Incident } from "../src/lab/incident.js";
import { peers } from "../src/lab/peers/peers.js";
import { type WeirPolicies, weirPeer } from "../src/lab/peers/weir.js";
import { runIncident } from "../src/lab/run.js";
import { type Run, summary, table } from "../src/lab/table.js";
import { writeGallery } from "./gallery.js";
import { breaches } from "./law.js";
import { compareWithReality } from "./reality/reality.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seeds: { type: "string", default: "1" },
    peer: { type: "string", multiple: true, default: [] },
    json: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    set: { type: "string", multiple: true, default: [] },
    gallery: { type: "boolean", default: false },
    markdown: { type: "boolean", default: false },
    reality: { type: "boolean", default: false },
  },
});

if (values.gallery) {
  await writeGallery();
  process.exit();
}

if (values.reality) {
  process.exit((await compareWithReality(positionals)) ? 0 : 1);
}

const known = new Set(catalogue.map(({ name }) => name));
const unknown = positionals.filter((name) => !known.has(name));
const names = peers.map(({ name }) => name);
if (values.peer.some((name) => !names.includes(name))) {
  console.error(`The peers are: ${names.join("; ")}.`);
  process.exit(1);
}
if (unknown.length > 0 || values.list) {
  if (unknown.length > 0) console.error(`There is no incident ${unknown.join(", ")}.`);
  for (const { name, what } of catalogue) {
    console.log(values.markdown ? `| \`${name}\` | ${what} |` : `${name.padEnd(28)}${what}`);
  }
  process.exit(unknown.length > 0 ? 1 : 0);
}

/**
 * The options of `--set`, such as `server.admission.publish=false`, as those of a peer. Values are JSON; what is none is a
 * text.
 */
function policiesOf(given: readonly string[]): WeirPolicies {
  const policies: Record<string, unknown> = { client: {}, server: { admission: {} } };
  for (const each of given) {
    const [, path = "", text = ""] = /^((?:client|server)(?:\.\w+)+)=(.+)$/s.exec(each) ?? [];
    if (path === "") {
      console.error(`${each} sets nothing: write client.… or server.…=value.`);
      process.exit(1);
    }
    const names = path.split(".");
    const last = names.pop() ?? "";
    let inside = policies;
    for (const name of names) {
      const next: unknown = inside[name];
      const record: Record<string, unknown> = isRecord(next) ? { ...next } : {};
      inside[name] = record;
      inside = record;
    }
    inside[last] = jsonOrText(text);
  }
  return policies;
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const wanted = positionals.length > 0 ? new Set(positionals) : known;
const chosen = peers.filter(({ name }) => values.peer.length === 0 || values.peer.includes(name));
const compared =
  values.set.length === 0
    ? chosen
    : [...chosen, weirPeer(`weir, ${values.set.join(", ")}`, policiesOf(values.set))];
const seeds = Array.from({ length: Number(values.seeds) }, (_, index) => index + 1);
const cpuBefore = process.cpuUsage();
let calls = 0;
const done: { readonly incident: Incident; readonly runs: readonly Run[] }[] = [];
for (const incident of catalogue.filter(({ name }) => wanted.has(name))) {
  const runs: Run[] = [];
  done.push({ incident, runs });
  for (const peer of compared) {
    const reports = [];
    for (const seed of seeds) reports.push(await runIncident(incident, peer, seed));
    for (const { phases } of reports) for (const { sent } of phases) calls += sent;
    runs.push({ peer: peer.name, reports });
  }
  if (values.json) console.log(JSON.stringify(runs, withoutCalls));
  else if (!values.markdown) console.log(`${table(incident, runs)}\n${lawOf(incident, runs)}\n`);
}

/** What became of each single call is for the law, and too long to read. */
function withoutCalls(key: string, value: unknown): unknown {
  return key === "outcomes" ? undefined : value;
}

/** Whether the law holds, with each seed. It takes the toolkit and bare grpc-js to tell. */
function lawOf(incident: Incident, runs: readonly Run[]): string {
  const its = new Set(runs.map(({ peer }) => peer));
  if (!its.has("weir") || !its.has("bare")) return "";
  const found = seeds.flatMap((seed, index) => {
    const reports = runs.flatMap(({ reports: all }) => all[index] ?? []);
    return breaches(incident, reports).map((breach) => `Law broken, seed ${seed}: ${breach}.`);
  });
  return found.length === 0 ? "The law holds." : found.join("\n");
}

const { user, system } = process.cpuUsage(cpuBefore);
const cpuSeconds = (user + system) / 1e6;
if (values.markdown) {
  console.log(`${summary(done)}\n`);
  for (const { incident, runs } of done) {
    const law = lawOf(incident, runs);
    if (law.startsWith("Law broken")) console.log(`- **\`${incident.name}\`**: ${law}`);
  }
} else if (!values.json) {
  if (done.length > 1) console.log(`${summary(done)}\n`);
  const speed = Math.round(calls / cpuSeconds).toLocaleString("en");
  console.log(
    `${calls.toLocaleString("en")} calls in ${cpuSeconds.toFixed(1)} s of CPU: ${speed} a second`,
  );
}
