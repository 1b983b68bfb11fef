import { connectivityState, type Interceptor } from "@grpc/grpc-js";
import type { Breaker, BreakerCall } from "../core/breaker.js";
import { type BreakerOptions, resolveBreakerOptions } from "../core/breaker-options.js";
import type { BreakerRefusal } from "../core/breaker-refusal.js";
import { BreakerSet, type BreakerStateChange } from "../core/breaker-set.js";
import type { Gate } from "../core/gates.js";
import { type Mode, modes } from "../core/mode.js";
import { oneOf, optionalFunction, readOptions, wholeNumber } from "../core/options.js";
import type { Permit } from "../core/permit.js";
import { isRefusal } from "../core/refusal.js";
import type { Observer } from "../core/user-code.js";
import type { CallRecord } from "../grpc/call-record.js";
import type { ClientPassage } from "../grpc/gated-call.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { type JudgeOutcome, OutcomeJudge } from "./breaker-outcome.js";
import { type CallKey, callKeys, keyBy } from "./call-key.js";
import { gatesInterceptor } from "./gates.js";
import {
  type KeyedCall,
  keyFunction,
  type PolicyOptions,
  type StandaloneOptions,
  takeStandalone,
} from "./policy-options.js";

/**
 * What shares a breaker: all calls to a target, those to one service of a target, or those of one method of a
 * target. Or a function that names the breaker of a call; it runs for each attempt, so it should be cheap.
 */
export type BreakerKey = CallKey | ((call: KeyedCall) => string);

/** A breaker in front of the calls of a client. */
export interface BreakerPolicyOptions extends BreakerOptions, Pick<PolicyOptions, "mode"> {
  /** Which calls share a breaker. @defaultValue `service` */
  readonly key?: BreakerKey;
  /** Breakers are kept for so many keys, those used last. 1 to 100_000. @defaultValue 1_000 */
  readonly maxKeys?: number;
  /**
   * Says how an ended attempt counts, where the toolkit's own reading does not fit. What it throws is reported,
   * and the toolkit's reading holds. @defaultValue the toolkit's reading
   */
  readonly outcome?: JudgeOutcome;
  /** Told of each change of state, after it happened. What it throws is reported. */
  readonly onStateChange?: Observer<BreakerStateChange>;
}

const ownNames: readonly string[] = ["mode", "key", "maxKeys", "outcome", "onStateChange"];

/** What a call tells its breaker, said once for each kind of call. */
const unary: BreakerCall = { timed: true, critical: false };
const streamed: BreakerCall = { timed: false, critical: false };
const criticalUnary: BreakerCall = { timed: true, critical: true };
const criticalStreamed: BreakerCall = { timed: false, critical: true };

/**
 * Breakers by key: by target and service, unless the user names another key. A breaker has two gates:
 * `check` stands before the bulkhead, so that a call that would be refused does not wait; `admit` after
 * it, so that waiting is neither slowness nor an expired probe.
 */
export class BreakerPolicy extends BreakerSet {
  readonly #keyOf: (record: CallRecord) => string;
  readonly #judge: OutcomeJudge;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: BreakerPolicyOptions, surroundings: Surroundings, prefix: string) {
    // Refuses what is no object of options; which keys are known is for the breaker itself to say.
    const options = readOptions(prefix, given);
    const { mode = "enforce", key = "service", maxKeys = 1_000, ...others } = options;
    const { outcome, onStateChange, ...rest } = others;
    const { clock, random, report } = surroundings;
    const most = wholeNumber(`${prefix}.maxKeys`, maxKeys, 1, 100_000);
    super(resolveBreakerOptions(rest, prefix, ownNames), {
      mode: oneOf(`${prefix}.mode`, mode, modes),
      maxKeys: most,
      clock,
      random,
      report,
      onStateChange: optionalFunction(`${prefix}.onStateChange`, onStateChange),
    });
    this.#keyOf =
      typeof key === "function"
        ? keyFunction({ key }, keyBy("service"), report, "breaker.key")
        : keyBy(oneOf(`${prefix}.key`, key, callKeys));
    this.#judge = new OutcomeJudge({
      outcome: optionalFunction(`${prefix}.outcome`, outcome),
      maxKeys: most,
      clock,
      report,
    });
  }

  modeFor(record: CallRecord): Mode {
    return this.overridden ? this.modeOf(this.#keyOf(record)) : this.mode;
  }

  check(record: CallRecord): BreakerRefusal | undefined {
    const breaker = this.for(this.#keyOf(record));
    const refused = breaker.check();
    return refused !== undefined && tellConnectivity(breaker, record) ? breaker.check() : refused;
  }

  admit(passage: ClientPassage): Permit | BreakerRefusal {
    const { record } = passage;
    const key = this.#keyOf(record);
    const breaker = this.for(key);
    const call = saysOfItself(record);
    let admission = breaker.acquire(call);
    if (isRefusal(admission) && tellConnectivity(breaker, record))
      admission = breaker.acquire(call);
    return isRefusal(admission) ? admission : this.#judge.permit(admission, passage, key);
  }
}

/**
 * Tells a breaker that refuses a call how the call's channel is connected. True when that has ended its rest. The
 * channel is looked at only then: nothing has to watch it while all goes well, and no call, no probe.
 */
function tellConnectivity(breaker: Breaker, { connection }: CallRecord): boolean {
  const state = connection?.state;
  if (state === undefined || breaker.state !== "open") return false;
  breaker.connectivity(state === connectivityState.READY);
  return breaker.state !== "open";
}

function saysOfItself({ kind, priority }: CallRecord): BreakerCall {
  if (priority === "critical") return kind === "unary" ? criticalUnary : criticalStreamed;
  return kind === "unary" ? unary : streamed;
}

/** Which breaker policy stands for a method; `undefined` for none. */
export type SelectBreaker = (method: string) => BreakerPolicy | undefined;

/** The cheap question before the queue. It takes no place, so it has nothing to settle. */
export function breakerCheck(select: SelectBreaker): Gate<ClientPassage> {
  return {
    policy: "breaker",
    // An observed breaker is asked once, where it admits, so that it is counted once.
    modeFor: ({ record }) =>
      select(record.method)?.modeFor(record) === "enforce" ? "enforce" : "off",
    enter: ({ record }) => select(record.method)?.check(record),
  };
}

export function breakerAdmit(select: SelectBreaker): Gate<ClientPassage> {
  return {
    policy: "breaker",
    modeFor: ({ record }) => select(record.method)?.modeFor(record) ?? "off",
    enter: (passage) => select(passage.record.method)?.admit(passage),
  };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function breakerPolicy(
  options: BreakerPolicyOptions,
  surroundings: Surroundings,
  prefix: string,
): BreakerPolicy {
  return new BreakerPolicy(options, surroundings, prefix);
}

/**
 * A circuit breaker for each target and service, as an interceptor of its own.
 *
 * While it is open, attempts end at once with UNAVAILABLE (reason `BREAKER_OPEN`, `BREAKER_PROBING` when all
 * probes are out, or `BREAKER_RAMPING` when it has just closed) and RetryInfo that says when to ask again. Put it
 * below `retry`, so that it sees attempts.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function breaker(options: BreakerPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { surroundings, rest } = takeStandalone(options, "breaker");
  const policy = new BreakerPolicy(rest, surroundings, "breaker");
  return gatesInterceptor(surroundings, [breakerAdmit(() => policy)]);
}
