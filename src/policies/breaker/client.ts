import { connectivityState, type Interceptor, status as Status } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.js";
import { type Mode, modes } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { Keyed } from "../../core/keyed.js";
import { oneOf, optionalFunction, readOptions, wholeNumber } from "../../core/options.js";
import {
  type Ending,
  isRefusal,
  OncePermit,
  type Outcome,
  type Permit,
} from "../../core/permit.js";
import { LatencyQuantile } from "../../core/stats/latency-quantile.js";
import type { StatusOrigin } from "../../core/status.js";
import { ask, type Observer, type ReportError } from "../../core/user-code.js";
import type { ClientPassage } from "../../grpc/client/attempt.js";
import { keepMetadata } from "../../grpc/client/kept-metadata.js";
import { interceptorOf } from "../../grpc/client/parts.js";
import {
  type CallKey,
  callKeys,
  gatesPart,
  type KeyedCall,
  keyBy,
  keyFunction,
  type PolicyOptions,
  type StandaloneOptions,
  takeStandalone,
} from "../../grpc/client/policy.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import { isAddress } from "../../grpc/status/origin.js";
import type { Rejection } from "../../grpc/status/rejection.js";
import type { Breaker, BreakerCall, BreakerPermit, BreakerRefusal } from "./breaker.js";
import { BreakerSet, type BreakerStateChange } from "./breakers.js";
import { type BreakerOptions, resolveBreakerOptions } from "./options.js";

/**
 * Which calls share a breaker: all calls to a target, to one service of a target, or to one method of a target. Or a
 * function that returns the key of a call's breaker. It runs for each attempt, so it should be cheap.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export type BreakerKey = CallKey | ((call: KeyedCall) => string);

/**
 * Breakers in front of the attempts of a client.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export interface BreakerPolicyOptions extends BreakerOptions, Pick<PolicyOptions, "mode"> {
  /** Which calls share a breaker. @defaultValue `service` */
  readonly key?: BreakerKey;
  /** How many keys have a breaker at once; those used longest ago are dropped. 1 to 100_000. @defaultValue 1_000 */
  readonly maxKeys?: number;
  /**
   * Decides how an ended attempt counts, where the toolkit's own judgement does not fit. If it throws, that is reported
   * and the toolkit's judgement holds. @defaultValue the toolkit's judgement
   */
  readonly outcome?: JudgeOutcome;
  /** Called after each change of state. What it throws is reported. */
  readonly onStateChange?: Observer<BreakerStateChange>;
}

/**
 * An ended attempt, for an `outcome` function.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export interface EndedAttempt {
  readonly call: KeyedCall;
  readonly code: Status;
  /** Where the status came from. `remote` for OK. */
  readonly origin: StatusOrigin;
  readonly details: string;
  /** From the permit of the breaker to the end, in milliseconds. */
  readonly durationMs: number;
  /** The refusal behind the status, if a policy of this process or of a server with the toolkit refused the attempt. */
  readonly rejection: Rejection | undefined;
}

/** Decides how an attempt counts. `undefined` leaves it to the toolkit. */
type JudgeOutcome = (ended: EndedAttempt) => Outcome | undefined;

const ownNames: readonly string[] = ["mode", "key", "maxKeys", "outcome", "onStateChange"];

/** What a breaker needs to know of a call: one object for each kind, so that no call allocates one. */
const unary: BreakerCall = { timed: true, critical: false };
const streamed: BreakerCall = { timed: false, critical: false };
const criticalUnary: BreakerCall = { timed: true, critical: true };
const criticalStreamed: BreakerCall = { timed: false, critical: true };

/**
 * The breakers of a client by key: target and service, unless `key` says otherwise. A breaker has two gates. `check` comes
 * before the bulkhead, so that a call that would be refused does not queue. `admit` comes after it, so that the
 * time in the queue neither counts as slow nor expires a probe.
 */
class BreakerPolicy extends BreakerSet {
  #keyOf: (record: CallRecord) => string;
  readonly #judge: OutcomeJudge;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: BreakerPolicyOptions, environment: Environment, prefix: string) {
    // Refuses what is no object of options. Unknown names are refused by `resolveBreakerOptions`.
    const options = readOptions(prefix, given);
    const { mode = "enforce", key = "service", maxKeys = 1_000, ...others } = options;
    const { outcome, onStateChange, ...rest } = others;
    const { clock, random, report } = environment;
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

  override reconfigure(fresh: BreakerPolicy): void {
    super.reconfigure(fresh);
    this.#keyOf = fresh.#keyOf;
    this.#judge.reconfigure(fresh.#judge);
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
    const call = callOf(record);
    let admission = breaker.acquire(call, passage.nowMs);
    if (isRefusal(admission) && tellConnectivity(breaker, record))
      admission = breaker.acquire(call, passage.nowMs);
    return isRefusal(admission) ? admission : this.#judge.permit(admission, passage, key);
  }
}

