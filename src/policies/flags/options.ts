import { readOptions } from "../../core/options.js";
import { type FlagSource, flagSource } from "./source.js";

/**
 * Options of a kill switch that stands alone.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export interface KillSwitchOptions {
  /** Where the flags come from. */
  readonly flags: FlagSource;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveKillSwitch(given: KillSwitchOptions): FlagSource {
  const { flags } = readOptions("killSwitch", given, ["flags"]);
  return flagSource("killSwitch.flags", flags);
}
