import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { catalogue } from "../src/lab/catalogue.js";
import { peers } from "../src/lab/peers/peers.js";
import { verdicts } from "../src/lab/report/verdict.js";
import { runIncident } from "../src/lab/run.js";
import type { Run } from "../src/lab/table.js";
import { picture } from "./picture.js";

/** One incident of the gallery. */
interface Shown {
  readonly incident: string;
  readonly title: string;
  /** What happens without policies, and what with them, and why. */
  readonly story: string;
  /** Who is compared with bare grpc-js. @defaultValue `weir` */
  readonly peer?: "weir, idempotent";
}

const gallery: readonly Shown[] = [
  {
    incident: "load-2x-pool",
    title: "More load than a database can do",
    story:
      "Without a limit, all calls queue at the pool, each waits longer than its deadline, and the pool works for callers who have left. It stays so after the load is back to normal, because the queue is still there. With a limit that is learnt, the queue is short, and what has no room is refused at once, the least important calls first.",
  },
  {
    incident: "load-2x-cpu",
    title: "More load than a CPU can do",
    story:
      "Handlers that compute run one at a time, so that a limit of running calls limits nothing. Admission sees how late the event loop is, and refuses calls before their handlers begin.",
  },
  {
    incident: "reload-storm",
    title: "Users who press reload",
    story:
      "Each call that fails comes again, up to three times. Failures make load, and load makes failures: the storm goes on when its cause is over. Calls that are refused early cost little, and the server stays at what it can do.",
  },
  {
    incident: "dependency-slow-3x",
    title: "A dependency becomes slow",
    story:
      "Nothing is wrong with the load; the pool behind the server takes three times as long. The limit has to be learnt again, downwards, while the calls already wait.",
  },
  {
    incident: "one-of-three-slow",
    title: "One of three servers is slow",
    story:
      "Round robin gives it a third of the calls, and they run into their deadlines. With admission, the slow server refuses what it cannot do in time.",
  },
  {
    incident: "one-of-three-fails",
    title: "One of three servers fails",
    story:
      "A server that has lost its database answers at once, with UNAVAILABLE. Methods that may run twice are retried on the other servers, within a budget.",
    peer: "weir, idempotent",
  },
  {
    incident: "server-gone-2s",
    title: "The only server is gone",
    story:
      "Without a server nobody can be served. What differs is what happens when it is back: how soon clients notice, and whether it is run over.",
    peer: "weir, idempotent",
  },
  {
    incident: "errors-25",
    title: "A quarter of all calls fails",
    story:
      "A second attempt would save most of them, and a breaker that opens would lose those that are well. The budget of retries bounds the additional load.",
    peer: "weir, idempotent",
  },
  {
    incident: "connection-reset",
    title: "Connections are cut",
    story:
      "The calls on the connections are lost, whether they have run or not. Those that may run twice are sent again, at once.",
    peer: "weir, idempotent",
  },
  {
    incident: "gc-200ms",
    title: "Garbage collections",
    story:
      "The server stops for 200 ms, three times. Calls are late, and all of them have time enough: nothing is to be done, and nothing is done.",
  },
];

const seed = 1;

/** Makes the gallery of incidents: a picture of each, and the page `docs/incidents.md`. */
export async function writeGallery(): Promise<void> {
  const docs = fileURLToPath(new URL("../../docs/", import.meta.url));
  const folder = `${docs}pictures/incidents/`;
  mkdirSync(folder, { recursive: true });
  for (const old of readdirSync(folder)) rmSync(folder + old);
  const sections: string[] = [];
  for (const shown of gallery) {
    const incident = catalogue.find(({ name }) => name === shown.incident);
    if (incident === undefined) throw new Error(`there is no incident ${shown.incident}`);
    const runs: Run[] = [];
    for (const name of ["bare", shown.peer ?? "weir"]) {
      const peer = peers.find((each) => each.name === name);
      if (peer === undefined) throw new Error(`there is no peer ${name}`);
      runs.push({
        peer: name,
        reports: [await runIncident(incident, peer, seed, { timeline: true })],
      });
    }
    const drawn = picture(incident, runs);
    writeFileSync(`${folder}${incident.name}.svg`, drawn);
    const [verdict = ""] = verdicts(runs);
    const others = shown.peer === undefined ? "" : ` --peer bare --peer '${shown.peer}'`;
    const summary = `${incident.what} Wanted: ${incident.wanted}`;
    sections.push(`## ${shown.title}

${summary}

![What became of the calls over time, and which were served, with bare and with ${shown.peer ?? "weir"}](pictures/incidents/${incident.name}.svg)

${shown.story}

${verdict}

\`\`\`
npx grpc-weir simulate ${incident.name}${others} --html ${incident.name}.html
\`\`\`
`);
    console.log(`${incident.name}: ${(drawn.length / 1_000).toFixed(1)} kB`);
  }
  writeFileSync(`${docs}incidents.md`, `${intro}\n${sections.join("\n")}`);
}

const intro = `# Incidents, before and after

Ten incidents of the [lab](lab.md), each with bare grpc-js and with the defaults of the toolkit, and the same users. The interceptors are the real ones; clients, servers and network are models in virtual time. *weir, idempotent* are the defaults where it is known that methods may run twice: \`retry: { idempotent: true }\`.

In each picture, the shaded time is that of the incident, and a dotted line is something that happens. The command below a picture makes a report of the same run, with more plots and all numbers; the same seed gives the same numbers on every machine. [How to simulate your own service](simulate.md) is another page.

This page and its pictures are made by \`npm run lab -- --gallery\`.
`;
