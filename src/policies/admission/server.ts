import type { ServerInterceptor } from "@grpc/grpc-js";
import { systemClock } from "../../core/clock.js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gauges } from "../../core/gauges.js";
import { boundedKey } from "../../core/keyed.js";
import { durationMs, readOptions, unlessOff, wholeNumber } from "../../core/options.js";
import { OptionsCopy } from "../../core/options-copy.js";
import type { GateAnswer, OnGranted, Refusal } from "../../core/permit.js";
import { renamedOptions } from "../../core/renamed-options.js";
import type { ReportError } from "../../core/user-code.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment, EnvironmentOptions } from "../../grpc/environment.js";
import { formatAdmission } from "../../grpc/metadata.js";
import { type ServerGate, serverPipeline } from "../../grpc/server/pipeline-call.js";
import {
  callSeen,
  isExempt,
  type QuotaCall,
  type ServerCallKey,
  type ServerPolicyOptions,
  serverKeyOf,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import type { CallKind } from "../../grpc/types.js";
import { PressureMeter, type PressureSnapshot } from "../pressure/meter.js";
import { idleReader, resolvePressureOptions } from "../pressure/options.js";
import { NodeProcessReader } from "../pressure/server-process-reader.js";
import {
  Admission,
  type AdmissionParts,
  type AdmissionSnapshot,
  type AdmissionWork,
  type Fairness,
} from "./admission.js";
import {
  type AdmissionOptions,
  type AdmissionPoolOptions,
  type ResolvedAdmissionOptions,
  resolveAdmissionOptions,
} from "./options.js";
import { PublishedLevel } from "./published-level.js";
import { StreamAge } from "./server-stream-age.js";
import { LoadThresholds, PressureShedder, type Shedder } from "./shedders.js";

/** The load from which handlers may run longer than they usually do. */
const busyLoad = 0.7;
/** How long a published level holds, in milliseconds. */
const levelTtlMs = 1_000;

/**
 * Who a caller is, and how long it is remembered what it has used.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface FairnessOptions {
  /**
   * Who a call counts for: one client address without its port (`peer`), a `service` or a `method`, or what a function
   * returns, such as the name of a tenant. A name that callers choose themselves is no credential: who takes a new one for
   * each call has used nothing under any. @defaultValue `peer`
   */
  readonly key?: ServerCallKey | ((call: QuotaCall) => string);
  /**
   * What a caller has used counts for half after so many milliseconds, from 100 to 24 days.
   * @defaultValue 1_000
   */
  readonly halfLifeMs?: number;
  /**
   * Of how many callers it is remembered what they have used, a whole number from 1 to 1,000,000. Beyond that, the one that
   * was seen longest ago is forgotten. @defaultValue 1_000
   */
  readonly maxKeys?: number;
}

/**
 * The options of a server's admission.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface ServerAdmissionOptions extends AdmissionOptions {
  /**
   * Inside a priority, callers that have used most slots of late wait longest and are refused first. It acts only while calls
   * wait, and not in a pool without a queue. `false`: all callers are one. @defaultValue on, by the address of the caller
   */
  readonly fairness?: FairnessOptions | false;
}

/**
 * The numbers of a server's admission: those of the pool of calls, and beside them the others.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface AdmissionPolicySnapshot extends AdmissionSnapshot {
  /** The pool of streams; absent where they share that of all calls. */
  readonly streams?: AdmissionSnapshot;
  readonly pressure: PressureSnapshot;
  /** The share of the calls that are not critical that is shed by pressure, from 0 to 1. */
  readonly shedShare: number;
}

/**
 * Admission control of one server: a pool of slots and a queue for its calls, and another pool for its streams. It refuses
 * with
 * - RESOURCE_EXHAUSTED (`LOAD_SHED`, `CONCURRENCY_LIMIT`, `QUEUE_TIMEOUT`) and pushback,
 * - DEADLINE_EXCEEDED (`DEADLINE_EXPIRED`, `DEADLINE_INFEASIBLE`),
 * - UNAVAILABLE (`DRAINING`).
 *
 * Health, reflection, channelz and ORCA are exempt.
 */
export class AdmissionPolicy implements ControlledPolicy, ServerGate {
  readonly policy = "admission";
  readonly takesSlot = true;
  mode: Mode;
  /** Measures how hard pressed this process is. */
  readonly pressure: PressureMeter;
  /** Ends old streams. `undefined` where no age is set. */
  streamAge: StreamAge | undefined;
  readonly #calls: Admission<InboundCall>;
  #streams: Admission<InboundCall> | undefined;
  /** The pool that streams had before they shared that of all calls. Some may still wait in it. */
  #streamsBefore: Admission<InboundCall> | undefined;
  #byPressure: PressureShedder | undefined;
  readonly #environment: Environment;
  #settings: Settings;
  #callLevel: PublishedLevel | undefined;
  #streamLevel: PublishedLevel | undefined;
  /** The level that was published last, and its text: it stands in every answer, and rarely changes. */
  #published = { level: Number.NaN, text: "" };

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(
    given: ServerAdmissionOptions,
    environment: Environment,
    mode: Mode = "enforce",
    prefix = "admission",
  ) {
    this.mode = mode;
    this.#environment = environment;
    const { clock, report } = environment;
    this.#settings = resolveSettings(given, report, prefix);
    const { pressure, streams } = this.#settings.options;
    // Under a virtual clock, readings of the real process mean nothing.
    const reader = clock === systemClock ? new NodeProcessReader() : idleReader;
    this.pressure = new PressureMeter(pressure || resolvePressureOptions(), reader, clock, report);
    this.streamAge = this.#newStreamAge();
    this.#byPressure = this.#newPressureShedder();
    this.#setLevels();
    this.#calls = this.#newPool(this.#settings.options, this.#callLevel);
    this.#streams = streams === "together" ? undefined : this.#newPool(streams, this.#streamLevel);
  }

