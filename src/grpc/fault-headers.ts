import type { Metadata } from "@grpc/grpc-js";
import type { FaultEnd } from "../core/faults-options.js";

/** Request: hold the call back for so many whole milliseconds. */
const delayKey = "x-fault-delay-ms";
/** Request: end the call with this status code, as a number. */
const statusKey = "x-fault-status";

/** The longest delay a caller may ask for. */
const maxDelayMs = 60_000;

/** The fault that a call asks for itself. Hostile values read as absent. */
export function readFault(metadata: Metadata): {
  readonly delayMs: number | undefined;
  readonly end: FaultEnd | undefined;
} {
  const delayMs = readWhole(metadata, delayKey, 0, maxDelayMs);
  const code = readWhole(metadata, statusKey, 1, 16);
  if (code === undefined) return { delayMs, end: undefined };
  const details = "Fault injected, as the call asked for";
  return { delayMs, end: { kind: "status", code, details, pushbackMs: undefined } };
}

function readWhole(metadata: Metadata, key: string, min: number, max: number): number | undefined {
  const values = metadata.get(key);
  const [value] = values;
  if (values.length !== 1 || typeof value !== "string" || !/^\d{1,5}$/.test(value))
    return undefined;
  const number = Number(value);
  return number >= min && number <= max ? number : undefined;
}
