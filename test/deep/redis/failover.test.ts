import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { IdempotencyStore } from "../../../src/policies/idempotency/store.js";
import { redisIdempotencyStore } from "../../../src/redis/idempotency-store.js";
import { RedisError } from "../../../src/redis/script.js";
import {
  answerKey,
  answerTo,
  bytesOf,
  claim,
  leaseMs,
  rejection,
  tokenOf,
  ttlMs,
} from "./claims.js";
import { inspect, libraries } from "./clients.js";
import { startProxy, type TcpProxy } from "./proxy.js";
import { type RedisProcess, startRedis } from "./redis-server.js";
import { until } from "./until.js";

describe.each(Object.entries(libraries))(
  "the idempotency store over %s, with a replica",
  (_name, open) => {
    let master: RedisProcess;
    let replica: RedisProcess;
    /** Between the two: what is held back there is not replicated. */
    let link: TcpProxy;
    let ends: (() => unknown)[];
    beforeEach(async () => {
      ends = [];
      master = await startRedis(["--repl-diskless-sync-delay", "0"]);
      ends.push(() => master.close());
      link = await startProxy(master.port);
      ends.push(() => link.close());
      replica = await startRedis(["--replicaof", `127.0.0.1 ${link.port}`]);
      ends.push(() => replica.close());
      await until(
        () => inspect(master.port, (admin) => admin.info("replication")),
        (info) => info.includes("state=online"),
      );
    });
    afterEach(async () => {
      for (const end of ends.reverse()) await end();
    });

    async function storeOf({ port }: RedisProcess): Promise<IdempotencyStore> {
      const { client, close } = await open(port);
      ends.push(close);
      return redisIdempotencyStore(client, { timeoutMs: 10_000 });
    }

    /** The replica has all that the master has done so far. */
    async function replicated(): Promise<void> {
      const offset = async ({ port }: RedisProcess) => {
        const info = await inspect(port, (admin) => admin.info("replication"));
        return Number(/(?:master|slave)_repl_offset:(\d+)/.exec(info)?.[1]);
      };
      const goal = await offset(master);
      await until(
        () => offset(replica),
        (reached) => reached >= goal,
      );
    }

    async function failover(): Promise<IdempotencyStore> {
      await master.kill();
      await inspect(replica.port, (admin) => admin.replicaof("NO", "ONE"));
      return storeOf(replica);
    }

    it("keeps leases, answers and tokens that the promoted replica had received", async () => {
      const store = await storeOf(master);
      await answerKey(store, "answered", "1");
      const running = tokenOf(await claim(store, "running"));
      const released = tokenOf(await claim(store, "released"));
      await store.release("released", released);
      await replicated();

      const promoted = await failover();
      expect(await answerTo(promoted, "answered")).toBe("1");
      expect(await claim(promoted, "running")).toMatchObject({ kind: "running" });
      expect(await promoted.renew("running", running, leaseMs)).toBe(true);
      expect(await promoted.complete("running", running, bytesOf("2"), ttlMs)).toBe(true);
      expect(await answerTo(promoted, "running")).toBe("2");
      expect(tokenOf(await claim(promoted, "released"))).toBeGreaterThan(released);
    });

    it("loses what the promoted replica had not received, also answers; the old holders are kept out", async () => {
      const store = await storeOf(master);
      await replicated();
      link.toClientMs = Number.POSITIVE_INFINITY;
      const answered = await answerKey(store, "answered", "1");
      const running = tokenOf(await claim(store, "running"));

      const promoted = await failover();
      // Both calls run a second time. Clocks agree here, so the new tokens are larger.
      expect(tokenOf(await claim(promoted, "answered"))).toBeGreaterThan(answered);
      expect(tokenOf(await claim(promoted, "running"))).toBeGreaterThan(running);
      expect(await promoted.complete("running", running, bytesOf("late"), ttlMs)).toBe(false);
      expect(await promoted.renew("running", running, leaseMs)).toBe(false);
    });

    describe("whose clock is behind", () => {
      /** Makes the last token of a key one of a master whose clock is a minute ahead. */
      async function tokenAhead(key: string, token: number): Promise<number> {
        const ahead = token + 60_000_000;
        await inspect(master.port, (admin) => admin.hset(`weir:{idem:${key}}`, { token: ahead }));
        return ahead;
      }

      it("gives a smaller token after the failover, where it had received nothing of the key", async () => {
        const store = await storeOf(master);
        await replicated();
        link.toClientMs = Number.POSITIVE_INFINITY;
        const lost = await tokenAhead("k", tokenOf(await claim(store, "k")));
        expect(tokenOf(await claim(await failover(), "k"))).toBeLessThan(lost);
      });

      it("gives no token twice, where it had received an earlier one", async () => {
        const store = await storeOf(master);
        const token = await tokenAhead("k", tokenOf(await claim(store, "k")));
        await replicated();
        link.toClientMs = Number.POSITIVE_INFINITY;
        await store.release("k", token);
        const lost = tokenOf(await claim(store, "k"));

        const promoted = await failover();
        expect(await promoted.release("k", token)).toBe(true);
        const given = tokenOf(await claim(promoted, "k"));
        expect(given).toBeGreaterThan(token);
        expect(await promoted.complete("k", lost, bytesOf("late"), ttlMs)).toBe(false);
        expect(await promoted.complete("k", given, bytesOf("1"), ttlMs)).toBe(true);
      });
    });

    it("refuses what asks a replica, with a clear error", async () => {
      const store = await storeOf(replica);
      const { error } = await rejection(claim(store, "k"));
      expect(error).toBeInstanceOf(RedisError);
      expect(error).toMatchObject({ message: /^claim of an idempotency key: .*READONLY/ });
    });
  },
);
