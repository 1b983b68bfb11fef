import { functionSource } from "grpc-weir/config";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { redisPolicies } from "../../../src/redis/policies.js";
import { attempts, weirOf } from "../../config/told-weir.js";
import { libraries } from "./clients.js";
import { type RedisProcess, startRedis } from "./redis-server.js";

let redis: RedisProcess;
beforeEach(async () => {
  redis = await startRedis();
});
afterEach(() => redis.close());

describe.each(Object.entries(libraries))("policies in Redis, with %s", (_name, open) => {
  it("reach two processes by a message, and a wrong document reaches none", async () => {
    const [writer, reader] = [await open(redis.port), await open(redis.port)];
    const documents = redisPolicies(reader.client);
    const source = functionSource(documents, { pollMs: 600_000 });
    const { now, told } = weirOf(source);
    await source.ready;
    const written = redisPolicies(writer.client);
    // A message that is sent before the subscription holds is made up for by a read when it does.
    await written.write(attempts(4));
    await vi.waitFor(() => expect(now()).toBe(4), { timeout: 15_000, interval: 10 });
    await written.write("client: { retry: { maxAttempts: 0 } }");
    await vi.waitFor(() => expect(told).toContain("refused policies"), {
      timeout: 15_000,
      interval: 10,
    });
    expect(now()).toBe(4);
    await written.write(attempts(5));
    await vi.waitFor(() => expect(now()).toBe(5), { timeout: 15_000, interval: 10 });
    writer.close();
    reader.close();
  });
});
