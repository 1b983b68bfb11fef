import { type ControlledName, controlledNames, type Mode, modes } from "../core/control.js";
import { InvalidOptionError, oneOf } from "../core/options.js";

/** The mode of a policy, given the one that its options have. */
export type ModeInEnvironment = (policy: ControlledName, own: Mode) => Mode;

/** Of all policies. A policy acts no more than this, and is left as it is where it acts less. */
const ofAll = "GRPC_WEIR_MODE";
const prefix = `${ofAll}_`;

/** The variable of one policy: `GRPC_WEIR_MODE_DEADLINE_GUARD`. */
function variableOf(policy: ControlledName): string {
  return `${prefix}${policy.toUpperCase().replaceAll("-", "_")}`;
}

/**
 * Reads the variables of the process that set modes, so that environments can differ without another file or program.
 *
 * @throws InvalidOptionError for a value that is no mode, and for a variable of a policy that does not exist.
 */
export function modesInEnvironment(
  variables: Readonly<Record<string, string | undefined>>,
): ModeInEnvironment | undefined {
  const own = new Map<ControlledName, Mode>();
  for (const policy of controlledNames) {
    const name = variableOf(policy);
    const value = variables[name];
    if (value !== undefined && value !== "") own.set(policy, oneOf(name, value, modes));
  }
  const known = controlledNames.map(variableOf);
  for (const [name, value] of Object.entries(variables)) {
    if (!name.startsWith(prefix) || known.includes(name)) continue;
    const text = `is not a variable; the variables are ${[ofAll, ...known].join(", ")}`;
    throw new InvalidOptionError(name, "absent", value, text);
  }
  const given = variables[ofAll];
  const most =
    given === undefined || given === "" ? undefined : oneOf(ofAll, given, ["observe", "off"]);
  if (most === undefined && own.size === 0) return undefined;
  return (policy, mode) => own.get(policy) ?? lesser(mode, most);
}

/** Of two modes, the one in which a policy does less. */
function lesser(mode: Mode, most: Mode | undefined): Mode {
  return most === undefined || modes.indexOf(mode) > modes.indexOf(most) ? mode : most;
}
