import { Metadata } from "@grpc/grpc-js";
import { type Mode, modes } from "../../core/control.js";
import { InvalidOptionError, oneOf } from "../../core/options.js";
import { asking, keyText, type ReportError } from "../../core/user-code.js";
import type { InboundCall } from "../context/inbound-call.js";
import { type Environment, type EnvironmentOptions, takeEnvironment } from "../environment.js";
import { serviceOf } from "../types.js";
import { type PriorityOptions, type PriorityReader, priorityReader } from "./priority.js";

/**
 * Options that every policy of a server has.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface ServerPolicyOptions<Service = unknown> {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /** How priorities are read where no context interceptor stands before the policy. */
  readonly priority?: PriorityOptions<Service>;
}

/**
 * Splits the options that every policy has from the policy's own, which are in `rest`.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function splitServerOptions<O extends ServerPolicyOptions & EnvironmentOptions>(
  options: O,
  prefix: string,
): {
  readonly mode: Mode;
  readonly environment: Environment;
  readonly priority: PriorityReader;
  readonly rest: Omit<Omit<O, keyof EnvironmentOptions>, keyof ServerPolicyOptions>;
} {
  const { environment, rest: own } = takeEnvironment(options, prefix);
  const { mode = "enforce", priority, ...rest } = own;
  return {
    mode: oneOf(`${prefix}.mode`, mode, modes),
    environment,
    priority: priorityReader(priority, environment, `${prefix}.priority`),
    rest,
  };
}

const exempt = /^\/(grpc\.(health|reflection|channelz)|xds\.service\.orca)\./;

/** Whether a method, given by its path, belongs to a service that observes the server. Its calls are not refused under load. */
export function isExempt(method: string): boolean {
  // Asked several times for each call: most methods are told by their second letter.
  return (method.startsWith("/g") || method.startsWith("/x")) && exempt.test(method);
}

/**
 * What the functions of a quota and of a bulkhead see of a call.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface QuotaCall
  extends Pick<InboundCall, "method" | "kind" | "peer" | "priority" | "authContext"> {
  /** What the caller sent, for reading only. */
  readonly metadata: Pick<Metadata, "get" | "getMap">;
}

export function callSeen(inbound: InboundCall): QuotaCall {
  const { method, kind, peer, priority, metadata = new Metadata() } = inbound;
  // The certificate is read only when the function asks for it: grpc-js decodes it each time.
  return { method, kind, peer, priority, metadata, authContext: () => inbound.authContext() };
}

const keys = {
  server: () => "server",
  service: ({ method }: QuotaCall) => serviceOf(method),
  method: ({ method }: QuotaCall) => method,
  // Without the port, which is another one for every connection.
  peer: ({ peer }: QuotaCall) => peer.replace(/:\d{1,5}$/, ""),
} as const satisfies Record<string, (call: QuotaCall) => string>;

/** The keys that a quota or a bulkhead takes by name, in place of a function. */
export type ServerCallKey = keyof typeof keys;

/**
 * The key function of a quota or of a bulkhead. When the user's function throws or returns no string, that is reported and the
 * key is `server`.
 *
 * @throws InvalidOptionError for an option that is neither a known name nor a function.
 */
export function serverKeyOf(
  key: ServerCallKey | ((call: QuotaCall) => string) | undefined,
  report: ReportError,
  option: string,
): (call: QuotaCall) => string {
  if (key === undefined) return keys.server;
  if (typeof key === "function") {
    const asked = asking(key, keyText, keys.server, report, option);
    return (call) => asked(call) ?? keys.server();
  }
  if (Object.hasOwn(keys, key)) return keys[key];
  throw new InvalidOptionError(option, "server, service, method, peer or a function", key);
}
