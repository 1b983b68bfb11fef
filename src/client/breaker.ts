import type { Interceptor } from "@grpc/grpc-js";
import { Breaker, type BreakerSnapshot } from "../core/breaker.js";
import {
  type BreakerOptions,
  type ResolvedBreakerOptions,
  resolveBreakerOptions,
} from "../core/breaker-options.js";
import type { Gate } from "../core/gates.js";
import { Keyed } from "../core/keyed.js";
import type { Mode } from "../core/mode.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import type { CallRecord } from "../grpc/call-record.js";
import type { ClientPassage } from "../grpc/gated-call.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { serviceOf } from "../grpc/types.js";
import { gatesInterceptor } from "./gates.js";
import {
  keyFunction,
  type PolicyOptions,
  policyOptionNames,
  type StandaloneOptions,
  splitOptions,
} from "./policy-options.js";

export type BreakerPolicyOptions = BreakerOptions & PolicyOptions;

/**
 * Breakers by key: by target and service, unless the user names another key. A breaker has two gates:
 * `check` stands before the bulkhead, so that a call that would be refused does not wait; `admit` after
 * it, so that waiting is neither slowness nor an expired probe.
 */
export class BreakerPolicy implements ControlledPolicy {
  mode: Mode;
  readonly #breakers: Keyed<Breaker>;
  readonly #keyOf: (record: CallRecord) => string;

  constructor(options: ResolvedBreakerOptions, own: PolicyOptions, surroundings: Surroundings) {
    this.mode = own.mode ?? "enforce";
    const { report } = surroundings;
    // Most calls are like the one before, and making the key anew costs more than the breaker's decision.
    let last = { target: "", method: "", key: "" };
    const byService = ({ target, method }: CallRecord) => {
      if (last.method !== method || last.target !== target) {
        last = { target, method, key: `${target} ${serviceOf(method)}` };
      }
      return last.key;
    };
    this.#keyOf = keyFunction(own, byService, report, "breaker.key");
    this.#breakers = new Keyed(() => new Breaker(options, surroundings.clock, undefined, report));
  }

  of(record: CallRecord): Breaker {
    return this.#breakers.get(this.#keyOf(record));
  }

  snapshot(): Readonly<Record<string, BreakerSnapshot>> {
    const entries = [...this.#breakers.entries()];
    return Object.fromEntries(entries.map(([key, breaker]) => [key, breaker.snapshot()]));
  }
}

/** Which breaker policy stands for a method; `undefined` for none. */
export type SelectBreaker = (method: string) => BreakerPolicy | undefined;

/** The cheap question before the queue. It takes no place, so it has nothing to settle. */
export function breakerCheck(select: SelectBreaker): Gate<ClientPassage> {
  return {
    policy: "breaker",
    // An observed breaker is asked once, where it admits, so that it is counted once.
    modeFor: ({ record }) => (select(record.method)?.mode === "enforce" ? "enforce" : "off"),
    enter: ({ record }) => select(record.method)?.of(record).check(),
  };
}

export function breakerAdmit(select: SelectBreaker): Gate<ClientPassage> {
  return {
    policy: "breaker",
    modeFor: ({ record }) => select(record.method)?.mode ?? "off",
    enter: ({ record }) => select(record.method)?.of(record).acquire(),
  };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function breakerPolicy(
  options: BreakerPolicyOptions,
  surroundings: Surroundings,
  prefix: string,
): BreakerPolicy {
  const { own, rest } = splitOptions(options, prefix);
  const resolved = resolveBreakerOptions(rest, prefix, policyOptionNames);
  return new BreakerPolicy(resolved, own, surroundings);
}

/**
 * A circuit breaker for each target and service, as an interceptor of its own.
 *
 * While it is open, attempts end at once with UNAVAILABLE (reason `BREAKER_OPEN`, or `BREAKER_PROBING` when
 * all probes are out) and RetryInfo that says when to ask again. Put it below `retry`, so that it sees attempts.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function breaker(options: BreakerPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { surroundings } = splitOptions(options, "breaker");
  const policy = breakerPolicy(options, surroundings, "breaker");
  return gatesInterceptor(surroundings, [breakerAdmit(() => policy)]);
}
