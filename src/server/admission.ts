import type { ServerInterceptor } from "@grpc/grpc-js";
import { Admission, type AdmissionSnapshot } from "../core/admission.js";
import {
  type AdmissionOptions,
  type ResolvedAdmissionOptions,
  resolveAdmissionOptions,
} from "../core/admission-options.js";
import type { Clock } from "../core/clock.js";
import type { Mode } from "../core/mode.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import type { Priority } from "../core/priority.js";
import type { Reason } from "../core/reasons.js";
import { isRefusal } from "../core/refusal.js";
import { ShedLevel } from "../core/shed-level.js";
import { type Entry, isQueued, type OnTurn, type Turn } from "../core/turn.js";
import { formatAdmission } from "../grpc/admission-trailer.js";
import type { ServerGate } from "../grpc/gated-server-call.js";
import type { InboundCall } from "../grpc/inbound-call.js";
import type { Surroundings, SurroundingsOptions } from "../grpc/surroundings.js";
import { type ServerPolicyOptions, serverGate, splitServerOptions } from "./gates.js";

/** Calls of these services are never refused: they are how a server under load is looked into. */
const exempt = /^\/grpc\.(health|reflection|channelz)\./;

/** The refusals that speak of load. A server that drains, or a call without time, says nothing of others. */
const shed: ReadonlySet<Reason> = new Set(["LOAD_SHED", "CONCURRENCY_LIMIT", "QUEUE_TIMEOUT"]);
/** How long callers may go by what they were told, in milliseconds. */
const toldForMs = 1_000;

/**
 * Admission of one server: one limit and one queue for all its calls. Refusals are RESOURCE_EXHAUSTED
 * (`LOAD_SHED`, `CONCURRENCY_LIMIT`, `QUEUE_TIMEOUT`) with pushback, DEADLINE_EXCEEDED (`DEADLINE_EXPIRED`)
 * or UNAVAILABLE (`DRAINING`). Health, reflection and channelz are exempt.
 */
export class AdmissionPolicy implements ControlledPolicy, ServerGate {
  readonly policy = "admission";
  mode: Mode;
  readonly #admission: Admission;
  readonly #clock: Clock;
  readonly #level: ShedLevel | undefined;

  constructor(
    options: ResolvedAdmissionOptions,
    surroundings: Surroundings,
    mode: Mode = "enforce",
  ) {
    this.mode = mode;
    const { clock, random, report } = surroundings;
    this.#admission = new Admission(options, clock, random, report);
    this.#clock = clock;
    this.#level = options.publish ? new ShedLevel() : undefined;
  }

  modeFor(inbound: InboundCall): Mode {
    return exempt.test(inbound.method) ? "off" : this.mode;
  }

  enter(inbound: InboundCall, onTurn: OnTurn): Entry {
    const { priority, deadlineMs, startedAtMs } = inbound;
    const level = this.#level;
    // What observes refuses nobody.
    if (level === undefined || this.mode !== "enforce") {
      return this.#admission.enter(priority, deadlineMs, onTurn);
    }
    const entry = this.#admission.enter(priority, deadlineMs, (turn, waitedMs) => {
      note(level, priority, turn, startedAtMs + waitedMs);
      onTurn(turn, waitedMs);
    });
    if (!isQueued(entry)) note(level, priority, entry, startedAtMs);
    return entry;
  }

  admissionToTell(): string | undefined {
    const shedding = this.#level;
    if (shedding?.refusing !== true || this.mode !== "enforce") return undefined;
    const level = shedding.level(this.#clock.now());
    return level === undefined ? undefined : formatAdmission({ level, ttlMs: toldForMs });
  }

  /** Refuses those who wait and those who come. */
  drain(): void {
    this.#admission.drain();
  }

  snapshot(): AdmissionSnapshot {
    return this.#admission.snapshot();
  }
}

function note(level: ShedLevel, priority: Priority, turn: Turn, nowMs: number): void {
  if (!isRefusal(turn)) level.admitted(priority, nowMs);
  else if (shed.has(turn.reason)) level.refused(priority, nowMs);
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