  /** A limit, and a pressure, whose options are others begin anew; streams that are open keep their age. */
  reconfigure(fresh: AdmissionPolicy): void {
    const before = this.#settings;
    this.#settings = fresh.#settings;
    const { options, given } = this.#settings;
    if (!new OptionsCopy(before.given.pressure).matches(given.pressure)) {
      this.pressure.reconfigure(fresh.pressure);
      this.#byPressure = this.#newPressureShedder();
    }
    this.streamAge = this.#newStreamAge();
    if (options.publish !== before.options.publish) this.#setLevels();
    const limitChanged = !new OptionsCopy(before.given.limit).matches(given.limit);
    this.#calls.reconfigure(options, this.#partsOf(options, this.#callLevel), limitChanged);
    this.#reconfigureStreams(before);
  }

  #reconfigureStreams(before: Settings): void {
    const { streams } = this.#settings.options;
    if (streams === "together") {
      this.#streamsBefore = this.#streams ?? this.#streamsBefore;
      this.#streams = undefined;
    } else if (this.#streams === undefined) {
      this.#streams = this.#newPool(streams, this.#streamLevel);
    } else {
      const limitChanged = !new OptionsCopy(streamLimitOf(before)).matches(
        streamLimitOf(this.#settings),
      );
      const parts = this.#partsOf(streams, this.#streamLevel);
      this.#streams.reconfigure(streams, parts, limitChanged);
    }
  }

  /** How full the fuller of the pools is, from 0 to 1. In mode `observe`, how full it would be. */
  get load(): number {
    return Math.min(1, Math.max(this.#calls.load, this.#streams?.load ?? 0));
  }

  /**
   * How hard pressed the server is, from 0 to 1: the greater of its load and of the pressure of its process, unless that is
   * switched off. In mode `observe` the load has calls in it that it would have refused, and does not count.
   */
  get pressed(): number {
    const full = this.mode === "enforce" ? this.load : 0;
    const { pressure } = this.#settings.options;
    return pressure !== false ? Math.max(full, this.pressure.now()) : full;
  }

  /** The server is loaded, or sheds by pressure: how long handlers run now is not how long they usually run. */
  get shedding(): boolean {
    return this.load >= busyLoad || this.#shedShare > 0;
  }

  /** How long a call that is read now has waited for the event loop on average, in milliseconds. */
  get lostMs(): number {
    return this.pressure.loopDelayMs / 2;
  }

  get asksUser(): boolean {
    return this.#settings.asksUser;
  }

  modeFor(inbound: InboundCall): Mode {
    return isExempt(inbound.method) ? "off" : this.mode;
  }

  enter(inbound: InboundCall, onGranted: OnGranted): GateAnswer {
    return this.#pool(inbound.kind).enter(inbound, onGranted);
  }

  refusesEarly(inbound: InboundCall): Refusal | undefined {
    return this.#pool(inbound.kind).check(inbound);
  }

  handlerRan({ kind }: InboundCall, tookMs: number): void {
    this.#pool(kind).ran(tookMs);
  }

  publishedAdmission(inbound: InboundCall): string | undefined {
    const published = this.#levelFor(inbound);
    if (published?.refusing !== true || this.mode !== "enforce") return undefined;
    const level = published.level(this.#environment.clock.now());
    if (level === undefined) return undefined;
    if (level !== this.#published.level) {
      this.#published = { level, text: formatAdmission({ level, ttlMs: levelTtlMs }) };
    }
    return this.#published.text;
  }

  /** Refuses the calls that wait and all that come. */
  drain(): void {
    this.#calls.drain();
    this.#streams?.drain();
    this.#streamsBefore?.drain();
  }

  /** Drains, and stops reading the process. */
  close(): void {
    this.drain();
    this.pressure.close();
  }

  /** How the pools have been used until now: that of calls, and that of streams where there is one. */
  workAt(nowMs: number): { readonly calls: AdmissionWork; readonly streams?: AdmissionWork } {
    const calls = this.#calls.workAt(nowMs);
    return this.#streams === undefined
      ? { calls }
      : { calls, streams: this.#streams.workAt(nowMs) };
  }

  measure(gauges: Gauges): void {
    this.#calls.measure(gauges, { pool: "calls" });
    this.#streams?.measure(gauges, { pool: "streams" });
    const { signals } = this.pressure.snapshot();
    for (const [signal, value] of Object.entries(signals))
      gauges.note("pressure", value, { signal });
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

  #newStreamAge(): StreamAge | undefined {
    const { streams } = this.#settings.options;
    return streams === "together" || streams.maxAgeMs === Number.POSITIVE_INFINITY
      ? undefined
      : new StreamAge(this, streams.maxAgeMs, this.#environment);
  }

  #newPressureShedder(): PressureShedder | undefined {
    const { pressure } = this.#settings.options;
    const late = (nowMs: number) =>
      this.#calls.isLate(nowMs) || this.#streams?.isLate(nowMs) === true;
    return pressure ? new PressureShedder(pressure, this.pressure, late) : undefined;
  }

  #setLevels(): void {
    const { publish, streams } = this.#settings.options;
    this.#callLevel = publish ? new PublishedLevel() : undefined;
    this.#streamLevel = publish && streams !== "together" ? new PublishedLevel() : this.#callLevel;
  }

  #newPool(ofPool: AdmissionPoolOptions, level: PublishedLevel | undefined) {
    const { clock, random } = this.#environment;
    return new Admission<InboundCall>(ofPool, clock, random, this.#partsOf(ofPool, level));
  }

  #partsOf(
    { maxQueued }: AdmissionPoolOptions,
    level: PublishedLevel | undefined,
  ): AdmissionParts<InboundCall> {
    const { options, fairness } = this.#settings;
    const { thresholds, thresholdsWithQueue } = options;
    // Where calls wait, the queue has room for the better ones by itself.
    const byLoad = thresholds !== false && (maxQueued === 0 || thresholdsWithQueue);
    const shedders: Shedder[] = [
      ...(byLoad ? [new LoadThresholds(thresholds)] : []),
      ...(this.#byPressure === undefined ? [] : [this.#byPressure]),
    ];
    const { report } = this.#environment;
    return { report, fairness, shedders, onAnswer: this.#noting(level) };
  }

  /** Sets the share anew if that is due: without calls to shed, nothing else does. */
  get #shedShare(): number {
    return this.#byPressure?.shareAt(this.#environment.clock.now()) ?? 0;
  }

  /** Notes in a level what its pool answers. In mode `observe` calls are not refused, so there is nothing to publish. */
  #noting(level: PublishedLevel | undefined): AdmissionParts["onAnswer"] {
    if (level === undefined) return undefined;
    return (priority, shed, nowMs) => {
      if (this.mode !== "enforce") return;
      if (shed) level.refused(priority, nowMs);
      else level.admitted(priority, nowMs);
    };
  }

  #pool(kind: CallKind): Admission<InboundCall> {
    return kind === "unary" ? this.#calls : (this.#streams ?? this.#calls);
  }

  /** The level of the pool that the call belongs to. */
  #levelFor({ kind }: InboundCall): PublishedLevel | undefined {
    return kind === "unary" ? this.#callLevel : this.#streamLevel;
  }
}

