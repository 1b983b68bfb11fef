import type { ServerInterceptor } from "@grpc/grpc-js";
import { DueList } from "../core/due-list.js";
import type { Gate } from "../core/gates.js";
import { type Mode, modes } from "../core/mode.js";
import { oneOf } from "../core/options.js";
import { outsideClock } from "../grpc/async-context.js";
import { GatedServerCall, type RequestBound } from "../grpc/gated-server-call.js";
import type { InboundCall } from "../grpc/inbound-call.js";
import {
  type Surroundings,
  type SurroundingsOptions,
  takeSurroundings,
} from "../grpc/surroundings.js";
import { inboundFor } from "./context.js";
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
 * One interceptor for a row of server policies that each call has to pass, in their order.
 */
export function serverGate(
  surroundings: Surroundings,
  priority: PriorityReader,
  gates: readonly Gate<InboundCall>[],
  requests: RequestBound = {
    maxMs: defaultRequestMs,
    waiting: new DueList(outsideClock(surroundings.clock)),
  },
): ServerInterceptor {
  return (method, call) =>
    new GatedServerCall(
      call,
      surroundings.clock,
      gates,
      requests,
      inboundFor(method, call, surroundings, priority),
    );
}

/** Takes the common options out, so that the policy sees only its own and can refuse the rest. */
export function splitServerOptions<O extends ServerPolicyOptions & SurroundingsOptions>(
  options: O,
  prefix: string,
): {
  readonly mode: Mode;
  readonly surroundings: Surroundings;
  readonly priority: PriorityReader;
  readonly rest: Omit<Omit<O, keyof SurroundingsOptions>, keyof ServerPolicyOptions>;
} {
  const { surroundings, rest: own } = takeSurroundings(options, prefix);
  const { mode = "enforce", priority, ...rest } = own;
  return {
    mode: oneOf(`${prefix}.mode`, mode, modes),
    surroundings,
    priority: priorityReader(priority, surroundings, `${prefix}.priority`),
    rest,
  };
}
