import type { CancelTask, Clock } from "../../core/clock.js";
import type { Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import type { Gauges } from "../../core/gauges.js";
import { durationMs, InvalidOptionError, readOptions } from "../../core/options.js";
import { type Outcome, type Permit, permit, type Refusal, refusal } from "../../core/permit.js";
import { callSafely, type ReportError, reportSafely } from "../../core/user-code.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment } from "../../grpc/environment.js";
import { isExempt } from "../../grpc/server/policy.js";

/**
 * What a drain needs of a health service: a part of `HealthImplementation` of `grpc-health-check`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/drain.md
 */
export interface HealthStatus {
  setStatus(service: string, status: "NOT_SERVING"): unknown;
}

/**
 * What a drain needs of a grpc-js server.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/drain.md
 */
export interface DrainableServer {
  tryShutdown(callback: (error?: Error) => void): void;
  forceShutdown(): void;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/drain.md */
export interface DrainOptions {
  /**
   * How long calls in flight may take to end, in milliseconds. Calls that still run then are cut off. 0 to 24 days.
   * @defaultValue 30_000
   */
  readonly graceMs?: number;
  /**
   * How long the server still accepts calls after its health services report NOT_SERVING, in milliseconds, so that load
   * balancers stop sending first. 0 to 24 days. @defaultValue 0
   */
  readonly noticeMs?: number;
  /** The health service that is set to NOT_SERVING. @defaultValue none */
  readonly health?: HealthStatus;
  /** Names of the services that are set to NOT_SERVING. @defaultValue `[""]`, the server as a whole */
  readonly services?: readonly string[];
}

/**
 * How a drain went.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/drain.md
 */
export interface DrainReport {
  /** Calls that ran when admission stopped. */
  readonly inFlight: number;
  /** How many of them still ran after `graceMs`, and were cut off. */
  readonly cutOff: number;
  /** Whole milliseconds from the call of `drain` until the server had shut down. */
  readonly tookMs: number;
  /** What a health service or the server threw. Absent where neither did. */
  readonly errors?: readonly unknown[];
}

/** How long `forceShutdown` may take, in milliseconds. */
const forcedMs = 250;
/** How long a server without calls may take to close its connections before it is forced to, in milliseconds. */
const idleMs = 1_000;

/** Counts the calls of a server, and refuses them once it drains. Health, reflection, channelz and ORCA are exempt. */
export class DrainGate implements Gate<InboundCall> {
  readonly policy = "drain";
  readonly neverQueues = true;
  /** A call is in flight until its response has reached the caller. */
  readonly untilEnd = true;
  #draining = false;
  #inFlight = 0;
  #served = 0;
  #onIdle: (() => void)[] = [];

  /** Calls that ended without a failure of this server. Only grows. */
  get served(): number {
    return this.#served;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Runs `task` once, when no call is in flight. */
  whenIdle(task: () => void): void {
    if (this.#inFlight === 0) task();
    else this.#onIdle.push(task);
  }

  /** From now on, calls are refused with UNAVAILABLE (reason `DRAINING`). */
  drain(): void {
    this.#draining = true;
  }

  measure(gauges: Gauges): void {
    gauges.note("draining", this.#draining ? 1 : 0, {});
  }

  modeFor({ method }: InboundCall): Mode {
    return isExempt(method) ? "off" : "enforce";
  }

  enter(): Permit | Refusal {
    if (this.#draining) return refusal("DRAINING", "the server is draining");
    this.#inFlight += 1;
    return permit(this.#ended);
  }

  readonly #ended = (outcome: Outcome): void => {
    this.#inFlight -= 1;
    if (outcome === "success") this.#served += 1;
    if (this.#inFlight > 0 || this.#onIdle.length === 0) return;
    for (const task of this.#onIdle.splice(0)) task();
  };
}

/** The servers of a weir, which are drained together. */
export interface Drained {
  readonly gates: readonly DrainGate[];
  /** Refuses the calls that wait and all that come. */
  readonly stop: () => void;
}

/**
 * Takes a server out of service without losing a call:
 * 1. sets its health services to NOT_SERVING,
 * 2. after `noticeMs`, refuses the calls that wait and all that come,
 * 3. lets the calls in flight end, for `graceMs` at most, and cuts off those that still run,
 * 4. shuts the server down.
 *
 * Without a notice the first two change places. It takes no longer than `noticeMs` + `graceMs` + 250 ms, whatever the server,
 * its peers or the health service do: grpc-js's own shutdown waits for as long as a peer keeps its half of a connection
 * open. When no call is left, connections that are still open a second later are closed by force.
 */
export async function drainServer(
  server: DrainableServer,
  { gates, stop }: Drained,
  { graceMs, noticeMs, health, services }: ResolvedDrainOptions,
  { clock, report }: Pick<Environment, "clock" | "report">,
): Promise<DrainReport> {
  const startedMs = clock.now();
  const errors: unknown[] = [];
  const failed: ReportError = (error, where) => {
    errors.push(error);
    reportSafely(report, error, where);
  };
  if (noticeMs === 0) stop();
  for (const service of services) {
    // An error of the health service, thrown now or later, does not stop the drain.
    callSafely(() => health?.setStatus(service, "NOT_SERVING"), failed, "drain.health");
  }
  if (noticeMs > 0) {
    await pause(clock, noticeMs);
    stop();
  }
  const inFlight = runningOf(gates);
  const cutOff = await shutDown(server, gates, graceMs, clock, failed);
  const tookMs = Math.round(clock.now() - startedMs);
  return { inFlight, cutOff, tookMs, ...(errors.length > 0 ? { errors } : {}) };
}

function runningOf(gates: readonly DrainGate[]): number {
  return gates.reduce((sum, gate) => sum + gate.inFlight, 0);
}

/** Where errors of the server are reported from. */
const where = "drain.server";

/** Shuts the server down. The result is how many calls were cut off. */
function shutDown(
  server: DrainableServer,
  gates: readonly DrainGate[],
  graceMs: number,
  clock: Clock,
  failed: ReportError,
): Promise<number> {
  return new Promise((resolve) => {
    let cut = 0;
    let over = false;
    let stopTimer: CancelTask = () => {};
    const end = () => {
      over = true;
      stopTimer();
      resolve(cut);
    };
    const force = () => {
      if (over) return;
      cut = runningOf(gates);
      // `tryShutdown` usually calls back when the streams are gone, and the drain ends then.
      stopTimer = clock.schedule(forcedMs, end);
      callSafely(() => server.forceShutdown(), failed, where);
    };
    const forceIn = (ms: number) => {
      stopTimer();
      stopTimer = clock.schedule(ms, force);
    };
    forceIn(graceMs);
    const ended = (error?: Error) => {
      if (over) return;
      if (error !== undefined) reportSafely(failed, error, where);
      end();
    };
    if (!callSafely(() => server.tryShutdown(ended), failed, where)) force();
    // Without gates it is not known whether calls are in flight, and the server has all of the grace.
    const untilMs = clock.now() + graceMs;
    let busy = gates.length;
    for (const gate of gates) {
      gate.whenIdle(() => {
        busy -= 1;
        const leftMs = untilMs - clock.now();
        if (busy === 0 && !over && leftMs > idleMs) forceIn(idleMs);
      });
    }
  });
}

function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.schedule(ms, resolve);
  });
}

/** Checked and complete. */
export interface ResolvedDrainOptions {
  readonly graceMs: number;
  readonly noticeMs: number;
  readonly health: HealthStatus | undefined;
  readonly services: readonly string[];
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveDrainOptions(
  server: DrainableServer,
  given: DrainOptions,
): ResolvedDrainOptions {
  for (const method of ["tryShutdown", "forceShutdown"] as const) {
    if (typeof server?.[method] !== "function") {
      throw new InvalidOptionError("drain.server", `a server: it has no ${method}()`, server);
    }
  }
  const options = readOptions("drain", given, ["graceMs", "noticeMs", "health", "services"]);
  const { graceMs = 30_000, noticeMs = 0, health, services = [""] } = options;
  if (health !== undefined && typeof health?.setStatus !== "function") {
    throw new InvalidOptionError("drain.health", "a health service: it has no setStatus()", health);
  }
  if (!Array.isArray(services) || services.some((name) => typeof name !== "string")) {
    throw new InvalidOptionError("drain.services", "an array of names", services);
  }
  return {
    graceMs: durationMs("drain.graceMs", graceMs),
    noticeMs: durationMs("drain.noticeMs", noticeMs),
    health,
    services: [...services],
  };
}
