import { expect } from "vitest";
import type { ChannelListener, RedisClient } from "../../src/redis/client.js";
import type { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

/** A Redis that holds the hash of the flags, and understands what is asked of it by the number of arguments. */
export class FakeFlagsRedis implements RedisClient {
  /** `undefined`: it has none. */
  hash: Map<string, string> | undefined;
  down = false;
  reads = 0;
  listener: ChannelListener | undefined;
  subscriptions = 0;
  readonly #clock: Pick<VirtualClock, "wallNow">;
  readonly #key: string;

  constructor(clock: Pick<VirtualClock, "wallNow">, key = "weir:{flags:all}") {
    this.#clock = clock;
    this.#key = key;
  }

  async evalsha(_sha1: string, keys: readonly string[], args: readonly string[]) {
    expect(keys).toEqual([this.#key]);
    if (this.down) throw new Error("connect ECONNREFUSED");
    const nowMs = this.#clock.wallNow();
    const ran = (...texts: string[]) => [`${nowMs * 1_000}`, "ran", ...texts];
    const [, name = "", value = "", by = "", forMs = ""] = args;
    if (args.length === 1) {
      this.reads += 1;
      return ran(String(nowMs), ...[...(this.hash ?? [])].flat());
    }
    this.hash ??= new Map();
    this.hash.set("#", "1");
    const was = this.hash.delete(name);
    if (args.length > 3) {
      const untilMs = forMs === "" ? {} : { untilMs: nowMs + Number(forMs) };
      const entry = { value, atMs: nowMs, ...(by === "" ? {} : { by }), ...untilMs };
      this.hash.set(name, JSON.stringify(entry));
    }
    this.listener?.onMessage("");
    return args.length > 3 ? ran() : ran(was ? "yes" : "no");
  }

  eval(): Promise<unknown> {
    throw new Error("all scripts are known");
  }

  subscribe(channel: string, listener: ChannelListener): () => void {
    expect(channel).toBe(this.#key);
    this.subscriptions += 1;
    this.listener = listener;
    return () => {
      this.listener = undefined;
    };
  }
}
