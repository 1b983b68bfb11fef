import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type RedisQuotaOptions, redisQuotaStore } from "../../../src/redis/quota-store.js";
import { libraries, type OpenClient } from "./clients.js";
import { type RedisProcess, startRedis } from "./redis-server.js";

/** What one process tells of its calls. */
interface Told {
  /** The time of each call that passed, and whether the process was alone then. */
  readonly granted: readonly (readonly [atMs: number, alone: boolean])[];
  readonly refused: number;
  readonly longestWaitMs: number;
  readonly called: number;
  /** Questions to Redis. */
  readonly asked: number;
  /** Tokens that it still holds. */
  readonly leased: number;
}

const processes = 4;
const rate = { ratePerSecond: 400, burst: 200 };
const program = fileURLToPath(new URL("./programs/quota-process.mjs", import.meta.url));

function run(plan: object): Promise<Told> {
  const child = spawn(process.execPath, [program, JSON.stringify(plan)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const killer = setTimeout(() => child.kill("SIGKILL"), 18_000);
  return new Promise((resolve, reject) => {
    child.on("exit", (code, signal) => {
      clearTimeout(killer);
      if (code === 0) resolve(JSON.parse(output));
      else reject(new Error(`the process ended with ${code ?? signal}`));
    });
  });
}

/** Four processes that together ask for three times the rate, while something happens to Redis. */
async function share(
  { port }: RedisProcess,
  forMs: number,
  options: RedisQuotaOptions = {},
  meanwhile: (fromMs: number) => Promise<void> = async () => {},
) {
  // Four processes have to start, on a machine that may be busy.
  const fromMs = Date.now() + 1_500;
  const untilMs = fromMs + forMs;
  const perSecond = (3 * rate.ratePerSecond) / processes;
  const plan = { port, rate, perSecond, fromMs, untilMs, options };
  const running = Array.from({ length: processes }, () => run(plan));
  const [told] = await Promise.all([Promise.all(running), meanwhile(fromMs)]);
  const granted = told.flatMap((each) => each.granted).sort(([one], [other]) => one - other);
  return { told, granted, fromMs };
}

const most = 0.1 * rate.burst;
/** The clocks of Redis and of the processes are read a little apart. */
const slackMs = 5;
const bound = (ms: number) => rate.burst + (rate.ratePerSecond * (ms + slackMs)) / 1_000;
const lastAt = (granted: Told["granted"]) => granted.at(-1)?.[0] ?? 0;

describe("a quota that four processes share over a Redis", () => {
  let redis: RedisProcess | undefined;
  afterEach(() => redis?.close());

  it("lets no more calls pass than one bucket would, and nearly as many, and holds what it leases within its bound", async () => {
    redis = await startRedis();
    // A busy machine may be slow to answer, and no call is to go on alone by that.
    const patient = { callWaitMs: 3_000, timeoutMs: 5_000 };
    const { told, granted, fromMs } = await share(redis, 4_000, patient);
    const tookMs = lastAt(granted) - fromMs;
    expect(granted.some(([, alone]) => alone)).toBe(false);
    expect(granted.length).toBeLessThanOrEqual(bound(tookMs));
    expect(granted.length).toBeGreaterThan(0.9 * bound(tookMs) - processes * most);
    // In any stretch of time.
    granted.forEach(([sinceMs], from) => {
      for (let to = from; to < granted.length; to += 20) {
        const passed = to - from + 1;
        const ms = (granted[to]?.[0] ?? 0) - sinceMs;
        expect(passed).toBeLessThanOrEqual(bound(ms) + processes * most);
      }
    });
    // All of them got some, and none asked for each call.
    for (const each of told) {
      expect(each.granted.length).toBeGreaterThan(0);
      expect(each.asked).toBeLessThan(each.called / 3);
      expect(each.leased).toBe(0);
    }
  });

  it("goes on within its shares while Redis is killed, and over Redis again when it is back", async () => {
    const server = await startRedis();
    redis = server;
    let downMs = 0;
    let upMs = 0;
    const { told, granted, fromMs } = await share(
      server,
      5_000,
      { localShare: 1 / processes },
      async (atMs) => {
        await sleep(atMs + 1_000 - Date.now());
        await server.kill();
        downMs = Date.now();
        await sleep(1_500);
        await server.restart();
        upMs = Date.now();
      },
    );
    const alone = granted.filter(([, by]) => by);
    expect(alone.length).toBeGreaterThan(0);
    // What they let pass alone is one more bucket, and a Redis that has lost its data another.
    expect(alone.length).toBeLessThanOrEqual(bound(lastAt(granted) - downMs) + processes);
    expect(granted.length - alone.length).toBeLessThanOrEqual(
      bound(lastAt(granted) - fromMs) + rate.burst + processes * most,
    );
    // They were served all the time, and by Redis at the end.
    expect(granted.some(([atMs]) => atMs > downMs + 500 && atMs < upMs)).toBe(true);
    const last = granted.filter(([atMs]) => atMs > upMs + 2_000);
    expect(last.filter(([, by]) => !by).length).toBeGreaterThan(last.length / 2);
    for (const { granted: own, refused, called } of told) {
      expect(own.length + refused).toBe(called);
    }
  });

  it("lets no call wait for a Redis that hangs, and goes on when it does not any more", async () => {
    const server = await startRedis();
    redis = server;
    let hungMs = 0;
    let onMs = 0;
    const { told, granted } = await share(
      server,
      4_500,
      { localShare: 1 / processes },
      async (atMs) => {
        await sleep(atMs + 1_000 - Date.now());
        server.pause();
        hungMs = Date.now();
        await sleep(1_500);
        server.resume();
        onMs = Date.now();
      },
    );
    for (const { longestWaitMs } of told) expect(longestWaitMs).toBeLessThan(1_000);
    const meanwhile = granted.filter(([atMs]) => atMs > hungMs && atMs < onMs);
    const alone = meanwhile.filter(([, by]) => by).length;
    expect(alone).toBeGreaterThan(0);
    // What was leased before is used first.
    expect(meanwhile.length - alone).toBeLessThanOrEqual(processes * most);
    const last = granted.filter(([atMs]) => atMs > onMs + 1_500);
    expect(last.filter(([, by]) => !by).length).toBeGreaterThan(last.length / 2);
  });
});

describe.each(Object.entries(libraries))("the bucket of a key in Redis, over %s", (_name, open) => {
  let redis: RedisProcess;
  let opened: OpenClient;
  const slow = { ratePerSecond: 1, burst: 10 };
  beforeAll(async () => {
    redis = await startRedis();
    opened = await open(redis.port);
  });
  afterAll(async () => {
    opened.close();
    await redis.close();
  });
  beforeEach(() => opened.client.eval("return {redis.call('FLUSHALL')['ok']}", [], []));

  const ask = (text: string) => opened.client.eval(`return {tostring(${text})}`, [], []);
  const storeOf = (options: RedisQuotaOptions = {}) =>
    redisQuotaStore(opened.client, { leaseShare: 0, ...options });

  it("has its burst at first, and says when there are more tokens", async () => {
    const store = storeOf();
    expect(await store.take("k", 9.5, slow, 0)).toEqual({ granted: true });
    const short = await store.take("k", 3, slow, 0);
    expect(short).toMatchObject({ granted: false });
    const { retryAfterMs } = short as { retryAfterMs: number };
    expect(retryAfterMs).toBeGreaterThan(1_500);
    expect(retryAfterMs).toBeLessThanOrEqual(2_500);
    // Another process asks Redis.
    expect(await storeOf().take("k", 1, slow, 0)).toMatchObject({ granted: false });
  });

  it("fills up by the time of Redis", async () => {
    const quick = { ratePerSecond: 100, burst: 10 };
    await storeOf().take("k", 10, quick, 0);
    await sleep(60);
    expect(await storeOf().take("k", 5, quick, 0)).toEqual({ granted: true });
  });

  it("takes back what a process returns, and no more than its burst", async () => {
    const store = storeOf();
    await store.take("k", 4, slow, 0);
    store.giveBack("k", 4, slow, 0);
    store.giveBack("k", 100, slow, 0);
    await store.close();
    expect(await storeOf().take("k", 10, slow, 0)).toEqual({ granted: true });
    expect(await storeOf().take("k", 1, slow, 0)).toMatchObject({ granted: false });
  });

  it("is kept nowhere while it is full, and until then no longer than it takes", async () => {
    const store = storeOf();
    await store.take("k", 5, slow, 0);
    expect(await ask("redis.call('DBSIZE')")).toEqual(["1"]);
    const [leftMs] = (await ask("redis.call('PTTL', 'weir:{quota:k}')")) as string[];
    expect(Number(leftMs)).toBeGreaterThan(4_000);
    expect(Number(leftMs)).toBeLessThanOrEqual(6_000);
    store.giveBack("k", 5, slow, 0);
    await store.close();
    expect(await ask("redis.call('DBSIZE')")).toEqual(["0"]);
  });

  it("is another one for another key and another prefix, whatever is in the key", async () => {
    for (const key of ["a", "a}b", "{", "é\n", "x".repeat(5_000)]) {
      expect(await storeOf().take(key, 10, slow, 0)).toEqual({ granted: true });
      expect(await storeOf().take(key, 1, slow, 0)).toMatchObject({ granted: false });
      const other = storeOf({ prefix: "other:" });
      expect(await other.take(key, 10, slow, 0)).toEqual({ granted: true });
    }
  });

  it("survives a time of Redis that was put back, and a new rate", async () => {
    // As if it had been written an hour from now.
    await opened.client.eval(
      "local t = redis.call('TIME') redis.call('SET', KEYS[1], '8 ' .. (t[1] + 3600) .. '000000') return {'ok'}",
      ["weir:{quota:k}"],
      [],
    );
    const store = storeOf();
    expect(await store.take("k", 2, slow, 0)).toEqual({ granted: true });
    expect(await storeOf().take("k", 1, slow, 0)).toMatchObject({ granted: false });
    const more = { ratePerSecond: 1, burst: 20 };
    expect(await storeOf().take("k", 9, more, 0)).toEqual({ granted: true });
  });
});
