import { nameText, readOptions } from "../core/options.js";
import { ask, callSafely, type ReportError, reportSafely, warn } from "../core/user-code.js";
import { ending, type RedisClient } from "./client.js";
import { type RedisOptions, redisOptionNames, ScriptRunner, script } from "./script.js";

const read = script("read of the policies", "return {redis.call('GET', KEYS[1]) or ''}");

/** Arguments: channel, document. */
const write = script(
  "writing of the policies",
  `redis.call('SET', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[1], '')
return {}
`,
);

const subscription = "redisPolicies.subscribe";

/**
 * Options of `redisPolicies`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisPoliciesOptions extends RedisOptions {
  /** Which document it is, where a service has several. @defaultValue `all` */
  readonly name?: string;
  /** Told when the subscription has failed: then changes are seen at intervals alone. @defaultValue emits a process warning */
  readonly onError?: ReportError;
}

/**
 * A document of policies that all processes share, in Redis.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisPolicies {
  /**
   * The document; `undefined` while Redis has none.
   *
   * @throws RedisError (as a rejection)
   */
  read(): Promise<string | undefined>;
  /**
   * Writes the document for all processes, which take it over at once. Check it before (`npx grpc-weir check`): a document that is
   * wrong is refused by each process.
   *
   * @throws RedisError (as a rejection) when Redis does not answer. It may have been written all the same.
   */
  write(document: string): Promise<void>;
  /** Calls `changed` when somebody has written, and when the connection is there again. @returns Ends that. */
  onChange(changed: () => void): () => void;
}

/**
 * A document of policies in Redis, for `functionSource` of `grpc-weir/config`. A change arrives by a message, and at the latest
 * when `functionSource` reads again. When Redis cannot be reached, or has lost the document, the last known policies hold.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export function redisPolicies(
  client: RedisClient,
  given: RedisPoliciesOptions = {},
): RedisPolicies {
  const options = readOptions("redisPolicies", given, [...redisOptionNames, "name", "onError"]);
  const { name = "all", onError: report = warn, ...own } = options;
  nameText("redisPolicies.name", name);
  const runner = new ScriptRunner("redisPolicies", client, own);
  const key = runner.key("policies", name);
  return {
    read: async () => {
      const [document = ""] = await runner.run(read, [key], []);
      return document === "" ? undefined : document;
    },
    write: async (document) => {
      await runner.run(write, [key], [key, nameText("redisPolicies.write", document)]);
    },
    onChange: (changed) => {
      const failed = (error: unknown) => reportSafely(report, error, subscription);
      const listener = { onMessage: changed, onSubscribed: changed, onFailed: failed };
      const subscribe = () => client.subscribe(key, listener);
      const stop = ask(subscribe, ending, undefined, failed, subscription);
      return () => {
        if (stop !== undefined) callSafely(stop, report, subscription);
      };
    },
  };
}
