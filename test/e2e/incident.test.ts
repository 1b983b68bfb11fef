import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

// As `npm test` has built it.
const program = fileURLToPath(new URL("../../build/examples/incident/main.js", import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

/** Plays the incident. `meanwhile` is told of its process as soon as it prints `when`. */
function play(when?: RegExp, meanwhile?: (pid: number) => void): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let told = false;
    const hear = (chunk: Buffer) => {
      output += chunk.toString();
      if (told || when?.test(output) !== true || child.pid === undefined) return;
      told = true;
      meanwhile?.(child.pid);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("close", (code) => resolve({ code, output }));
  });
}

/** Processes of the incident whose parent is, or was, the given one. Linux tells; elsewhere none is found. */
function processesOf(parent: number): number[] {
  const found: number[] = [];
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const [, ppid] = /\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, "utf8")) ?? [];
      if (Number(ppid) === parent) found.push(Number(name));
    } catch {
      // It has ended since.
    }
  }
  return found;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function allEnd(pids: readonly number[]): Promise<boolean> {
  for (let tries = 0; tries < 100; tries += 1) {
    if (!pids.some(isAlive)) return true;
    await sleep(50);
  }
  return false;
}

describe("the incident", () => {
  it("is played to its end, and holds what it claims", { timeout: 180_000 }, async () => {
    const { code, output } = await play();
    expect(output).toMatch(/priority +sent/);
    expect(output).toMatch(/attempt 2: retry/);
    expect(code, output).toBe(0);
  });

  const onLinux = it.runIf(process.platform === "linux");

  onLinux("leaves no process behind when it is interrupted", { timeout: 60_000 }, async () => {
    let children: number[] = [];
    const { code } = await play(/1\/5/, (pid) => {
      children = processesOf(pid);
      process.kill(pid, "SIGINT");
    });
    expect(children.length).toBeGreaterThanOrEqual(5);
    expect(await allEnd(children)).toBe(true);
    expect(code).toBe(130);
  });

  onLinux("leaves no process behind when it is killed", { timeout: 60_000 }, async () => {
    let children: number[] = [];
    await play(/1\/5/, (pid) => {
      children = processesOf(pid);
      process.kill(pid, "SIGKILL");
    });
    expect(children.length).toBeGreaterThanOrEqual(5);
    expect(await allEnd(children)).toBe(true);
  });

  onLinux("says so when one of its processes dies", { timeout: 60_000 }, async () => {
    let children: number[] = [];
    const { code, output } = await play(/1\/5/, (pid) => {
      children = processesOf(pid);
      const [first] = children;
      if (first !== undefined) process.kill(first, "SIGKILL");
    });
    expect(code, output).toBe(1);
    expect(output).toMatch(/the \w+ process ended: SIGKILL/);
    expect(await allEnd(children)).toBe(true);
  });
});