/**
 * Tells a breaker that refuses a call whether the call's channel is connected. True when that has ended the open period.
 * The channel is asked only then, so that nothing has to watch it: without a call there is no probe either.
 */
function tellConnectivity(breaker: Breaker, { connection }: CallRecord): boolean {
  const state = connection?.state;
  return state !== undefined && breaker.connectivity(state === connectivityState.READY);
}

function callOf({ kind, priority }: CallRecord): BreakerCall {
  if (priority === "critical") return kind === "unary" ? criticalUnary : criticalStreamed;
  return kind === "unary" ? unary : streamed;
}

/** The gate before the queue. It takes nothing, so that it has nothing to settle. */
export function breakerCheck(policy: BreakerPolicy): Gate<ClientPassage> {
  return {
    policy: "breaker",
    // While it observes, a breaker is asked by the second gate alone, so that a refusal counts once.
    modeFor: ({ record }) => (policy.modeFor(record) === "enforce" ? "enforce" : "off"),
    enter: ({ record }) => policy.check(record),
  };
}

/** The gate after the queue. */
export function breakerAdmit(policy: BreakerPolicy): Gate<ClientPassage> {
  return {
    policy: "breaker",
    modeFor: ({ record }) => policy.modeFor(record),
    enter: (passage) => policy.admit(passage),
  };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function breakerPolicy(
  options: BreakerPolicyOptions,
  environment: Environment,
  prefix: string,
): BreakerPolicy {
  return new BreakerPolicy(options, environment, prefix);
}

/**
 * A circuit breaker for each target and service, as an interceptor of its own.
 *
 * While it is open, attempts end at once with UNAVAILABLE (reason `BREAKER_OPEN`, `BREAKER_PROBING` when all
 * probes are running, or `BREAKER_RAMPING` when it has just closed) and RetryInfo that says when to ask again. Put it
 * below `retry`, so that it sees attempts.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export function breaker(options: BreakerPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { environment, rest } = takeStandalone(options, "breaker");
  const policy = new BreakerPolicy(rest, environment, "breaker");
  return interceptorOf(environment, gatesPart([breakerAdmit(policy)]));
}

const outcomes = ["success", "failure", "ignored"] as const satisfies readonly Outcome[];

function outcomeOf(answer: unknown): Outcome | undefined {
  if (answer === undefined) return undefined;
  const known = outcomes.find((outcome) => outcome === answer);
  if (known !== undefined) return known;
  throw new TypeError(`breaker.outcome must answer one of ${outcomes.join(", ")}, or undefined`);
}

/** The usual time of a successful call is the median of this window. A median needs few samples. */
const usual = { windowMs: 300_000, minSamples: 20 } as const;

/**
 * Services above a server keep a margin of the deadline they pass on. A DEADLINE_EXCEEDED of a server is taken for the
 * call's own deadline when at most this share of its time was left, or at most these milliseconds.
 */
const keptShare = 0.1;
const keptMs = 50;

interface JudgeParts {
  readonly outcome: JudgeOutcome | undefined;
  readonly maxKeys: number;
  readonly clock: Clock;
  readonly report: ReportError;
}

/**
 * Decides how attempts count where the status alone does not tell: by the user's `outcome`, and for deadlines that were too
 * short from the start. If an attempt had less time than half of the successful calls of its method take, its
 * DEADLINE_EXCEEDED says nothing about the server and is ignored. Until that time is known, all deadlines of callers are
 * ignored: a cold client cannot tell an impatient caller from a server that hangs.
 */
class OutcomeJudge {
  #parts: JudgeParts;
  readonly #usual: Keyed<LatencyQuantile>;
  /** The last reading of the clock. The quantiles use it too, so that each call reads the clock once. */
  #nowMs = 0;
  /** The last lookup: most calls are to the same method as the one before. */
  #last: UsualOf | undefined;
  #lastPeer = { address: "", peer: undefined as string | undefined };

  constructor(parts: JudgeParts) {
    this.#parts = parts;
    const clock = { now: () => this.#nowMs };
    this.#usual = new Keyed(() => new LatencyQuantile(usual, clock), parts.maxKeys);
  }

  reconfigure(fresh: OutcomeJudge): void {
    this.#parts = fresh.#parts;
    this.#usual.resize(fresh.#parts.maxKeys);
  }

  /** The permit of an attempt. It asks the judge before it settles the breaker's own. */
  permit(inner: BreakerPermit, passage: ClientPassage, key: string): Permit {
    const { record } = passage;
    // The user's function sees the metadata when the attempt has ended; the caller may have changed its object by then.
    if (this.#parts.outcome !== undefined) record.metadata = keepMetadata(record.metadata);
    // Retries and hedges use the usual time too.
    record.usual = this.#usualOf(key, record.method);
    return new JudgedPermit(this, inner, passage, key, passage.nowMs);
  }

  /** @param delivered It is a stream that had a message: its time has been recorded then. */
  judge(
    passage: ClientPassage,
    key: string,
    sinceMs: number,
    outcome: Outcome,
    delivered: boolean,
  ): Outcome {
    const { outcome: ask } = this.#parts;
    if (ask === undefined && outcome === "ignored") return outcome;
    this.#nowMs = passage.nowMs;
    const durationMs = this.#nowMs - sinceMs;
    const chosen = ask && this.#ask(ask, passage, outcome, durationMs);
    const counts = chosen ?? (this.#tooShort(passage, key, sinceMs, outcome) ? "ignored" : outcome);
    if (counts === "success" && !delivered) {
      this.#usualOf(key, passage.record.method).record(durationMs);
    }
    return counts;
  }

  /**
   * A stream has had its first message. True when that makes it a success. With `outcome`, the user decides at the
   * end.
   */
  delivered({ record }: ClientPassage, key: string, sinceMs: number): boolean {
    this.#nowMs = this.#parts.clock.now();
    // How long the rest of the stream takes depends on the application.
    this.#usualOf(key, record.method).record(this.#nowMs - sinceMs);
    return this.#parts.outcome === undefined;
  }

  /** The address of the server that an attempt went to, if the balancer had chosen one. */
  peerOf(passage: ClientPassage): string | undefined {
    const address = passage.getPeer();
    const last = this.#lastPeer;
    if (last.address !== address)
      this.#lastPeer = {
        address,
        peer: isAddress(address, passage.record.target) ? address : undefined,
      };
    return this.#lastPeer.peer;
  }

  #usualOf(key: string, method: string): LatencyQuantile {
    const last = this.#last;
    if (last?.key === key && last.method === method) return last.usual;
    const usual = this.#usual.get(`${key} ${method}`);
    this.#last = { key, method, usual };
    return usual;
  }

  #tooShort(
    { attempt, record }: ClientPassage,
    key: string,
    sinceMs: number,
    outcome: Outcome,
  ): boolean {
    const { failure } = attempt;
    if (outcome !== "failure" || failure?.code !== Status.DEADLINE_EXCEEDED) return false;
    // Both sides know the deadline, and the server may be the first to end the call by it.
    if (failure.origin !== "deadline" && failure.origin !== "remote") return false;
    const hadMs = record.deadlineMs - sinceMs;
    const usualMs = this.#usualOf(key, record.method).quantile(0.5);
    if (usualMs !== undefined) return hadMs < usualMs;
    return record.deadlineMs - this.#nowMs <= Math.max(keptMs, keptShare * hadMs);
  }

  #ask(
    judge: JudgeOutcome,
    { attempt, record }: ClientPassage,
    outcome: Outcome,
    durationMs: number,
  ): Outcome | undefined {
    const { failure } = attempt;
    // It was not sent.
    if (failure === undefined && outcome !== "success") return undefined;
    const { report } = this.#parts;
    const ended = {
      call: record,
      code: failure?.status.code ?? Status.OK,
      origin: failure?.origin ?? "remote",
      details: failure?.status.details ?? "",
      durationMs,
      rejection: failure?.rejection,
    };
    return ask(() => judge(ended), outcomeOf, undefined, report, "breaker.outcome");
  }
}

