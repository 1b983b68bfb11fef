import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe } from "vitest";
import { redisIdempotencyStore } from "../../../src/redis/idempotency-store.js";
import { idempotencyStoreContract } from "../../contracts/idempotency-store.js";
import { libraries, type OpenClient } from "./clients.js";
import { type RedisProcess, startRedis } from "./redis-server.js";

describe.each(Object.entries(libraries))(
  "the idempotency store in Redis, over %s",
  (_name, open) => {
    let redis: RedisProcess;
    let opened: OpenClient;
    beforeAll(async () => {
      redis = await startRedis();
      opened = await open(redis.port);
    });
    afterAll(async () => {
      opened.close();
      await redis.close();
    });

    /** The store, when Redis has lost all its data. */
    const empty = async () => {
      await opened.client.eval("return redis.call('FLUSHALL')", [], []);
      return redisIdempotencyStore(opened.client);
    };
    idempotencyStoreContract(
      async () => ({
        store: await empty(),
        pass: async (ms) => {
          await sleep(ms);
        },
        lose: empty,
      }),
      400,
    );
  },
);
