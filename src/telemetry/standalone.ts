import { readOptions } from "../core/options.js";
import {
  type Surroundings,
  type SurroundingsOptions,
  surroundingsOptionNames,
  takeSurroundings,
} from "../grpc/surroundings.js";
import {
  type ResolvedTelemetryOptions,
  resolveTelemetryOptions,
  type TelemetryOptions,
  telemetryOptionNames,
} from "./telemetry-options.js";

/**
 * Reads the options of telemetry that is used without a weir.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function splitTelemetryOptions(
  given: TelemetryOptions & SurroundingsOptions,
  prefix: string,
): { readonly surroundings: Surroundings; readonly telemetry: ResolvedTelemetryOptions } {
  const options = readOptions(prefix, given, [...telemetryOptionNames, ...surroundingsOptionNames]);
  const { surroundings, rest } = takeSurroundings(options, prefix);
  return {
    surroundings,
    telemetry: resolveTelemetryOptions(rest, prefix),
  };
}
