import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "../../src/cli/run.js";

async function runWith(...args: string[]) {
  let stdout = "";
  let stderr = "";
  const code = await run(["simulate", ...args], {
    stdout: {
      write: (text) => {
        stdout += text;
      },
    },
    stderr: {
      write: (text) => {
        stderr += text;
      },
    },
    once: () => {},
    removeListener: () => {},
  });
  return { code, stdout, stderr };
}

const scenario = {
  what: "The load doubles.",
  work: { kind: "pool", size: 4, ms: 20 },
  load: { perSecond: 160, deadlineMs: 200 },
  phases: [
    { name: "before", ms: 100 },
    { name: "during", ms: 400, load: 2 },
  ],
};

let folder: string;
const fileOf = (name: string) => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "weir-simulate-"));
  const files: Record<string, string> = {
    "doubled.json": JSON.stringify(scenario),
    "doubled.mjs": `export default ${JSON.stringify({ ...scenario, policies: { client: { retry: false } } })};`,
    "empty.mjs": "export const scenario = 1;",
    "broken.json": "{",
    "misspelt.json": JSON.stringify({ ...scenario, laod: {} }),
    "strict.json": JSON.stringify({ server: { admission: { limit: 4 } } }),
    "document.yaml": "client: { retryOff: true }\nserver: { admission: { maxWait: 0.1s } }\n",
    "wrong.yaml": "client: { retry: { maxAttemps: 2 } }\n",
    "wrong.json": JSON.stringify({ server: { admission: { limt: 4 } } }),
  };
  for (const [name, content] of Object.entries(files)) await writeFile(fileOf(name), content);
});
afterAll(() => rm(folder, { recursive: true }));

describe("grpc-weir simulate", () => {
  it("lists the incidents that it brings", async () => {
    const { code, stdout } = await runWith("--list");
    expect(stdout).toMatch(/^calm-50 +Nothing happens\./m);
    expect(stdout).toMatch(/^load-2x-pool +The load rises/m);
    expect(code).toBe(0);
  });

  it("runs a scenario without policies and with the defaults, and says what that changes", async () => {
    const { code, stdout, stderr } = await runWith(fileOf("doubled.json"));
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^## doubled\nThe load doubles\.\n\nphase /);
    expect(stdout).toMatch(/^during +bare /m);
    expect(stdout).toMatch(/^during +weir /m);
    expect(stdout).toMatch(/^Against bare, weir serves .*\.$/m);
    expect(code).toBe(0);
  });

  it("runs the policies of a module, and others beside them, with the peers that are asked for", async () => {
    const peers = ["--peer", "retryPolicy", "--peer", "weir"];
    const files = ["--compare", fileOf("strict.json"), "--policies", fileOf("strict.json")];
    const { stdout } = await runWith(
      fileOf("doubled.mjs"),
      ...peers,
      "--compare",
      fileOf("strict.json"),
    );
    const columns = [...stdout.matchAll(/^during +(\S+)/gm)].map(([, peer]) => peer);
    expect(columns).toEqual(["retryPolicy", "weir", "policies", "strict"]);
    expect(stdout).toMatch(/^Against policies, strict /m);
    const same = await runWith(fileOf("doubled.mjs"), ...files);
    expect(same.stdout).toMatch(/^during +strict \(2\)/m);
  });

  it("runs a document of policies, as a program reads it", async () => {
    const document = ["--policies", fileOf("document.yaml")];
    const { code, stdout, stderr } = await runWith(fileOf("doubled.json"), ...document);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^during +document /m);
    expect(code).toBe(0);
  });

  it("is the same for the same seed, and prints all numbers when asked to", async () => {
    const numbers = async (...args: string[]) => {
      const { stdout } = await runWith(fileOf("doubled.json"), "--json", ...args);
      return JSON.parse(stdout);
    };
    const first = await numbers("--seed", "7", "--seeds", "2");
    expect(first).toMatchObject({ incident: "doubled", seeds: [7, 8] });
    expect(first.runs[1].reports).toHaveLength(2);
    const { runs } = await numbers("--seed", "8");
    expect(runs[0].reports[0]).toEqual(first.runs[0].reports[1]);
    expect(runs[0].reports[0]).not.toEqual(first.runs[0].reports[0]);
  });

  it("writes a report, with the command that makes it again", async () => {
    const html = fileOf("it's a report.html");
    const { code, stdout } = await runWith(fileOf("doubled.json"), "--html", html);
    expect(stdout).toContain(`The report is in ${html}`);
    const page = await readFile(html, "utf8");
    expect(page).toContain("<title>doubled – grpc-weir simulate</title>");
    expect(page).toContain(`npx grpc-weir simulate ${fileOf("doubled.json")} --html &#39;`);
    expect(page).toContain("<summary>The scenario: ");
    expect(code).toBe(0);
  });

  it.each([
    [[], "simulate takes a file or the name of an incident"],
    [["calm-50", "calm-90"], "too many arguments: calm-90"],
    [["calm-5O"], "there is no incident calm-5O (did you mean calm-50?); --list shows them"],
    [["scenario.yaml"], "scenario.yaml does not end with one of .json, .js, .mjs, .ts, .mts"],
    [["calm-50", "--seed", "0"], '--seed is a number from 1 to 2147483647, not "0"'],
    [["calm-50", "--seeds", "x"], '--seeds is a number from 1 to 1000, not "x"'],
    [["calm-50", "--peer", "wier"], "--peer is one of bare; "],
    [["calm-50", "--peer", "wier"], "(did you mean weir?), not wier"],
  ])("refuses %j, with the usage", async (args, why) => {
    const { code, stdout, stderr } = await runWith(...args);
    expect(stderr).toContain(why);
    expect(stderr).toContain("Usage: grpc-weir simulate");
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });

  it.each([
    [["absent.json"], "absent.json cannot be read: ENOENT"],
    [["absent.mjs"], "absent.mjs cannot be loaded: "],
    [["broken.json"], "broken.json is not JSON: "],
    [["empty.mjs"], "empty.mjs has no default export"],
    [["misspelt.json"], "misspelt.json: scenario.laod is not an option; did you mean load?"],
    [
      ["doubled.json", "--policies", "wrong.json"],
      "wrong.json: policies.server.admission.limt is not an option; did you mean limit?",
    ],
    [["doubled.json", "--policies", "wrong.yaml"], "wrong.yaml:1:"],
    [["doubled.json", "--compare", "absent.yaml"], "cannot be read: ENOENT"],
    [["doubled.json", "--compare", "absent.json"], "absent.json cannot be read"],
    [["doubled.json", "--html", "absent/report.html"], "report.html cannot be written: ENOENT"],
  ])("says of %j what cannot be done", async (args, why) => {
    const { code, stdout, stderr } = await runWith(
      ...args.map((arg) => (arg.startsWith("--") ? arg : fileOf(arg))),
    );
    expect(stderr).toContain(why);
    expect(stderr).not.toContain("Usage:");
    expect(stdout).toBe("");
    expect(code).toBe(1);
  });

  it("needs the right number for a peer that is told it", async () => {
    const { code, stderr } = await runWith(fileOf("doubled.json"), "--peer", "fixed limit");
    expect(stderr).toContain("the peer fixed limit needs the fixedLimit of the scenario");
    expect(code).toBe(2);
  });
});
