import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import {
  credentials,
  Server,
  ServerCredentials,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { fromIoredis } from "../../../src/redis/client.js";
import { type RedisFlags, type RedisFlagsOptions, redisFlags } from "../../../src/redis/flags.js";
import { createWeir } from "../../../src/weir.js";
import { echo, payload } from "../../scene.js";
import { inspect, libraries } from "./clients.js";
import { type RedisProcess, startRedis } from "./redis-server.js";

/** Longer than any test: what arrives has come by a message. */
const neverPolls = { pollMs: 600_000 };
const soon = { timeout: 5_000, interval: 5 };

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** Runs the program from another process, as an operator does. */
async function cli(redis: RedisProcess, ...args: string[]): Promise<string> {
  const program = `${root}dist/cli/main.js`;
  const url = `redis://127.0.0.1:${redis.port}`;
  const { stdout } = await promisify(execFile)(process.execPath, [
    program,
    "flag",
    ...args,
    "--redis",
    url,
  ]);
  return stdout;
}

let redis: RedisProcess;
beforeEach(async () => {
  redis = await startRedis();
});
afterEach(() => redis.close());

describe.each(Object.entries(libraries))("flags in Redis, with %s", (_name, open) => {
  async function watch(
    options: RedisFlagsOptions = neverPolls,
  ): Promise<RedisFlags & { errors: unknown[] }> {
    const connection = await open(redis.port);
    const errors: unknown[] = [];
    const flags = redisFlags(connection.client, {
      onError: (error) => void errors.push(error),
      ...options,
    });
    onTestFinished(() => {
      flags.close();
      connection.close();
    });
    return Object.assign(flags, { errors });
  }
  const until = (holds: () => unknown) => vi.waitFor(holds, soon);

  it("arrive at every process by a message", async () => {
    const [one, other] = [await watch(), await watch()];
    expect(await one.ready).toBe(true);
    expect(await other.ready).toBe(true);
    await one.set("kill.shop.v1.Orders", true, { by: "ann@ops-1" });
    await until(() => expect(other.flag("kill.shop.v1.Orders")).toBe(true));
    expect(other.setBy("kill.shop.v1.Orders")).toBe("ann@ops-1");
    await other.set("mode.breaker", "observe");
    await until(() => expect(one.flag("mode.breaker")).toBe("observe"));
    expect(await one.unset("kill.shop.v1.Orders")).toBe(true);
    await until(() => expect([...other.names()]).toEqual(["mode.breaker"]));
    expect([...one.errors, ...other.errors]).toEqual([]);
  });

  it("are set and unset in a Redis that is full, as it may be in an incident", async () => {
    const [one, other] = [await watch(), await watch()];
    expect(await one.ready).toBe(true);
    expect(await other.ready).toBe(true);
    await inspect(redis.port, (admin) => admin.config("SET", "maxmemory", "1"));
    await one.set("kill.shop.v1.Orders", true);
    await until(() => expect(other.flag("kill.shop.v1.Orders")).toBe(true));
    expect(await one.unset("kill.shop.v1.Orders")).toBe(true);
    await until(() => expect(other.flag("kill.shop.v1.Orders")).toBe(undefined));
  });

  it("hold what somebody writes by hand, with the next reading", async () => {
    const flags = await watch({ pollMs: 100 });
    await flags.set("skip.maps", true);
    const connection = await open(redis.port);
    onTestFinished(() => connection.close());
    await connection.client.eval(
      "return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])",
      ["weir:{flags:all}"],
      ["kill", "true"],
    );
    await until(() => expect(flags.flag("kill")).toBe(true));
  });

  it("keep their values when Redis is killed, and follow it when it is back", async () => {
    const flags = await watch({ ...neverPolls, timeoutMs: 300 });
    await flags.set("kill.shop.v1.Orders", true);
    await until(() => expect(flags.flag("kill.shop.v1.Orders")).toBe(true));
    await redis.kill();
    await expect(flags.set("kill", true)).rejects.toThrow();
    expect(flags.flag("kill.shop.v1.Orders")).toBe(true);
    // Without its data: what was switched off stays so, until somebody sets flags again.
    await redis.restart();
    await until(() => expect(flags.away).toBe(true));
    expect(flags.flag("kill.shop.v1.Orders")).toBe(true);
    const other = await watch();
    await other.ready;
    await other.set("skip.maps", true);
    await until(() => expect([...flags.names()]).toEqual(["skip.maps"]));
    expect(flags.away).toBe(false);
    // By a message again, over a new subscription.
    await until(async () => {
      await other.set("mode.retry", "off");
      expect(flags.flag("mode.retry")).toBe("off");
    });
  });

  it("keep their values while Redis hangs, and nobody waits for the first ones for ever", async () => {
    const flags = await watch({ pollMs: 100, timeoutMs: 200 });
    await flags.set("kill", true);
    await until(() => expect(flags.flag("kill")).toBe(true));
    const connection = await open(redis.port);
    redis.pause();
    const late = redisFlags(connection.client, {
      firstValuesMs: 200,
      timeoutMs: 200,
      onError: () => {},
    });
    onTestFinished(() => {
      late.close();
      connection.close();
    });
    await until(() => expect(flags.away).toBe(true));
    expect(await late.ready).toBe(false);
    expect(flags.flag("kill")).toBe(true);
    expect(late.flag("kill")).toBeUndefined();
    redis.resume();
    await until(() => expect(late.flag("kill")).toBe(true));
    await until(() => expect(flags.away).toBe(false));
    expect(flags.errors).toHaveLength(1);
  });

  it("that are set for a time are gone after it, in every process and in Redis", async () => {
    const [one, other] = [await watch(), await watch()];
    await Promise.all([one.ready, other.ready]);
    await one.set("kill", true, { forMs: 2_000 });
    await until(() => expect(other.flag("kill")).toBe(true));
    await until(() =>
      expect([one.flag("kill"), other.flag("kill")]).toEqual([undefined, undefined]),
    );
    await one.set("skip.maps", true);
    expect(await cli(redis, "list")).not.toContain("kill");
  });

  it("are those of their prefix", async () => {
    const [shop, bank] = [await watch({ prefix: "shop:" }), await watch({ prefix: "bank:" })];
    await shop.set("kill", true);
    await until(() => expect(shop.flag("kill")).toBe(true));
    await bank.set("skip.maps", true);
    await until(() => expect([...bank.names()]).toEqual(["skip.maps"]));
  });
});

/** A server and a client over a socket, with the flags of the Redis. */
async function service() {
  const connection = new Redis(redis.port, "127.0.0.1");
  connection.on("error", () => {});
  const flags = redisFlags(fromIoredis(connection), neverPolls);
  await flags.ready;
  const lines: (string | undefined)[] = [];
  const weir = createWeir({
    flags,
    onDecision: ({ verdict, detail }) => {
      if (verdict === "switch") lines.push(detail);
    },
  });
  const server = new Server(weir.server({ bulkhead: { maxConcurrent: 1, maxQueued: 0 } }));
  server.addService(ConformanceServiceService, { ...echo });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  const client = new ConformanceServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
  onTestFinished(() => {
    client.close();
    server.forceShutdown();
    weir.close();
    flags.close();
    connection.disconnect();
  });
  const call = () =>
    new Promise<ServiceError | null>((resolve) => {
      client.unary({ payload, sequence: 1 }, (error) => resolve(error));
    });
  return { call, weir, lines };
}

describe("npx grpc-weir flag", () => {
  it("changes a running server from another process", { timeout: 30_000 }, async () => {
    const { call, weir, lines } = await service();
    expect(await call()).toBeNull();
    const flag = "kill.weir.v1.ConformanceService";
    expect(await cli(redis, "set", flag, "true", "--for", "10m", "--by", "ann")).toBe(
      `${flag} is true for 10m\n`,
    );
    await vi.waitFor(async () => {
      const error = await call();
      expect(error?.code).toBe(Status.UNAVAILABLE);
      expect(rejectionOf(error)).toMatchObject({ reason: "KILLED", local: false });
      expect(error?.metadata.get("grpc-retry-pushback-ms")).toEqual(["-1"]);
    }, soon);
    expect(await cli(redis, "list")).toMatch(
      /kill\.weir\.v1\.ConformanceService +true +for (10m|9m 5\ds) +ann +\d+s ago/,
    );
    expect(await cli(redis, "set", "mode.bulkhead", "off")).toMatch("mode.bulkhead is off");
    await vi.waitFor(() => expect(weir.policy("bulkhead").mode).toBe("off"), soon);
    await cli(redis, "unset", flag);
    await cli(redis, "unset", "mode.bulkhead");
    await vi.waitFor(() => expect(weir.policy("bulkhead").mode).toBe("enforce"), soon);
    expect(await call()).toBeNull();
    expect(lines).toEqual([
      `redis: ${flag}: not set → true, by ann`,
      expect.stringMatching(/^redis: mode\.bulkhead: not set → off, by /),
      `redis: ${flag}: true → not set`,
      "redis: mode.bulkhead: off → not set",
    ]);
  });
});
