/**
 * What the toolkit needs of a Redis client. `fromIoredis` and `fromNodeRedis` make one of a client that you have. Keys,
 * arguments and answers are text, so that it makes no difference how a client decodes replies.
 */
export interface RedisClient {
  /** `EVALSHA`. Rejects with an error whose message begins with `NOSCRIPT` where the server does not know the script. */
  evalsha(sha1: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** `EVAL`. */
  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /**
   * Receives the messages of a channel, over a connection of its own, also after it was lost and made again.
   *
   * @returns Ends the subscription and its connection.
   */
  subscribe(channel: string, onMessage: (message: string) => void): Promise<() => Promise<void>>;
}
