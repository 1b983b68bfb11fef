import { AsyncLocalStorage } from "node:async_hooks";
import { Metadata } from "@grpc/grpc-js";
import { InvalidOptionError, oneOf } from "../../core/options.js";
import { type Priority, priorities } from "../../core/priority.js";
import { priorityKey } from "../metadata.js";

const storage = new AsyncLocalStorage<Priority>();

/** The priority of the work that runs, where `withPriority` has set one. */
export function ambientPriority(): Priority | undefined {
  return storage.getStore();
}

/**
 * Runs `fn` with a priority of its own: the calls that are made in it, and in whatever it waits for, carry it unless
 * they bring one in their metadata or options. It goes before the priority of the inbound call, so a handler can make
 * a part of its work matter less, or more.
 *
 * @returns What `fn` returns.
 * @throws InvalidOptionError when it is no priority.
 */
export function withPriority<R>(priority: Priority, fn: () => R): R {
  return storage.run(oneOf("withPriority", priority, priorities), fn);
}

/**
 * Sets the priority of a call in its metadata: `client.get(request, prioritized("critical"), callback)`.
 *
 * @param metadata Changed and returned. @defaultValue new metadata
 * @throws InvalidOptionError when it is no priority, or no metadata.
 */
export function prioritized(priority: Priority, metadata: Metadata = new Metadata()): Metadata {
  const checked = oneOf("prioritized", priority, priorities);
  // Another copy of grpc-js has a class of its own.
  if (typeof metadata?.set !== "function" || typeof metadata.getMap !== "function") {
    throw new InvalidOptionError("prioritized.metadata", "a Metadata of grpc-js", metadata);
  }
  metadata.set(priorityKey, checked);
  return metadata;
}
