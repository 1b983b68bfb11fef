import { Breaker, type BreakerSnapshot } from "../core/breaker.js";
import { resolveBreakerOptions } from "../core/breaker-options.js";
import { Bulkhead, type BulkheadSnapshot, resolveBulkheadOptions } from "../core/bulkhead.js";
import type { Clock } from "../core/clock.js";
import { Keyed } from "../core/keyed.js";
import { type Mode, modes } from "../core/mode.js";
import { type ReportError, safely } from "../core/notify.js";
import { knownKeys, oneOf, optionalFunction } from "../core/options.js";
import type { Outcome } from "../core/permit.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import { rejectionOf } from "../grpc/rejection.js";
import type { GuardBreakerOptions, GuardBulkheadOptions } from "./guard-options.js";
import { isAbort } from "./guard-signal.js";

/** What the policies of one guard have in common. */
export interface GuardScope {
  /** The guard's name. */
  readonly name: string;
  readonly clock: Clock;
  readonly report: ReportError;
}

/** State for runs without a key, at hand, and state by key for the others. */
abstract class KeyedPolicy<S extends object> implements ControlledPolicy {
  mode: Mode;
  readonly #name: string;
  readonly #unkeyed: S;
  readonly #keyed: Keyed<S>;

  constructor(mode: Mode, name: string, make: () => S) {
    this.mode = mode;
    this.#name = name;
    this.#unkeyed = make();
    this.#keyed = new Keyed(make);
  }

  of(key: string | undefined): S {
    return key === undefined ? this.#unkeyed : this.#keyed.get(key);
  }

  abstract snapshot(): unknown;

  protected *states(): Iterable<[string, S]> {
    yield [this.#name, this.#unkeyed];
    for (const [key, state] of this.#keyed.entries()) yield [`${this.#name} ${key}`, state];
  }
}

export class GuardBulkhead extends KeyedPolicy<Bulkhead> {
  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(options: GuardBulkheadOptions, scope: GuardScope, prefix: string) {
    const { mode, rest } = takeMode(options, prefix);
    const resolved = resolveBulkheadOptions(rest, prefix, ["mode"]);
    super(mode, scope.name, () => new Bulkhead(resolved, scope.clock, scope.report));
  }

  override snapshot(): Readonly<Record<string, BulkheadSnapshot>> {
    return snapshots(this.states());
  }
}

export class GuardBreaker extends KeyedPolicy<Breaker> {
  readonly #countError: GuardBreakerOptions["countError"];
  readonly #report: ReportError;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(options: GuardBreakerOptions, scope: GuardScope, prefix: string) {
    const { mode, rest } = takeMode(options, prefix);
    const { countError, ...own } = rest;
    optionalFunction(`${prefix}.countError`, countError);
    const resolved = resolveBreakerOptions(own, prefix, ["mode", "countError"]);
    super(mode, scope.name, () => new Breaker(resolved, scope.clock, undefined, scope.report));
    this.#countError = countError;
    this.#report = scope.report;
  }

  /** How an attempt counts that failed with this error. */
  outcomeOf(error: unknown): Outcome {
    if (this.#countError === undefined) {
      // Whoever called it off, and what a policy of this process refused below, says nothing of the dependency.
      return isAbort(error) || refusedHere(error) ? "ignored" : "failure";
    }
    try {
      return this.#countError(error) ? "failure" : "success";
    } catch (thrown) {
      safely(this.#report, thrown, "guard.breaker.countError");
      return "failure";
    }
  }

  override snapshot(): Readonly<Record<string, BreakerSnapshot>> {
    return snapshots(this.states());
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
  options: O,
  prefix: string,
): { readonly mode: Mode; readonly rest: Omit<O, "mode"> } {
  knownKeys(prefix, options, Object.keys(options ?? {}));
  const { mode = "enforce", ...rest } = options;
  return { mode: oneOf(`${prefix}.mode`, mode, modes), rest };
}

function snapshots<T>(states: Iterable<[string, { snapshot(): T }]>): Readonly<Record<string, T>> {
  return Object.fromEntries([...states].map(([key, state]) => [key, state.snapshot()]));
}
