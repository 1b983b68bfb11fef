import type { ChannelOptions } from "@grpc/grpc-js";

const initialKey = "grpc.initial_reconnect_backoff_ms";
const maxKey = "grpc.max_reconnect_backoff_ms";

/** The wait after the first failed attempt to connect, and the longest; grpc-js lets it grow by 1.6 each time. */
const initialMs = 100;
const maxMs = 5_000;

/**
 * How soon a channel connects again: grpc-js would wait a second at first and up to two minutes later. What the
 * options say themselves stays as it is, and a default that would contradict it gives way.
 */
export function reconnectBackoff(own: ChannelOptions): ChannelOptions {
  const { [initialKey]: ownInitialMs, [maxKey]: ownMaxMs } = own;
  return {
    [initialKey]: ownInitialMs ?? Math.min(initialMs, ownMaxMs ?? initialMs),
    [maxKey]: ownMaxMs ?? Math.max(maxMs, ownInitialMs ?? maxMs),
  };
}
