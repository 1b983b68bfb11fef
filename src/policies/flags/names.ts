import { type ControlledName, controlledNames, type Mode, modes } from "../../core/control.js";
import { degradationName } from "../fallback/chain.js";
import type { FlagValue } from "./source.js";

/** The flag that switches all calls off. */
export const killAll = "kill";

/** The flags that switch a method off, given by its path: that of all calls, that of its service, and its own. */
export function killFlags(path: string): readonly string[] {
  const method = path.startsWith("/") ? path.slice(1) : path;
  const [service = ""] = method.split("/", 1);
  return [killAll, `${killAll}.${service}`, `${killAll}.${method}`];
}

/** The flag that switches a piece of optional work off. */
export function skipFlag(work: string): string {
  return `skip.${work}`;
}

/**
 * The flag that sets the mode of a policy.
 *
 * @param builtFor The client, server, method, service or guard whose policy it is. Without it, all policies of the name.
 */
export function modeFlag(policy: ControlledName, builtFor?: string): string {
  return builtFor === undefined ? `mode.${policy}` : `mode.${policy}.${builtFor}`;
}

/** A value for a flag, as a person writes it: `true` and `false` are no texts. */
export function readFlagValue(text: string): FlagValue {
  return text === "true" ? true : text === "false" ? false : text;
}

/** What a flag of the toolkit is for, and which values it takes. */
export type FlagKind =
  | { readonly kind: "kill" | "skip"; readonly values: readonly boolean[] }
  | { readonly kind: "mode"; readonly values: readonly Mode[] };

const yesOrNo = [true, false] as const;
const methodOrService = /^(\w+(\.\w+)*\/)?\w+(\.\w+)*$/;

/** What a flag is for, by its name; a sentence about the name where there is no such flag. */
export function flagKind(name: string): FlagKind | string {
  const [kind = "", ...parts] = name.split(".");
  const rest = parts.join(".");
  switch (kind) {
    case "kill":
      return name === killAll || methodOrService.test(rest)
        ? { kind, values: yesOrNo }
        : "behind kill. stands a service, pkg.Service, or a method, pkg.Service/Method";
    case "skip":
      return degradationName.test(rest)
        ? { kind, values: yesOrNo }
        : "behind skip. stands the name of some optional work: letters, digits, '.', '_' and '-', at most 64";
    case "mode": {
      const [policy] = parts;
      return controlledNames.some((one) => one === policy) && parts[1] !== ""
        ? { kind, values: modes }
        : `behind mode. stands a policy, one of ${controlledNames.join(", ")}, and perhaps, behind another dot, what it was built for`;
    }
    default:
      return "a flag is called kill, kill.<service or method>, skip.<work> or mode.<policy>";
  }
}
