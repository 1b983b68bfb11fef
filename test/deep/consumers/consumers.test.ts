import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const run = promisify(execFile);

/** What is installed for these tests, with the package as it would be published. It stands outside of the repository. */
let folder: string;
/** What the compiler and the bundlers complain about. */
let compiled: Readonly<Record<string, readonly string[]>>;
let bundled: readonly string[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "grpc-weir-consumers-"));
  await cp(join(root, "test/consumers"), folder, { recursive: true });
  await run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: folder });
  const packing = ["pack", root, "--ignore-scripts", "--json", "--pack-destination", folder];
  const { stdout } = await run("npm", packing);
  const [packed] = JSON.parse(stdout) as readonly { readonly filename: string }[];
  const installed = join(folder, "node_modules/grpc-weir");
  await mkdir(installed);
  const archive = join(folder, packed?.filename ?? "");
  await run("tar", ["-xzf", archive, "-C", installed, "--strip-components=1"]);
  compiled = await printed(process.execPath, "compile.cjs");
  bundled = await printed(process.execPath, "bundle.cjs");
}, 600_000);

afterAll(() => rm(folder, { recursive: true, force: true }));

async function output(program: string, ...args: string[]): Promise<string> {
  // What the test runner sets for its own process would change what the tools do.
  const { NODE_OPTIONS: _, NODE_ENV: __, VITEST: ___, ...env } = process.env;
  const { stdout, stderr } = await run(program, args, { cwd: folder, env });
  return stdout === "" ? stderr : stdout;
}

async function printed<T>(program: string, ...args: string[]): Promise<T> {
  return JSON.parse(await output(program, ...args)) as T;
}

const installed = (path: string) => join(folder, "node_modules", path);

const retried = {
  answer: "heard hello",
  runs: 2,
  priority: "high",
  nonsense: true,
  entryPoints: 8,
};

const oneInstance = {
  entryPoints: [
    "grpc-weir",
    "grpc-weir/client",
    "grpc-weir/server",
    "grpc-weir/config",
    "grpc-weir/otel",
    "grpc-weir/redis",
    "grpc-weir/testing",
    "grpc-weir/viewer",
  ],
  differences: [],
};

describe.each([
  "node10",
  "node16-commonjs",
  "node16-esm",
  "node18-commonjs",
  "nodenext-commonjs",
  "nodenext-esm",
])("TypeScript with the modules of %s", (system) => {
  it("compiles, and the program runs", { timeout: 60_000 }, async () => {
    expect(compiled[system]).toEqual([]);
    expect(await printed(process.execPath, join(system, "main.js"))).toEqual(retried);
  });
});

describe("TypeScript for a bundler", () => {
  it("compiles", () => {
    const { bundler: errors } = compiled;
    expect(errors).toEqual([]);
  });
});

describe("NestJS", () => {
  it("compiles with the toolkit", () => {
    const { nestjs: errors } = compiled;
    expect(errors).toEqual([]);
  });

  it("passes its calls through the policies, on client and server", {
    timeout: 60_000,
  }, async () => {
    expect(await printed(process.execPath, "nestjs/main.js")).toEqual({
      quantity: 42,
      // The first attempt fails. The second has the same priority, and time left.
      seen: ["high true", "high true", "time left"],
      // By the guard that reads the priority.
      refused: { code: 7 },
      kind: "unary",
      report: { inFlight: expect.any(Number), cutOff: 0, tookMs: expect.any(Number) },
      afterwards: { code: 14 },
    });
  });
});

describe("clients of other libraries", () => {
  it("compile with the toolkit", () => {
    const { clients: errors } = compiled;
    expect(errors).toEqual([]);
  });

  it("have their calls retried", { timeout: 60_000 }, async () => {
    expect(await printed(process.execPath, "clients/main.js")).toEqual({
      said: "hello, high",
      value: "bar",
      attempts: ["/consumers.Echo/Say: 2", "/etcdserverpb.KV/Range: 2"],
    });
  });

  it("of Pub/Sub, which google-gax makes, are retried in one place, and have the breaker", {
    timeout: 60_000,
  }, async () => {
    expect(await printed(process.execPath, "clients/pubsub.js")).toEqual({
      retried: { name: "projects/p/topics/t", calls: 2 },
      deadline: true,
      failed: { code: 14, calls: 3 },
      refused: { code: 14, reason: "BREAKER_OPEN", calls: 0 },
    });
  });

  it("of connect-es run in a guard", { timeout: 60_000 }, async () => {
    expect(await printed(process.execPath, "clients/connect.js")).toEqual({
      retried: { text: "heard hello", calls: 2 },
      streamed: ["heard stream", "more"],
      seen: ["high true", "high true"],
      failed: [true, 3],
      refused: [true, "BREAKER_OPEN"],
      calls: 0,
    });
  });
});

