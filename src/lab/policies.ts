import { InvalidOptionError, isRecord, nameText, readOptions } from "../core/options.js";
import type { Peer } from "./peers/peer.js";
import { type WeirPolicies, weirPeer } from "./peers/weir.js";
import { LabProcess } from "./process.js";
import { World } from "./world.js";

/** Policies of the toolkit, with a name for the columns of tables and plots. */
export interface NamedPolicies extends WeirPolicies {
  readonly name: string;
}

/**
 * Reads policies that may come from JSON, and checks them as the toolkit does.
 *
 * @param path Where they stand, for error messages.
 * @param name What they are called when they have no name.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function readPolicies(path: string, value: unknown, name: string): Peer {
  if (!isRecord(value)) throw new InvalidOptionError(path, "an object of policies", value);
  const policies: Partial<NamedPolicies> = readOptions(path, value, ["name", "client", "server"]);
  const peer = weirPeer(nameText(`${path}.name`, policies.name ?? name), policies);
  const process = new LabProcess(new World(), "check");
  try {
    peer.client(process);
    peer.server(process, 1);
  } catch (error) {
    if (!(error instanceof InvalidOptionError)) throw error;
    const text = error.message.slice(error.option.length + 1);
    throw new InvalidOptionError(`${path}.${error.option}`, error.rule, undefined, text);
  }
  return peer;
}