/** The options of a policy, checked, and as they were given. */
interface Settings {
  readonly given: ServerAdmissionOptions;
  readonly options: ResolvedAdmissionOptions;
  readonly fairness: Fairness<InboundCall> | undefined;
  readonly asksUser: boolean;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolveSettings(
  admission: ServerAdmissionOptions,
  report: ReportError,
  prefix: string,
): Settings {
  const given = readOptions(prefix, admission);
  const { fairness: fairnessGiven = {}, ...own } = given;
  const options = resolveAdmissionOptions(own, prefix, ["fairness", "mode", "priority"]);
  const fairness = unlessOff(`${prefix}.fairness`, fairnessGiven, (its, path) =>
    resolveFairness(its, report, path),
  );
  const asksUser = typeof fairnessGiven === "object" && typeof fairnessGiven.key === "function";
  return { given, options, fairness, asksUser };
}

function streamLimitOf({ given }: Settings): unknown {
  const { streams } = given;
  return typeof streams === "object" ? streams.limit : undefined;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolveFairness(
  given: FairnessOptions,
  report: ReportError,
  prefix: string,
): Fairness<InboundCall> {
  const options = readOptions(
    prefix,
    given,
    ["key", "halfLifeMs", "maxKeys"],
    [],
    renamedOptions("Fairness"),
  );
  const { key = "peer", halfLifeMs = 1_000, maxKeys = 1_000 } = options;
  const keyOf = serverKeyOf(key, report, `${prefix}.key`);
  return {
    // A call is asked about several times: before it waits, when it is given a slot, when its slot is given back.
    callerOf: (inbound) => (inbound.caller ??= boundedKey(keyOf(callSeen(inbound)))),
    halfLifeMs: durationMs(`${prefix}.halfLifeMs`, halfLifeMs, 100),
    maxKeys: wholeNumber(`${prefix}.maxKeys`, maxKeys, 1, 1_000_000),
  };
}

/**
 * Admission control as an interceptor of its own.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export function admission(
  options: ServerAdmissionOptions & ServerPolicyOptions & EnvironmentOptions = {},
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "admission");
  const policy = new AdmissionPolicy(rest, environment, mode);
  return serverPipeline(environment, { priority, gates: [policy, policy.streamAge] });
}
