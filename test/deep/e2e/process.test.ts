import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

interface Run {
  readonly code: number | null;
  readonly output: string;
  readonly ms: number;
}

/** Runs a program that uses the built package, and kills it when it does not end by itself. */
function run(program: string, ...args: string[]): Promise<Run> {
  const file = fileURLToPath(new URL(`./programs/${program}`, import.meta.url));
  const began = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [file, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    const killer = setTimeout(() => child.kill("SIGKILL"), 15_000);
    child.on("exit", (code) => {
      clearTimeout(killer);
      resolve({ code, output: output.trim(), ms: performance.now() - began });
    });
  });
}

/** `UNAVAILABLE after 912 ms` → 912. */
function waitedMs(output: string): number {
  return Number(/after (\d+) ms$/.exec(output)?.[1]);
}

describe("a program that only waits for its call", () => {
  it("stays alive through the backoff, gets its status, and ends", async () => {
    const { code, output } = await run("backoff.mjs", "wait", "300");
    expect(output).toMatch(/^UNAVAILABLE after \d+ ms$/);
    // After the first backoff it waits two seconds for a connection.
    expect(waitedMs(output)).toBeGreaterThanOrEqual(2_280);
    expect(code).toBe(0);
  });

  it("gets an answer and ends when it closes its client during the backoff", async () => {
    const { code, output } = await run("backoff.mjs", "close", "4000");
    expect(output).toMatch(/^UNAVAILABLE after \d+ ms$/);
    // The client is closed after 100 ms. A second attempt would come at 4,000.
    expect(waitedMs(output)).toBeLessThan(3_000);
    expect(code).toBe(0);
  });

  it("gets an answer at once when it closes the weir during the backoff", async () => {
    const { code, output } = await run("backoff.mjs", "weir", "4000");
    expect(output).toMatch(/^UNAVAILABLE after \d+ ms$/);
    expect(waitedMs(output)).toBeLessThan(3_000);
    expect(code).toBe(0);
  });
});
