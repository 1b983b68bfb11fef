import type { Interceptor } from "@grpc/grpc-js";
import type { ClientPassage } from "../../grpc/client/attempt.js";
import { interceptorOf } from "../../grpc/client/parts.js";
import { gatesPart, type StandaloneOptions, takeStandalone } from "../../grpc/client/policy.js";
import { isExempt } from "../../grpc/server/policy.js";
import { Flags } from "./flags.js";
import { type KillGates, killGates } from "./kill-gates.js";
import { type KillSwitchOptions, resolveKillSwitch } from "./options.js";

/** The gates of a client. Health, reflection, channelz and ORCA are exempt. */
export function clientKillGates(flags: Flags): KillGates<ClientPassage> {
  return killGates(flags, ({ record }) => record.method, isExempt);
}

/**
 * The kill switch as an interceptor of its own. Attempts of methods that a flag switches off are not sent: they end with
 * UNAVAILABLE (reason `KILLED`). Put it below `retry`, so that it sees attempts.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export function killSwitch(options: KillSwitchOptions & StandaloneOptions): Interceptor {
  const { environment, rest } = takeStandalone(options, "killSwitch");
  const flags = new Flags(resolveKillSwitch(rest), environment);
  return interceptorOf(environment, gatesPart([clientKillGates(flags).first]));
}