describe("the command of the package", () => {
  const protos = join(root, "proto");
  const shop = "demo.shop.v1.InventoryService";

  /** Runs what npm links as `grpc-weir`. */
  async function command(...args: string[]): Promise<string> {
    const manifest = await readFile(installed("grpc-weir/package.json"), "utf8");
    const { bin } = JSON.parse(manifest) as { readonly bin: Readonly<Record<string, string>> };
    const { "grpc-weir": main = "" } = bin;
    return await output(process.execPath, join(installed("grpc-weir"), main), ...args);
  }

  async function reflecting(): Promise<{ readonly target: string; readonly server: Server }> {
    const server = new Server();
    const schemas = loadSync("demo/shop/v1/inventory.proto", { includeDirs: [protos] });
    new ReflectionService(schemas).addToServer(server);
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    return { target: `127.0.0.1:${port}`, server };
  }

  it("writes a first document from a running server, and the same from protos, in which nothing is unwise", {
    timeout: 60_000,
  }, async () => {
    const { target, server } = await reflecting();
    const proto = join(protos, "demo/shop/v1/inventory.proto");
    try {
      expect(await command("init", "asked.yaml", "--reflect", target)).toBe(
        `asked.yaml: 4 methods of ${shop}; all policies observe\n`,
      );
      expect(await command("init", "read.yaml", "--proto", proto)).toBe(
        `read.yaml: 4 methods of ${shop}; all policies observe\n`,
      );
      expect(await command("check", "asked.yaml", "read.yaml", "--reflect", target)).toBe(
        "3 files: nothing found\n",
      );
    } finally {
      server.forceShutdown();
    }
    const [asked, read] = await Promise.all(
      ["asked.yaml", "read.yaml"].map((name) => readFile(join(folder, name), "utf8")),
    );
    expect(read?.replace(proto, target)).toBe(asked);
  });
});

describe.each(["esbuild", "webpack"])("%s", (bundler) => {
  it.each(["esm", "commonjs"])("bundles %s", { timeout: 60_000 }, async (program) => {
    expect(bundled).toEqual([]);
    const bundle = join(`${bundler}-out`, `${program}.cjs`);
    expect(await printed(process.execPath, bundle)).toEqual(retried);
  });
});

describe("a program that runs its TypeScript", () => {
  it("with tsx", { timeout: 60_000 }, async () => {
    const tsx = installed("tsx/dist/cli.mjs");
    expect(await printed(process.execPath, tsx, "main.ts")).toEqual(retried);
  });

  it("with ts-node", { timeout: 60_000 }, async () => {
    const options = JSON.stringify({ module: "commonjs", moduleResolution: "node10" });
    const args = [installed("ts-node/dist/bin.js"), "-T", "-O", options, "node10/main.ts"];
    expect(await printed(process.execPath, ...args)).toEqual(retried);
  });
});

describe("a test runner without configuration", () => {
  it("Jest", { timeout: 60_000 }, async () => {
    const told = await output(process.execPath, installed("jest/bin/jest.js"), "jest.test.cjs");
    expect(told).toMatch(/Tests: +1 passed, 1 total/);
  });

  it("Vitest", { timeout: 60_000 }, async () => {
    const vitest = join(root, "node_modules/vitest/vitest.mjs");
    const args = ["run", "--root", folder, "--reporter=json", "vitest.spec.ts"];
    expect(await printed(process.execPath, vitest, ...args)).toMatchObject({
      numPassedTests: 1,
      numTotalTests: 1,
    });
  });
});

/** Packages for this platform alone bring them: on others there is nothing to run. */
const otherRuntimes = process.platform === "linux" && process.arch === "x64";
const runtimes = {
  Bun: ["@oven/bun-linux-x64/bin/bun"],
  Deno: ["@deno/linux-x64-glibc/deno", "run", "--allow-all", "--node-modules-dir=manual"],
} as const;

describe.runIf(otherRuntimes).each(["Bun", "Deno"] as const)("%s", (name) => {
  const [program, ...args] = runtimes[name];
  it.each(["nodenext-esm/main.js", "node10/main.js"])(
    "runs %s",
    { timeout: 60_000 },
    async (main) => {
      expect(await printed(installed(program), ...args, main)).toEqual(retried);
    },
  );

  it("has one instance", { timeout: 60_000 }, async () => {
    expect(await printed(installed(program), ...args, "one-instance.cjs")).toEqual(oneInstance);
  });
});

describe("a process that loads the package by require and by import", () => {
  it("looks at every entry point", async () => {
    const manifest: unknown = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    const { exports: exported } = manifest as { readonly exports: object };
    const names = Object.keys(exported).filter((subpath) => subpath !== "./package.json");
    expect(oneInstance.entryPoints).toEqual(names.map((subpath) => `grpc-weir${subpath.slice(1)}`));
  });

  it.each(["one-instance.cjs", "esbuild-out/both.cjs", "webpack-out/both.cjs"])(
    "has one instance: %s",
    { timeout: 60_000 },
    async (program) => {
      expect(await printed(process.execPath, program)).toEqual(oneInstance);
    },
  );
});
