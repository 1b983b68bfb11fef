import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

/** What a connection, a call and messages on their way through them take, whatever the length of the request. */
const marginMiB = 12;

interface Held {
  /** The most that was held, and what was held at the end of the request, above what there was before the call. */
  readonly peakMiB: number;
  readonly endMiB: number;
  /** The caller could not go on writing. */
  readonly held: boolean;
  readonly error?: string;
  readonly response?: { attempts: number; messages: number; inOrder: boolean };
}

/** Runs the built package in a process of its own, which can collect its garbage before it looks. */
async function stream(options: {
  readonly reads: boolean;
  /** Messages of 64 KiB after which the first attempt fails. */
  readonly failAfter: number;
  readonly totalMiB: number;
  readonly maxBufferMiB: number;
}): Promise<Held> {
  const program = fileURLToPath(new URL("./programs/long-request.mjs", import.meta.url));
  const args = ["--expose-gc", program, JSON.stringify(options)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 35_000 });
  return JSON.parse(stdout) as Held;
}

describe("a call that may be retried and streams a long request", { timeout: 40_000 }, () => {
  it("holds no more of 300 MiB than its buffer may keep, when its second attempt takes them", async () => {
    const { peakMiB, response } = await stream({
      reads: true,
      failAfter: 8,
      totalMiB: 300,
      maxBufferMiB: 1,
    });
    expect(response).toEqual({ attempts: 2, messages: 4_800, inOrder: true });
    expect(peakMiB).toBeLessThan(1 + marginMiB);
  });

  it("keeps as much as it may of a request that nobody has answered, and lets go of it all when that is too much", async () => {
    const { peakMiB, endMiB, response } = await stream({
      reads: true,
      failAfter: Number.MAX_SAFE_INTEGER,
      totalMiB: 64,
      maxBufferMiB: 24,
    });
    expect(response).toEqual({ attempts: 1, messages: 1_024, inOrder: true });
    expect(peakMiB).toBeGreaterThan(24 - marginMiB);
    expect(peakMiB).toBeLessThan(24 + marginMiB);
    expect(endMiB).toBeLessThan(marginMiB);
  });

  it("holds its caller up, and nothing more, when the server does not read", async () => {
    const { peakMiB, held, error } = await stream({
      reads: false,
      failAfter: 0,
      totalMiB: 100,
      maxBufferMiB: 1,
    });
    expect(held).toBe(true);
    expect(error).toContain("CANCELLED");
    expect(peakMiB).toBeLessThan(1 + marginMiB);
  });
});
