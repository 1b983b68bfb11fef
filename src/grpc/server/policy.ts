import type { ServerInterceptor } from "@grpc/grpc-js";
import { type Mode, modes } from "../../core/control.js";
import { DueList } from "../../core/due-list.js";
import { oneOf } from "../../core/options.js";
import { outsideClock } from "../context/async-context.js";
import { type Environment, type EnvironmentOptions, takeEnvironment } from "../environment.js";
import { inboundFor } from "./context.js";
import { GatedServerCall, type RequestBound, type ServerGate } from "./gated-call.js";
import { type PriorityOptions, type PriorityReader, priorityReader } from "./priority.js";

/** Options that every policy of a server has. */
export interface ServerPolicyOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /** How priorities are read where no context interceptor stands before the policy. */
  readonly priority?: PriorityOptions;
}

/** How long a request of a single message may take to arrive, in milliseconds. */
export const defaultRequestMs = 60_000;

/** One interceptor for a row of policies, which each call passes in their order. Policies that are `undefined` are left out. */
export function serverGate(
  environment: Environment,
  priority: PriorityReader,
  row: readonly (ServerGate | undefined)[],
  requests: RequestBound = {
    maxMs: defaultRequestMs,
    waiting: new DueList(outsideClock(environment.clock)),
  },
): ServerInterceptor {
  const gates = row.filter((gate) => gate !== undefined);
  return (method, call) =>
    new GatedServerCall(
      call,
      environment.clock,
      gates,
      requests,
      inboundFor(method, call, environment, priority),
    );
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

/** The method, given by its path, is of a service that observes the server. Its calls are never refused, also under load. */
export function isExempt(method: string): boolean {
  return exempt.test(method);
}
