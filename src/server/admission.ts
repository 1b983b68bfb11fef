import type { ServerInterceptor } from "@grpc/grpc-js";
import { Admission, type AdmissionSnapshot } from "../core/admission.js";
import {
  type AdmissionOptions,
  type ResolvedAdmissionOptions,
  resolveAdmissionOptions,
} from "../core/admission-options.js";
import type { Gate } from "../core/gates.js";
import type { Mode } from "../core/mode.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import type { Entry, OnTurn } from "../core/turn.js";
import type { InboundCall } from "../grpc/inbound-call.js";
import type { Surroundings, SurroundingsOptions } from "../grpc/surroundings.js";
import { type ServerPolicyOptions, serverGate, splitServerOptions } from "./gates.js";

/** Calls of these services are never refused: they are how a server under load is looked into. */
const exempt = /^\/grpc\.(health|reflection|channelz)\./;

/**
 * Admission of one server: one limit and one queue for all its calls. Refusals are RESOURCE_EXHAUSTED
 * (`LOAD_SHED`, `CONCURRENCY_LIMIT`, `QUEUE_TIMEOUT`) with pushback, DEADLINE_EXCEEDED (`DEADLINE_EXPIRED`)
 * or UNAVAILABLE (`DRAINING`). Health, reflection and channelz are exempt.
 */
export class AdmissionPolicy implements ControlledPolicy, Gate<InboundCall> {
  readonly policy = "admission";
  mode: Mode;
  readonly #admission: Admission;

  constructor(
    options: ResolvedAdmissionOptions,
    surroundings: Surroundings,
    mode: Mode = "enforce",
  ) {
    this.mode = mode;
    const { clock, random, report } = surroundings;
    this.#admission = new Admission(options, clock, random, report);
  }

  modeFor(inbound: InboundCall): Mode {
    return exempt.test(inbound.method) ? "off" : this.mode;
  }

  enter(inbound: InboundCall, onTurn: OnTurn): Entry {
    return this.#admission.enter(inbound.priority, inbound.deadlineMs, onTurn);
  }

  /** Refuses those who wait and those who come. */
  drain(): void {
    this.#admission.drain();
  }

  snapshot(): AdmissionSnapshot {
    return this.#admission.snapshot();
  }
}

/**
 * Admission as an interceptor of its own.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function admission(
  options: AdmissionOptions & ServerPolicyOptions & SurroundingsOptions = {},
): ServerInterceptor {
  const { mode, surroundings, priority, rest } = splitServerOptions(options, "admission");
  const policy = new AdmissionPolicy(
    resolveAdmissionOptions(rest, "admission", ["mode", "priority"]),
    surroundings,
    mode,
  );
  return serverGate(surroundings, priority, [policy]);
}
