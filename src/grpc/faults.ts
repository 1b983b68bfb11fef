import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { Mode } from "../core/control.js";
import type { Decision } from "../core/decision.js";
import { rounded } from "../core/rounded.js";
import { ask, type ReportError, yesOrNo } from "../core/user-code.js";
import { type Fault, type FaultKind, Faults } from "../policies/faults/faults.js";
import type { FaultEnd, ResolvedFaultOptions } from "../policies/faults/options.js";
import type { Environment } from "./environment.js";
import { pushbackKey } from "./metadata.js";

/** Faults are injected only if this environment variable is `1`. */
const switchName = "GRPC_WEIR_FAULTS";

/**
 * Whether this process may inject faults. It is asked once, when a policy is built. Code with faults in it can go to
 * production: whoever runs the process decides.
 */
export function faultsPermitted(): boolean {
  return process.env[switchName] === "1";
}

/** The faults of a client or a server. `C` is what the user's predicate `when` sees of a call. */
export class FaultsPolicy<C> extends Faults {
  #when: ((call: C) => boolean) | undefined;
  readonly #report: ReportError;

  constructor(
    options: ResolvedFaultOptions,
    when: ((call: C) => boolean) | undefined,
    { random, report }: Environment,
    mode: Mode | undefined,
  ) {
    super(options, random, report, { mode, enabled: faultsPermitted() });
    this.#when = when;
    this.#report = report;
  }

  override reconfigure(fresh: FaultsPolicy<C>): void {
    super.reconfigure(fresh);
    this.#when = fresh.#when;
  }

  /** Whether a call may get a fault. If the predicate throws, it gets none. */
  concerns(call: C): boolean {
    if (this.#when === undefined) return true;
    const when = this.#when;
    return ask(() => when(call), yesOrNo, false, this.#report, "faults.when");
  }

  /** Notes the decision to inject a fault; `enforced: false` in mode `observe`. */
  note(
    kind: FaultKind,
    detail: string,
    atMs: number,
    enforced: boolean,
    host: { decide(decision: Decision): void },
  ): void {
    if (enforced) this.countInjected(kind);
    host.decide({
      policy: "faults",
      verdict: "inject",
      reason: "FAULT_INJECTED",
      enforced,
      atMs,
      detail,
    });
  }
}

/** The detail of a decision about a delay. */
export function delayText({ delayMs = 0 }: Fault): string {
  return `latency: ${rounded(delayMs)} ms`;
}

/** The detail of a decision about the end of a call. */
export function endText(end: FaultEnd): string {
  switch (end.kind) {
    case "status":
      return `status: ${Status[end.code]}`;
    case "drop":
      return "drop: no answer";
    case "reset":
      return `reset: at the ${end.at}`;
    case "midStream":
      return `midStream: ${Status[end.code]}`;
    default:
      return end satisfies never;
  }
}

/** The status of a fault, with its pushback, as a server sends it. */
export function faultStatus(
  end: Extract<FaultEnd, { kind: "status" | "midStream" }>,
): StatusObject {
  const metadata = new Metadata();
  if (end.kind === "status" && end.pushbackMs !== undefined) {
    // A negative pushback asks for no retry (gRFC A6).
    metadata.set(pushbackKey, end.pushbackMs === "stop" ? "-1" : String(end.pushbackMs));
  }
  return { code: end.code, details: end.details, metadata };
}

/** Request: delay the call by this whole number of milliseconds. */
const delayKey = "x-fault-delay-ms";
/** Request: end the call with this status code, as a number. */
const statusKey = "x-fault-status";

/** The longest delay that a caller may ask for, in milliseconds. */
const maxDelayMs = 60_000;

/** The fault that the caller asks for in the metadata. Invalid values count as absent. */
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
