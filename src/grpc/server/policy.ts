import type { ServerInterceptor } from "@grpc/grpc-js";
import { type Mode, modes } from "../../core/control.js";
import { DueList } from "../../core/due-list.js";
import { oneOf } from "../../core/options.js";
import { outsideClock } from "../context/async-context.js";
import { type Environment, type EnvironmentOptions, takeEnvironment } from "../environment.js";
import { inboundFor } from "./context.js";
import { GatedServerCall, type RequestBound, type ServerGate } from "./gated-call.js";
import { type PriorityOptions, type PriorityReader, priorityReader } from "./priority.js";

/** Options that every server policy has beside its own. */
export interface ServerPolicyOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /** Used where no context interceptor stands before the policy. */
  readonly priority?: PriorityOptions;
}

/** How long the single request of a call may take to be complete, in milliseconds. */
export const defaultRequestMs = 60_000;

/**
 * One interceptor for a row of server policies that each call has to pass, in their order. Those that are `undefined` are
 * left out.
 */
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

/** Takes the common options out, so that the policy sees only its own and can refuse the rest. */
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

/** Services by which a server is looked into. Their calls are never refused, least of all under load. */
const exempt = /^\/(grpc\.(health|reflection|channelz)|xds\.service\.orca)\./;

/** Whether a method, given by its path, is of such a service. */
export function isExempt(method: string): boolean {
  return exempt.test(method);
}