class JudgedPermit extends OncePermit {
  readonly #judge: OutcomeJudge;
  readonly #passage: ClientPassage;
  readonly #key: string;
  readonly #sinceMs: number;
  readonly #inner: BreakerPermit;
  #delivered = false;

  constructor(
    judge: OutcomeJudge,
    inner: BreakerPermit,
    passage: ClientPassage,
    key: string,
    sinceMs: number,
  ) {
    super();
    this.#judge = judge;
    this.#inner = inner;
    this.#passage = passage;
    this.#key = key;
    this.#sinceMs = sinceMs;
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    const judge = this.#judge;
    const delivered = this.#delivered;
    const counts = judge.judge(this.#passage, this.#key, this.#sinceMs, outcome, delivered);
    const peer = counts === "ignored" ? undefined : judge.peerOf(this.#passage);
    this.#inner.settle(counts, ending, peer, this.#passage.nowMs);
  }

  delivered(): void {
    const judge = this.#judge;
    this.#delivered = true;
    if (this.over || !judge.delivered(this.#passage, this.#key, this.#sinceMs)) return;
    this.over = true;
    this.#inner.delivered(judge.peerOf(this.#passage));
  }
}

interface UsualOf {
  readonly key: string;
  readonly method: string;
  readonly usual: LatencyQuantile;
}
