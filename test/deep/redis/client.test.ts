import { Redis } from "ioredis";
import { createClient, createClientPool, RESP_TYPES } from "redis";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ChannelListener, fromIoredis, fromNodeRedis } from "../../../src/redis/client.js";
import { ScriptRunner, script } from "../../../src/redis/script.js";
import { libraries } from "./clients.js";
import { type RedisProcess, startRedis } from "./redis-server.js";
import { until } from "./until.js";

const publish = script("publication", "redis.call('PUBLISH', ARGV[1], ARGV[2]) return {'ok'}");
const echo = script("echo", "return {KEYS[1], ARGV[1], ARGV[2]}");

let redis: RedisProcess;
let ends: (() => void)[];
beforeEach(async () => {
  ends = [];
  redis = await startRedis();
});
afterEach(async () => {
  for (const end of ends.reverse()) end();
  await redis.close();
});

/** Notes what the listener of a subscription is told. */
function listening() {
  const messages: string[] = [];
  const listener = {
    subscribed: 0,
    onMessage: (message) => void messages.push(message),
    onSubscribed: () => {
      listener.subscribed += 1;
    },
    onFailed: (error) => void messages.push(String(error)),
  } satisfies ChannelListener & { subscribed: number };
  return { messages, listener };
}

describe.each(Object.entries(libraries))("a client of %s", (_name, open) => {
  it("hands texts to a script and back, whatever is in them", async () => {
    const { client, close } = await open(redis.port);
    ends.push(close);
    const runner = new ScriptRunner("test", client, { timeoutMs: 10_000 });
    const answer = await runner.run(echo, ["ключ"], ["", "line\r\n\0 – 🙂"]);
    expect(answer).toEqual(["ключ", "", "line\r\n\0 – 🙂"]);
  });

  it("subscribes again after Redis was killed and restarted, and says so", async () => {
    const { client, close } = await open(redis.port);
    ends.push(close);
    const runner = new ScriptRunner("test", client, { timeoutMs: 10_000 });
    const { messages, listener } = listening();
    ends.push(client.subscribe("flags", listener));
    await until(() => listener.subscribed > 0);
    await runner.run(publish, [], ["flags", "one"]);
    await runner.run(publish, [], ["other", "not this"]);
    await until(() => messages.length > 0);

    const before = listener.subscribed;
    await redis.restart();
    await until(() => listener.subscribed > before);
    await until(() => runner.run(publish, [], ["flags", "two"]));
    await until(() => messages.includes("two"));
    expect(new Set(messages)).toEqual(new Set(["one", "two"]));
  });

  it("hears no more after the end of a subscription", async () => {
    const { client, close } = await open(redis.port);
    ends.push(close);
    const runner = new ScriptRunner("test", client, { timeoutMs: 10_000 });
    const first = listening();
    const second = listening();
    const end = client.subscribe("flags", first.listener);
    ends.push(client.subscribe("flags", second.listener));
    await until(() => first.listener.subscribed > 0 && second.listener.subscribed > 0);
    end();
    await runner.run(publish, [], ["flags", "late"]);
    await until(() => second.messages.includes("late"));
    expect(first.messages).toEqual([]);
  });
});

it("a client of ioredis with a key prefix subscribes to the channel that scripts publish to", async () => {
  const own = new Redis(redis.port, "127.0.0.1", { keyPrefix: "app:", lazyConnect: true });
  ends.push(() => own.disconnect());
  const client = fromIoredis(own);
  const runner = new ScriptRunner("test", client, { timeoutMs: 10_000 });
  const { messages, listener } = listening();
  ends.push(client.subscribe("flags", listener));
  await until(() => listener.subscribed > 0);
  await runner.run(publish, [], ["flags", "one"]);
  await until(() => messages.length > 0);
  expect(messages).toEqual(["one"]);
  expect(await runner.run(echo, ["key"], ["", ""])).toEqual(["app:key", "", ""]);
});

it.each([
  ["speaks RESP 2", () => createClient({ RESP: 2, socket: { port: redis.port } })],
  [
    "decodes texts as bytes",
    () =>
      createClient({
        socket: { port: redis.port },
        commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
      }),
  ],
] as const)("a client of node-redis that %s runs scripts", async (_what, create) => {
  const own = create();
  own.on("error", () => {});
  await own.connect();
  ends.push(() => own.destroy());
  const runner = new ScriptRunner("test", fromNodeRedis(own), { timeoutMs: 10_000 });
  expect(await runner.run(echo, ["k"], ["é", "1"])).toEqual(["k", "é", "1"]);
});

it("a pool of node-redis runs scripts", async () => {
  const pool = createClientPool({ socket: { host: "127.0.0.1", port: redis.port } });
  pool.on("error", () => {});
  await pool.connect();
  ends.push(() => pool.destroy());
  const runner = new ScriptRunner("test", fromNodeRedis(pool), { timeoutMs: 10_000 });
  const asked = Array.from({ length: 20 }, (_, index) => runner.run(echo, ["k"], [`${index}`, ""]));
  const answers = await Promise.all(asked);
  expect(answers.map(([, index]) => Number(index))).toEqual(asked.map((_, index) => index));
});
