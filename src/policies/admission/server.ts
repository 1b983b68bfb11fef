import type { ServerInterceptor } from "@grpc/grpc-js";
import { type Clock, systemClock } from "../../core/clock.js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Reason } from "../../core/decision.js";
import {
  type GateAnswer,
  isQueued,
  isRefusal,
  type OnGranted,
  type Refusal,
  type WaitResult,
} from "../../core/permit.js";
import type { Priority } from "../../core/priority.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment, EnvironmentOptions } from "../../grpc/environment.js";
import { formatAdmission } from "../../grpc/metadata.js";
import type { ServerGate } from "../../grpc/server/gated-call.js";
import {
  isExempt,
  type ServerPolicyOptions,
  serverGate,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import type { CallKind } from "../../grpc/types.js";
import { PressureMeter, type PressureSnapshot } from "../pressure/meter.js";
import { idleReader, resolvePressureOptions } from "../pressure/options.js";
import { NodeProcessReader } from "../pressure/server-process-reader.js";
import { Admission, type AdmissionSnapshot, type AdmissionWork } from "./admission.js";
import {
  type AdmissionOptions,
  type ResolvedAdmissionOptions,
  resolveAdmissionOptions,
} from "./options.js";
import { PublishedLevel } from "./published-level.js";
import { StreamAge } from "./server-stream-age.js";
import { LoadThresholds, PressureShedder, type Shedder } from "./shedders.js";

/** The refusals that speak of load. A server that drains, or a call without time, says nothing of others. */
const shed: ReadonlySet<Reason> = new Set(["LOAD_SHED", "CONCURRENCY_LIMIT", "QUEUE_TIMEOUT"]);
/** A load from which handlers may run longer than they do in calm. */
const busy = 0.7;
/** How long callers may go by what they were told, in milliseconds. */
const toldForMs = 1_000;

/** The numbers of a server's admission. */
export interface AdmissionPolicySnapshot extends AdmissionSnapshot {
  /** The slots of streams; absent where they have none of their own. */
  readonly streams?: AdmissionSnapshot;
  readonly pressure: PressureSnapshot;
  /** The share of the calls that are not critical that is refused for pressure, from 0 to 1. */
  readonly shedShare: number;
}

/**
 * Admission of one server: slots and a queue for its calls, and others for its streams. Refusals are
 * RESOURCE_EXHAUSTED (`LOAD_SHED`, `CONCURRENCY_LIMIT`, `QUEUE_TIMEOUT`) with pushback, DEADLINE_EXCEEDED
 * (`DEADLINE_EXPIRED`, `DEADLINE_INFEASIBLE`) or UNAVAILABLE (`DRAINING`). Exempt: health, reflection, channelz, ORCA.
 */
export class AdmissionPolicy implements ControlledPolicy, ServerGate {
  readonly policy = "admission";
  readonly takesSlot = true;
  mode: Mode;
  /** How hard pressed this process is. */
  readonly pressure: PressureMeter;
  /** Ends old streams. `undefined` where they may become as old as they like. */
  readonly streamAge: StreamAge | undefined;
  readonly #calls: Admission;
  readonly #streams: Admission | undefined;
  readonly #byPressure: PressureShedder | undefined;
  readonly #clock: Clock;
  readonly #callLevel: PublishedLevel | undefined;
  readonly #streamLevel: PublishedLevel | undefined;
  /** What was said last: it stands on every answer, and rarely changes. */
  #told = { level: Number.NaN, text: "" };

  constructor(options: ResolvedAdmissionOptions, environment: Environment, mode: Mode = "enforce") {
    this.mode = mode;
    const { clock, random, report } = environment;
    const { pressure, thresholds, streams } = options;
    this.#clock = clock;
    this.streamAge =
      streams === "together" || streams.maxAgeMs === Number.POSITIVE_INFINITY
        ? undefined
        : new StreamAge(this, streams.maxAgeMs, environment);
    // Where time is virtual, what the real process does says nothing.
    const reader = clock === systemClock ? new NodeProcessReader() : idleReader;
    const signals = pressure === false ? resolvePressureOptions() : pressure;
    const meter = new PressureMeter(signals, reader, clock, report);
    this.pressure = meter;
    const late = (nowMs: number) =>
      this.#calls.isLate(nowMs) || this.#streams?.isLate(nowMs) === true;
    this.#byPressure = pressure === false ? undefined : new PressureShedder(pressure, meter, late);
    const shedders: Shedder[] = [];
    if (thresholds !== false) shedders.push(new LoadThresholds(thresholds));
    if (this.#byPressure !== undefined) shedders.push(this.#byPressure);
    const parts = { saturated: () => meter.saturated(), shedders, report };
    this.#calls = new Admission(options, clock, random, parts);
    this.#streams =
      streams === "together" ? undefined : new Admission(streams, clock, random, parts);
    if (options.publish) {
      this.#callLevel = new PublishedLevel();
      this.#streamLevel = streams === "together" ? this.#callLevel : new PublishedLevel();
    }
  }

  /** How full the server is, from 0 to 1: the fuller of its pools. While it observes, how full it would be. */
  get load(): number {
    return Math.min(1, Math.max(this.#calls.load, this.#streams?.load ?? 0));
  }

  /**
   * How hard pressed the server is, from 0 to 1: how full it is, or its process where that is measured, whichever is more.
   * What only observes is full of calls that it would have refused, which presses nobody.
   */
  get pressed(): number {
    const full = this.mode === "enforce" ? this.load : 0;
    return this.#byPressure === undefined ? full : Math.max(full, this.pressure.now());
  }

  /** Calls are being refused, or are about to be: what is measured now is the overload. */
  get shedding(): boolean {
    return this.load >= busy || this.#shedShare > 0;
  }

  /** For how long a call that is seen now has waited for the event loop, on average, in milliseconds. */
  get lostMs(): number {
    return this.pressure.loopDelayMs / 2;
  }

  modeFor(inbound: InboundCall): Mode {
    return isExempt(inbound.method) ? "off" : this.mode;
  }

  enter(inbound: InboundCall, onGranted: OnGranted): GateAnswer {
    const pool = this.#pool(inbound.kind);
    const level = this.#levelFor(inbound);
    // What observes refuses nobody.
    if (level === undefined || this.mode !== "enforce") return pool.enter(inbound, onGranted);
    const { priority, startedAtMs } = inbound;
    const entry = pool.enter(inbound, (turn, waitedMs) => {
      note(level, priority, turn, startedAtMs + waitedMs);
      onGranted(turn, waitedMs);
    });
    if (!isQueued(entry)) note(level, priority, entry, startedAtMs);
    return entry;
  }

  refusesEarly(inbound: InboundCall): Refusal | undefined {
    const refused = this.#pool(inbound.kind).check(inbound);
    const level = this.#levelFor(inbound);
    if (refused !== undefined && level !== undefined) {
      note(level, inbound.priority, refused, inbound.startedAtMs);
    }
    return refused;
  }

  handlerRan({ kind }: InboundCall, tookMs: number): void {
    this.#pool(kind).ran(tookMs);
  }

  admissionToTell(inbound: InboundCall): string | undefined {
    const shedding = this.#levelFor(inbound);
    if (shedding?.refusing !== true || this.mode !== "enforce") return undefined;
    const level = shedding.level(this.#clock.now());
    if (level === undefined) return undefined;
    if (level !== this.#told.level) {
      this.#told = { level, text: formatAdmission({ level, ttlMs: toldForMs }) };
    }
    return this.#told.text;
  }

  /** Refuses those who wait and those who come. */
  drain(): void {
    this.#calls.drain();
    this.#streams?.drain();
  }

  /** Reads nothing of the process any more. */
  close(): void {
    this.drain();
    this.pressure.close();
  }

  /** How the slots of calls have been used until now, and those of streams where they have their own. */
  workAt(nowMs: number): { readonly calls: AdmissionWork; readonly streams?: AdmissionWork } {
    const calls = this.#calls.workAt(nowMs);
    return this.#streams === undefined
      ? { calls }
      : { calls, streams: this.#streams.workAt(nowMs) };
  }

  snapshot(): AdmissionPolicySnapshot {
    const streams = this.#streams?.snapshot();
    return {
      ...this.#calls.snapshot(),
      ...(streams === undefined ? {} : { streams }),
      pressure: this.pressure.snapshot(),
      shedShare: this.#shedShare,
    };
  }

  /** Asked of the time as well: while nothing comes that could be shed, nobody else says that the pressure is gone. */
  get #shedShare(): number {
    return this.#byPressure?.shareAt(this.#clock.now()) ?? 0;
  }

  #pool(kind: CallKind): Admission {
    return kind === "unary" ? this.#calls : (this.#streams ?? this.#calls);
  }

  /** Callers are told of the slots that their call is about: an answer to a stream speaks of streams. */
  #levelFor({ kind }: InboundCall): PublishedLevel | undefined {
    return kind === "unary" ? this.#callLevel : this.#streamLevel;
  }
}

function note(level: PublishedLevel, priority: Priority, turn: WaitResult, nowMs: number): void {
  if (!isRefusal(turn)) level.admitted(priority, nowMs);
  else if (shed.has(turn.reason)) level.refused(priority, nowMs);
}

/**
 * Admission as an interceptor of its own.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function admission(
  options: AdmissionOptions & ServerPolicyOptions & EnvironmentOptions = {},
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "admission");
  const policy = new AdmissionPolicy(
    resolveAdmissionOptions(rest, "admission", ["mode", "priority"]),
    environment,
    mode,
  );
  return serverGate(environment, priority, [policy, policy.streamAge]);
}
