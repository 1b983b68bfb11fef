import type { CancelTask, Clock } from "../../core/clock.js";
import type { Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { durationMs, InvalidOptionError, readOptions } from "../../core/options.js";
import { type Outcome, type Permit, permit, type Refusal, refusal } from "../../core/permit.js";
import { type ReportError, safely, tell } from "../../core/user-code.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment } from "../../grpc/environment.js";
import { isExempt } from "../../grpc/server/policy.js";

/** The part of `grpc-health-check`'s `HealthImplementation` that a drain uses. */
export interface HealthStatus {
  setStatus(service: string, status: "NOT_SERVING"): unknown;
}

/** The part of a grpc-js server that a drain uses. */
export interface DrainableServer {
  tryShutdown(callback: (error?: Error) => void): void;
  forceShutdown(): void;
}

export interface DrainOptions {
  /**
   * How long calls in flight may take to end. What still runs then is cut off. 0 to 24 days. @defaultValue 30_000
   */
  readonly graceMs?: number;
  /**
   * How long the server goes on as before while it already says NOT_SERVING, so that load balancers can turn away
   * first. 0 to 24 days. @defaultValue 0
   */
  readonly noticeMs?: number;
  /** Told that the services are not serving any more. @defaultValue none */
  readonly health?: HealthStatus;
  /** Names of the services that it is told about. @defaultValue the server as a whole, which has the empty name */
  readonly services?: readonly string[];
}

/** How a drain went. */
export interface DrainReport {
  /** Calls that ran when admission stopped. */
  readonly inFlight: number;
  /** Of those, calls that were still running after `graceMs` and were cut off. */
  readonly cutOff: number;
  /** Whole milliseconds from the call of `drain` to the end of the server. */
  readonly tookMs: number;
  /** What went wrong on the way: what a health service or the server threw. Absent where nothing did. */
  readonly errors?: readonly unknown[];
}

/** How long a server may take to end once it is told to do so by force, or once it has no call any more. */
const momentMs = 250;
const idleMs = 1_000;

/** Counts the calls of a server, and lets no more in once it drains. Health and its like are exempt. */
export class DrainGate implements Gate<InboundCall> {
  readonly policy = "drain";
  /** What was answered may still have to reach its caller. */
  readonly untilEnd = true;
  #draining = false;
  #inFlight = 0;
  #served = 0;
  #onIdle: (() => void)[] = [];

  /** Calls that ended without a failure of this server, from the beginning. */
  get served(): number {
    return this.#served;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Tells `task` once no call is in flight any more. */
  whenIdle(task: () => void): void {
    if (this.#inFlight === 0) task();
    else this.#onIdle.push(task);
  }

  /** From now on, calls are refused with UNAVAILABLE (reason `DRAINING`). */
  drain(): void {
    this.#draining = true;
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
    if (this.#inFlight > 0) return;
    for (const task of this.#onIdle.splice(0)) task();
  };
}

/** What is drained together. */
export interface Drained {
  readonly gates: readonly DrainGate[];
  /** Stops admission, and refuses those who wait. */
  readonly stop: () => void;
}

/**
 * Takes a server out of service without losing a call: stops admission, says NOT_SERVING, sends away those who wait,
 * lets the calls in flight end, and shuts the server down; what runs too long is cut off. With a notice, NOT_SERVING is
 * said first, and admission stops when the notice is over.
 *
 * It ends a moment after `graceMs` at the latest, whatever the server, its peers or the health service do: a peer that
 * keeps its half of the connection open keeps grpc-js's own shutdown waiting for as long. It ends sooner where no
 * call is left and only connections are open.
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
    safely(report, error, where);
  };
  if (noticeMs === 0) stop();
  for (const service of services) {
    // One that fails, now or later, stops nothing: the server is to go.
    tell(() => health?.setStatus(service, "NOT_SERVING"), failed, "drain.health");
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

/** Where the errors of a server come from. */
const where = "drain.server";

/** Ends the server; the result is how many calls had to be cut off. */
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
      // The callback of `tryShutdown` comes as well once the streams are gone; if not, nobody waits for it.
      stopTimer = clock.schedule(momentMs, end);
      tell(() => server.forceShutdown(), failed, where);
    };
    const forceIn = (ms: number) => {
      stopTimer();
      stopTimer = clock.schedule(ms, force);
    };
    forceIn(graceMs);
    const ended = (error?: Error) => {
      if (over) return;
      if (error !== undefined) safely(failed, error, where);
      end();
    };
    if (!tell(() => server.tryShutdown(ended), failed, where)) force();
    // Without gates nobody knows whether calls are in flight.
    if (over || gates.length === 0) return;
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
