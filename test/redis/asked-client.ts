import type { RedisClient } from "../../src/redis/client.js";

/** A client that gives all scripts the same answer, and what it was asked. */
export function askedClient(answer: () => Promise<unknown>) {
  const asked: { readonly keys: readonly string[]; readonly args: readonly string[] }[] = [];
  const client: RedisClient = {
    evalsha: async (_sha1, keys, args) => {
      asked.push({ keys, args });
      return answer();
    },
    eval: () => Promise.reject(new Error("no test needs it")),
    subscribe: () => {
      throw new Error("no test subscribes");
    },
  };
  return { client, asked };
}
