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
async function run<T>(name: string, ...options: readonly string[]): Promise<T> {
  const program = fileURLToPath(new URL(`./programs/${name}`, import.meta.url));
  const args = ["--expose-gc", program, ...options];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 35_000 });
  return JSON.parse(stdout) as T;
}

function stream(options: {
  readonly reads: boolean;
  /** Messages of 64 KiB after which the first attempt fails. */
  readonly failAfter: number;
  readonly totalMiB: number;
  readonly maxBufferMiB: number;
}): Promise<Held> {
  return run("long-request.mjs", JSON.stringify(options));
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

/** How many of each a weir lists. */
interface Listed {
  readonly breakers: number;
  readonly retries: number;
  readonly bulkheads: number;
  readonly admissions: number;
  readonly servers: number;
}

interface ComeAndGo {
  readonly before: Listed;
  readonly clients: Listed;
  readonly onePolicy: Listed;
  readonly servers: Listed;
  readonly unbounded: boolean;
  readonly kept: string;
  readonly open: string;
  readonly closedServer: string;
  readonly watchers: number;
}

describe("clients and servers that come and go", { timeout: 40_000 }, () => {
  it("leave nothing in their weir, which lists and controls what lives", async () => {
    const seen = await run<ComeAndGo>("come-and-go.mjs");
    const one = { breakers: 1, retries: 1, bulkheads: 1, admissions: 0, servers: 0 };
    expect(seen.before).toEqual(one);
    expect(seen.clients).toEqual(one);
    // A hundred clients of one policy object share its policies, which live as long as the object.
    const two = { breakers: 2, retries: 2, bulkheads: 2, admissions: 0, servers: 0 };
    expect(seen.onePolicy).toEqual(two);
    // Of twenty; Node and grpc-js hold the latest for a while.
    expect(seen.servers.servers).toBeLessThan(4);
    expect(seen.servers.admissions).toBe(seen.servers.servers);
    // The mode reached the client from before and the one from afterwards.
    expect(seen.unbounded).toBe(true);
    expect(seen.kept).toBe("OK");
    // A server whose options nobody else holds is closed all the same.
    expect(seen.open).toBe("OK");
    expect(seen.closedServer).toBe("UNAVAILABLE");
    expect(seen.watchers).toBe(1);
  });
});
