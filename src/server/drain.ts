import type { Clock } from "../core/clock.js";
import type { Gate } from "../core/gates.js";
import type { Mode } from "../core/mode.js";
import { durationMs, InvalidOptionError, knownKeys } from "../core/options.js";
import type { Outcome, Permit } from "../core/permit.js";
import { type Refusal, refusal } from "../core/refusal.js";
import type { InboundCall } from "../grpc/inbound-call.js";
import { isExempt } from "./exempt.js";

/** The part of `grpc-health-check`'s `HealthImplementation` that a drain uses. */
export interface HealthStatus {
  setStatus(service: string, status: "NOT_SERVING"): void;
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
}

/** Counts the calls of a server, and lets no more in once it drains. Health and its like are exempt. */
export class DrainGate implements Gate<InboundCall> {
  readonly policy = "drain";
  #draining = false;
  #inFlight = 0;
  #served = 0;

  /** Calls that ended without a failure of this server, from the beginning. */
  get served(): number {
    return this.#served;
  }

  get inFlight(): number {
    return this.#inFlight;
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
    return new InFlight(this.#ended);
  }

  readonly #ended = (outcome: Outcome): void => {
    this.#inFlight -= 1;
    if (outcome === "success") this.#served += 1;
  };
}

class InFlight implements Permit {
  #ended: ((outcome: Outcome) => void) | undefined;

  constructor(ended: (outcome: Outcome) => void) {
    this.#ended = ended;
  }

  settle(outcome: Outcome): void {
    const ended = this.#ended;
    this.#ended = undefined;
    ended?.(outcome);
  }
}

/** What is drained together. */
export interface Drained {
  readonly gates: readonly DrainGate[];
  /** Stops admission, and refuses those who wait. */
  readonly stop: () => void;
}

/**
 * Takes a server out of service without losing a call: says NOT_SERVING, stops admission, sends away those who wait,
 * lets the calls in flight end, and shuts the server down; what runs too long is cut off.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export async function drainServer(
  server: DrainableServer,
  { gates, stop }: Drained,
  options: DrainOptions,
  clock: Clock,
): Promise<DrainReport> {
  const { graceMs, noticeMs, health, services } = resolve(server, options);
  const startedMs = clock.now();
  for (const service of services) health?.setStatus(service, "NOT_SERVING");
  if (noticeMs > 0) await pause(clock, noticeMs);
  const running = () => gates.reduce((sum, gate) => sum + gate.inFlight, 0);
  stop();
  const inFlight = running();
  const cutOff = await shutDown(server, graceMs, running, clock);
  return { inFlight, cutOff, tookMs: Math.round(clock.now() - startedMs) };
}

/** Ends the server; the result is how many calls had to be cut off. */
function shutDown(
  server: DrainableServer,
  graceMs: number,
  running: () => number,
  clock: Clock,
): Promise<number> {
  return new Promise((resolve, reject) => {
    let cut = 0;
    const stopTimer = clock.schedule(graceMs, () => {
      cut = running();
      // Its callback comes as well, once the streams are gone.
      server.forceShutdown();
    });
    server.tryShutdown((error) => {
      stopTimer();
      if (error === undefined) resolve(cut);
      else reject(error);
    });
  });
}

function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.schedule(ms, resolve);
  });
}

function resolve(server: DrainableServer, options: DrainOptions) {
  for (const method of ["tryShutdown", "forceShutdown"] as const) {
    if (typeof server?.[method] !== "function") {
      throw new InvalidOptionError("drain.server", `a server: it has no ${method}()`, server);
    }
  }
  knownKeys("drain", options, ["graceMs", "noticeMs", "health", "services"]);
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
    services,
  };
}
