import { AsyncLocalStorage } from "node:async_hooks";
import { Metadata } from "@grpc/grpc-js";
import { InvalidOptionError, oneOf } from "../../core/options.js";
import { type Priority, priorities } from "../../core/priority.js";
import { processWide } from "../../core/process-wide.js";
import { priorityKey } from "../metadata.js";

const storage = processWide("ambient priority", () => new AsyncLocalStorage<Priority>());

/** The priority that `withPriority` has set for the running code; `undefined` without one. */
export function ambientPriority(): Priority | undefined {
  return storage.getStore();
}

/**
 * Runs `fn` with a priority: calls that are made in it, and in everything that it awaits, have this priority, unless
 * their metadata or options set another. It overrides the priority of the inbound call, so that a handler can lower or
 * raise the priority of a part of its work.
 *
 * @returns What `fn` returns.
 * @throws InvalidOptionError when it is no priority.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/priorities.md
 */
export function withPriority<R>(priority: Priority, fn: () => R): R {
  return storage.run(oneOf("withPriority", priority, priorities), fn);
}

/**
 * Sets the priority of a call in its metadata: `client.get(request, prioritized("critical"), callback)`.
 *
 * @param metadata Changed and returned. @defaultValue new metadata
 * @throws InvalidOptionError when it is no priority, or no metadata.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/priorities.md
 */
export function prioritized(priority: Priority, metadata: Metadata = new Metadata()): Metadata {
  const checked = oneOf("prioritized.priority", priority, priorities);
  // By its methods, because another copy of grpc-js has another class.
  if (typeof metadata?.set !== "function" || typeof metadata.getMap !== "function") {
    throw new InvalidOptionError("prioritized.metadata", "a Metadata of grpc-js", metadata);
  }
  metadata.set(priorityKey, checked);
  return metadata;
}
