import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = new URL("../../../", import.meta.url);
const pathOf = (path: string) => fileURLToPath(new URL(path, root));
const cli = pathOf("dist/cli/main.js");
const programs = "test/deep/viewer/programs";

/** Runs a program of the built package. It is killed when it does not end by itself. */
function start(...args: string[]) {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const waiting = new Set<() => void>();
  const keep = (chunk: Buffer) => {
    output += chunk.toString();
    for (const look of waiting) look();
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const killer = setTimeout(() => child.kill("SIGKILL"), 280_000);
  const ended = new Promise<number | string | null>((resolve) => {
    child.on("close", (code, signal) => {
      clearTimeout(killer);
      for (const look of waiting) look();
      resolve(code ?? signal);
    });
  });
  return {
    child,
    ended,
    output: () => output,
    /** What the program prints that fits. */
    says: (pattern: RegExp) =>
      new Promise<string>((resolve, reject) => {
        const look = () => {
          const [, found] = pattern.exec(output) ?? [];
          if (found !== undefined) resolve(found);
          else if (child.exitCode !== null) reject(new Error(`it ended and said: ${output}`));
        };
        waiting.add(look);
        look();
      }),
  };
}

const anyPorts = ["--port=0", "--otlp-grpc-port=0", "--otlp-http-port=0"];

describe("grpc-weir view", () => {
  it.each(["SIGINT", "SIGTERM"] as const)("serves until %s, and ends with 0", async (signal) => {
    const { child, ended, says, output } = start(cli, "view", ...anyPorts);
    const url = await says(/Open (http:\S+)/);
    const http = await says(/(http:\S+) {2}OTLP over HTTP/);
    await says(/(Ctrl\+C)/);
    expect(await fetch(url)).toMatchObject({ status: 200 });
    const headers = { "content-type": "application/json" };
    const sent = await fetch(`${http}/v1/traces`, { method: "POST", headers, body: "{}" });
    expect(await sent.text()).toBe("{}");
    child.kill(signal);
    expect(await ended).toBe(0);
    expect(output()).not.toContain("Warning");
  });

  it.each([
    ["--port", "the page"],
    ["--otlp-grpc-port", "OTLP over gRPC"],
    ["--otlp-http-port", "OTLP over HTTP"],
  ])("says that the port of %s is in use", async (flag, use) => {
    const server = createServer();
    const port = await new Promise<number>((resolve, reject) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        if (typeof address === "object" && address !== null) resolve(address.port);
        else reject(new Error("it has no port"));
      });
    });
    const ports = anyPorts.filter((any) => !any.startsWith(`${flag}=`));
    const { ended, output } = start(cli, "view", ...ports, `${flag}=${port}`);
    expect(await ended).toBe(1);
    expect(output()).toBe(
      `grpc-weir: port ${port} for ${use} is in use: ${flag} names another one, 0 any.\n`,
    );
    server.close();
  });

  it("refuses what it does not know", async () => {
    const { ended, output } = start(cli, "view", "--colour");
    expect(await ended).toBe(2);
    expect(output()).toContain("unknown option '--colour'");
  });
});

describe("a process with a viewer", () => {
  it("ends when it has nothing else to do", async () => {
    const { ended, output } = start(pathOf(`${programs}/with-viewer.mjs`), "leave");
    expect(await ended).toBe(0);
    expect(output()).toBe("ready\n");
  });

  it("stays alive if it is asked to", async () => {
    const { child, ended, says } = start(pathOf(`${programs}/with-viewer.mjs`), "stay");
    await says(/(ready)/);
    child.kill("SIGTERM");
    expect(await ended).toBe("SIGTERM");
  });
});

it("a million spans fit into bounded memory, and take little time", {
  timeout: 120_000,
}, async () => {
  const { ended, output } = start("--expose-gc", pathOf(`${programs}/flood.mjs`));
  expect(await ended).toBe(0);
  const { heapMb, estimateMb, microsecondsPerSpan, spans, calls, dropped } = JSON.parse(output());
  // 200,000 traces: each has one call, which both sides report.
  expect({ spans, calls, dropped }).toEqual({ spans: 50_000, calls: 10_000, dropped: 190_000 });
  // What is kept may take 64 MB, and the estimate is not far off.
  expect(estimateMb).toBeLessThan(64);
  expect(heapMb).toBeLessThan(100);
  // Measured: about 8.
  expect(microsecondsPerSpan).toBeLessThan(50);
});
