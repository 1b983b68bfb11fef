import type { Metadata } from "@grpc/grpc-js";
import type { Priority } from "../core/priority.js";
import { ask, keyText, shown } from "../core/user-code.js";
import { readPriority } from "./metadata-keys.js";
import type { ChannelPlan, PartitionPlan } from "./partitioned-channel-options.js";
import { serviceOf } from "./types.js";

/** Chooses the partition of a call by name. */
export type Place = (method: string, metadata: Metadata) => string;

/** The user's function first, then the rules in the order written, then the default. */
export function placeBy(plan: ChannelPlan): Place {
  const { partitions, partitionOf, defaultPartition, report } = plan;
  const ruled = partitions.filter(
    (each) => each.priorities !== undefined || each.methods !== undefined,
  );
  const byRule = (method: string, priority: Priority) =>
    ruled.find((each) => fits(each, method, priority))?.name ?? defaultPartition;
  if (partitionOf === undefined) {
    return (method, metadata) => byRule(method, priorityOf(metadata));
  }
  const names = new Set(partitions.map(({ name }) => name));
  const known = (answer: unknown): string | undefined => {
    const named = keyText(answer);
    if (named === undefined || names.has(named)) return named;
    const text = `There is no partition ${shown(named)}, only ${[...names].join(", ")}`;
    throw new TypeError(text);
  };
  return (method, metadata) => {
    const priority = priorityOf(metadata);
    const question = () => partitionOf({ method, priority, metadata });
    return ask(question, known, undefined, report, "partitionOf") ?? byRule(method, priority);
  };
}

function fits({ priorities, methods }: PartitionPlan, path: string, priority: Priority): boolean {
  if (priorities?.has(priority) === false) return false;
  if (methods === undefined) return true;
  return methods.has(path.replace(/^\//, "")) || methods.has(serviceOf(path));
}

function priorityOf(metadata: Metadata): Priority {
  const read = readPriority(metadata);
  return read === "absent" || read === "invalid" ? "normal" : read;
}
