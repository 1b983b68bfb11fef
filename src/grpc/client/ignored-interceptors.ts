import type { ClientOptions } from "@grpc/grpc-js";

/** What a channel of grpc-js reads of its options before it copies them. */
const readByChannels = ["grpc.enable_channelz", "grpc.default_authority"] as const;

/**
 * Notices when a channel is made of the options instead of a client. A channel ignores interceptors, so that no call would
 * ever pass them, and nobody would know. A client of grpc-js copies the options, and reads nothing of the original; so an
 * option that is not set, and that a copy does not have, is read by a channel alone.
 *
 * @param options Changed and returned: what is read of them is noticed.
 * @param ignored Called once.
 */
export function noticeIfIgnored(options: ClientOptions, ignored: () => void): ClientOptions {
  const unset = readByChannels.find((name) => !(name in options));
  if (unset === undefined) return options;
  const become = (value: unknown) => {
    Object.defineProperty(options, unset, {
      value,
      enumerable: value !== undefined,
      configurable: true,
      writable: true,
    });
  };
  return Object.defineProperty(options, unset, {
    enumerable: false,
    configurable: true,
    get: () => {
      become(undefined);
      ignored();
    },
    set: become,
  });
}
