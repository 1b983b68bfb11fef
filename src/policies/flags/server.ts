import type { ServerInterceptor } from "@grpc/grpc-js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { EnvironmentOptions } from "../../grpc/environment.js";
import { serverPipeline } from "../../grpc/server/pipeline-call.js";
import {
  isExempt,
  type ServerPolicyOptions,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import { Flags } from "./flags.js";
import { type KillGates, killGates } from "./kill-gates.js";
import { type KillSwitchOptions, resolveKillSwitch } from "./options.js";

/** The gates of a server. Health, reflection, channelz and ORCA are exempt. */
export function serverKillGates(flags: Flags): KillGates<InboundCall> {
  return killGates(flags, ({ method }) => method, isExempt);
}

/**
 * The kill switch as an interceptor of its own. Calls of methods that a flag switches off end with UNAVAILABLE (reason
 * `KILLED`), and with the request not to try again. Health, reflection, channelz and ORCA are exempt.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export function killSwitch(
  options: KillSwitchOptions & Pick<ServerPolicyOptions, "priority"> & EnvironmentOptions,
): ServerInterceptor {
  const { environment, priority, rest } = splitServerOptions(options, "killSwitch");
  const flags = new Flags(resolveKillSwitch(rest), environment);
  return serverPipeline(environment, { priority, gates: [serverKillGates(flags).first] });
}
