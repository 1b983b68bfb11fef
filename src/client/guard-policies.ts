import { boundedKey } from "../core/bounded-key.js";
import type { BreakerCall } from "../core/breaker.js";
import { resolveBreakerOptions } from "../core/breaker-options.js";
import type { BreakerRefusal } from "../core/breaker-refusal.js";
import { BreakerSet } from "../core/breaker-set.js";
import { Bulkhead, type BulkheadSnapshot, resolveBulkheadOptions } from "../core/bulkhead.js";
import type { Clock } from "../core/clock.js";
import { Keyed } from "../core/keyed.js";
import { type Mode, modes } from "../core/mode.js";
import { oneOf, optionalFunction, readOptions } from "../core/options.js";
import type { Outcome, Permit } from "../core/permit.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import { LatencyQuantile } from "../core/quantile.js";
import type { Random } from "../core/random.js";
import { ask, type ReportError, yesOrNo } from "../core/user-code.js";
import { rejectionOf } from "../grpc/rejection.js";
import type { GuardBreakerOptions, GuardBulkheadOptions } from "./guard-options.js";
import { GuardQueueClock } from "./guard-queue-clock.js";
import { isAbort } from "./guard-signal.js";

/** What the policies of one guard have in common. */
export interface GuardScope {
  /** The guard's name. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly report: ReportError;
}

/** State is kept for so many keys. */
const maxKeys = 1_000;

/** The name of the state of a key: that of the guard for runs without one. */
function stateName(name: string, key: string | undefined): string {
  return key === undefined ? name : `${name} ${boundedKey(key)}`;
}

/** Bulkheads by key. */
export class GuardBulkhead implements ControlledPolicy {
  mode: Mode;
  readonly #name: string;
  readonly #bulkheads: Keyed<Bulkhead>;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(options: GuardBulkheadOptions, scope: GuardScope, prefix: string) {
    const { mode, rest } = takeMode(options, prefix);
    const resolved = resolveBulkheadOptions(rest, prefix, ["mode"]);
    this.mode = mode;
    this.#name = scope.name;
    const clock = new GuardQueueClock(scope.clock, resolved.maxWaitMs);
    const make = () => new Bulkhead(resolved, clock, scope.report);
    this.#bulkheads = new Keyed(make, maxKeys, ({ inUse }) => inUse);
  }

  of(key: string | undefined): Bulkhead {
    return this.#bulkheads.get(stateName(this.#name, key));
  }

  snapshot(): Readonly<Record<string, BulkheadSnapshot>> {
    const entries = [...this.#bulkheads.entries()];
    return Object.fromEntries(entries.map(([key, bulkhead]) => [key, bulkhead.snapshot()]));
  }
}

const ordinary: BreakerCall = { timed: true, critical: false };
const critical: BreakerCall = { timed: true, critical: true };

/** How far back the usual time of a success is learned from, and from how many at least, as for calls. */
const usual = { windowMs: 300_000, minSamples: 20 } as const;

/** Breakers by key. */
export class GuardBreaker extends BreakerSet {
  readonly #name: string;
  readonly #countError: GuardBreakerOptions["countError"];
  readonly #report: ReportError;
  /** How long successes take, of attempts that a caller's deadline may end. */
  readonly #usual: Keyed<LatencyQuantile>;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(options: GuardBreakerOptions, scope: GuardScope, prefix: string) {
    const { mode, rest } = takeMode(options, prefix);
    const { countError, ...own } = rest;
    optionalFunction(`${prefix}.countError`, countError);
    const { clock, random, report } = scope;
    super(resolveBreakerOptions(own, prefix, ["mode", "countError"]), {
      mode,
      maxKeys,
      clock,
      random,
      report,
    });
    this.#name = scope.name;
    this.#countError = countError;
    this.#report = report;
    this.#usual = new Keyed(() => new LatencyQuantile(usual, clock), maxKeys);
  }

  modeFor(key: string | undefined): Mode {
    return this.overridden ? this.modeOf(stateName(this.#name, key)) : this.mode;
  }

  check(key: string | undefined): BreakerRefusal | undefined {
    return this.for(stateName(this.#name, key)).check();
  }

  acquire(key: string | undefined, isCritical: boolean): Permit | BreakerRefusal {
    const breaker = this.for(stateName(this.#name, key));
    return breaker.acquire(isCritical ? critical : ordinary);
  }

  /** An attempt succeeded that a caller's deadline could have ended. */
  succeededIn(key: string | undefined, tookMs: number): void {
    this.#usual.get(stateName(this.#name, key)).record(tookMs);
  }

  /** What half of the successes take at least, where that is known. */
  usualMs(key: string | undefined): number | undefined {
    return this.#usual.get(stateName(this.#name, key)).quantile(0.5);
  }

  /**
   * How an attempt counts that a caller's deadline ended: half of the successes may take longer than it had. While that is
   * not known, it is the caller's affair.
   */
  outcomeOfDeadline(key: string | undefined, hadMs: number): Outcome {
    const usualMs = this.#usual.get(stateName(this.#name, key)).quantile(0.5);
    return usualMs === undefined || hadMs < usualMs ? "ignored" : "failure";
  }

  /** How an attempt counts that failed with this error. */
  outcomeOf(error: unknown): Outcome {
    const countError = this.#countError;
    if (countError === undefined) {
      // Whoever called it off, and what a policy of this process refused below, says nothing of the dependency.
      return isAbort(error) || refusedHere(error) ? "ignored" : "failure";
    }
    const where = "guard.breaker.countError";
    const counts = ask(() => countError(error), yesOrNo, true, this.#report, where);
    return counts ? "failure" : "success";
  }
}

/** A policy of this process refused what the work asked for: a call it made, or a guard inside. Not: it took too long. */
export function refusedHere(error: unknown): boolean {
  const told = rejectionOf(error);
  return told?.local === true && !timedOut.has(told.reason);
}

const timedOut: ReadonlySet<string> = new Set([
  "WORK_TIMEOUT",
  "ATTEMPT_TIMEOUT",
  "CONNECTION_TIMEOUT",
  "FIRST_RESPONSE_TIMEOUT",
  "IDLE_TIMEOUT",
  "DEADLINE_EXCEEDED",
]);

/** Takes the mode out of the options of a policy, so that it sees only its own. */
export function takeMode<O extends { readonly mode?: Mode }>(
  given: O,
  prefix: string,
): { readonly mode: Mode; readonly rest: Omit<O, "mode"> } {
  const options = readOptions(prefix, given);
  const { mode = "enforce", ...rest } = options;
  return { mode: oneOf(`${prefix}.mode`, mode, modes), rest };
}
