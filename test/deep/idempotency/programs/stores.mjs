// The store of the chaos, and broken ones, which the checker has to find.
import { setTimeout as sleep } from "node:timers/promises";
import { fromIoredis, redisIdempotencyStore } from "grpc-weir/redis";
import { Redis } from "ioredis";

export function storeNamed(name, port) {
  // A connection that is lost fails what is under way at once, and is made again soon.
  const redis = new Redis(port, "127.0.0.1", {
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    retryStrategy: () => 50,
  });
  redis.on("error", () => {});
  const whole = redisIdempotencyStore(fromIoredis(redis));
  if (name === "redis") return whole;
  if (name === "completes without a token") return completesWithoutToken(whole, redis);
  if (name === "claims in two steps") return claimsInTwoSteps(redis);
  throw new Error(`no store is named ${name}`);
}

/** A holder that comes back late overwrites the answer of the one that took over. */
function completesWithoutToken(whole, redis) {
  const overwritten = (key) => `overwritten ${key}`;
  return {
    claim: async (key, claim) => {
      const answer = await whole.claim(key, claim);
      if (answer.kind !== "done") return answer;
      const late = await redis.getBuffer(overwritten(key));
      return late === null ? answer : { kind: "done", answer: late };
    },
    renew: (key, token, leaseMs) => whole.renew(key, token, leaseMs),
    complete: async (key, token, answer, ttlMs) => {
      if (!(await whole.complete(key, token, answer, ttlMs))) {
        await redis.set(overwritten(key), Buffer.from(answer), "PX", ttlMs);
      }
      return true;
    },
    release: (key, token) => whole.release(key, token),
  };
}

/** Reads and then writes, so that two processes may both find the key free. */
function claimsInTwoSteps(redis) {
  const read = async (key) => JSON.parse((await redis.get(key)) ?? "null");
  const held = async (key, token) => {
    const entry = await read(key);
    return entry?.token === token && entry.answer === undefined ? entry : undefined;
  };
  return {
    claim: async (key, { fingerprint, leaseMs }) => {
      const entry = await read(key);
      await sleep(5);
      if (entry !== null && entry.fingerprint !== fingerprint) return { kind: "mismatch" };
      if (entry?.answer !== undefined) {
        return { kind: "done", answer: Buffer.from(entry.answer, "base64") };
      }
      if (entry !== null && entry.untilMs > Date.now()) {
        return { kind: "running", leaseLeftMs: entry.untilMs - Date.now() };
      }
      const token = Math.max((entry?.token ?? 0) + 1, Date.now() * 1_000);
      await redis.set(key, JSON.stringify({ fingerprint, token, untilMs: Date.now() + leaseMs }));
      return { kind: "started", token };
    },
    renew: async (key, token, leaseMs) => {
      const entry = await held(key, token);
      if (entry === undefined) return false;
      await redis.set(key, JSON.stringify({ ...entry, untilMs: Date.now() + leaseMs }));
      return true;
    },
    complete: async (key, token, answer) => {
      const entry = await held(key, token);
      if (entry === undefined) return false;
      const text = Buffer.from(answer).toString("base64");
      await redis.set(key, JSON.stringify({ ...entry, answer: text }));
      return true;
    },
    release: async (key, token) => {
      if ((await held(key, token)) === undefined) return false;
      await redis.del(key);
      return true;
    },
  };
}
