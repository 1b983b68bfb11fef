import type { ServerInterceptor } from "@grpc/grpc-js";
import { type Mode, modes } from "../../core/control.js";
import { DueList } from "../../core/due-list.js";
import type { Gate } from "../../core/gate.js";
import { oneOf } from "../../core/options.js";
import { outsideClock } from "../context/async-context.js";
import type { InboundCall } from "../context/inbound-call.js";
import { type Surroundings, type SurroundingsOptions, takeSurroundings } from "../environment.js";
import { inboundFor } from "./context.js";
import { GatedServerCall, type RequestBound } from "./gated-call.js";
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

/** Services by which a server is looked into. Their calls are never refused, least of all under load. */
const exempt = /^\/(grpc\.(health|reflection|channelz)|xds\.service\.orca)\./;

/** Whether a method, given by its path, is of such a service. */
export function isExempt(method: string): boolean {
  return exempt.test(method);
}
