import { status as Status } from "@grpc/grpc-js";
import { type Clock, epochOffsetMs } from "../../core/clock.js";
import { durationMs, readOptions, wholeNumber } from "../../core/options.js";
import { processWide } from "../../core/process-wide.js";
import { notify, type Observer, type ReportError } from "../../core/user-code.js";
import {
  type CallFacts,
  type FinishedCall,
  finishedOf,
  type KnownCall,
  knownCall,
} from "./finished-call.js";

/**
 * How many finished calls a weir keeps, and which it keeps longer.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/explain.md
 */
export interface HistoryOptions {
  /** How many of the latest calls are kept, 0 to 100,000. @defaultValue 100 */
  readonly last?: number;
  /** How many of the latest calls that failed are kept, 0 to 100,000. @defaultValue 100 */
  readonly failed?: number;
  /** How many of the latest slow calls are kept, 0 to 100,000. @defaultValue 100 */
  readonly slow?: number;
  /**
   * From how many milliseconds on a call is slow, 1 ms to 24 days. Only calls with a single request and a single response,
   * and guarded runs, can be slow: a stream takes as long as it is used.
   * @defaultValue five times the median of the successful calls of its method, and at least 100; 1,000 while the median is not
   *   known, as on servers
   */
  readonly slowMs?: number;
}

/**
 * The finished calls that a weir has kept, the latest first.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/explain.md
 */
export interface CallHistory {
  readonly last: readonly FinishedCall[];
  readonly failed: readonly FinishedCall[];
  readonly slow: readonly FinishedCall[];
}

export type ResolvedHistoryOptions = Readonly<
  Required<Omit<HistoryOptions, "slowMs">> & { slowMs: number | undefined }
>;

/** More calls would be a store of its own, and belong into logs. */
const mostKept = 100_000;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveHistoryOptions(
  given: HistoryOptions = {},
  prefix = "history",
): ResolvedHistoryOptions {
  const options = readOptions(prefix, given, ["last", "failed", "slow", "slowMs"]);
  const { last = 100, failed = 100, slow = 100, slowMs } = options;
  return Object.freeze({
    last: wholeNumber(`${prefix}.last`, last, 0, mostKept),
    failed: wholeNumber(`${prefix}.failed`, failed, 0, mostKept),
    slow: wholeNumber(`${prefix}.slow`, slow, 0, mostKept),
    slowMs: slowMs === undefined ? undefined : durationMs(`${prefix}.slowMs`, slowMs, 1),
  });
}

/** What {@link HistoryOptions.slowMs} is by default. */
const slow = { timesUsual: 5, leastMs: 100, unknownMs: 1_000 } as const;

/** The facts of a call that has ended. */
export type EndedFacts = CallFacts & { readonly code: Status };

/**
 * Notified of every call that ends. Keeps the latest ones, of which each costs one object, and tells an observer.
 */
export class History {
  /** No shorter call can be slow, so that nobody need look up what is usual for it. */
  readonly leastSlowMs: number;
  readonly onCall: Observer<FinishedCall> | undefined;
  readonly #slowMs: number | undefined;
  readonly #last: Ring;
  readonly #failed: Ring;
  readonly #slow: Ring;
  readonly #clock: Clock;
  readonly #report: ReportError;

  constructor(
    { last, failed, slow: slowOnes, slowMs }: ResolvedHistoryOptions,
    onCall: Observer<FinishedCall> | undefined,
    clock: Clock,
    report: ReportError,
  ) {
    this.leastSlowMs = slowMs ?? slow.leastMs;
    this.onCall = onCall;
    this.#slowMs = slowMs;
    this.#last = new Ring(last);
    this.#failed = new Ring(failed);
    this.#slow = new Ring(slowOnes);
    this.#clock = clock;
    this.#report = report;
  }

  /**
   * A call has ended.
   *
   * @param usualMs How long such calls usually take, where that is known. Asked for from {@link leastSlowMs} on.
   * @param failure What the user gets of a failure: the metadata of its status, or the error of a guard.
   */
  ended(facts: EndedFacts, usualMs: number | undefined, failure: unknown): void {
    this.#last.add(facts);
    if (facts.code !== Status.OK) {
      this.#failed.add(facts);
      if (typeof failure === "object" && failure !== null) {
        failures.set(failure, knownCall(facts, this.#clock));
      }
    }
    if (this.#isSlow(facts, usualMs)) this.#slow.add(facts);
  }

  /** Tells the observer of a call that has ended. Called in the async context of the call. */
  tell(facts: EndedFacts): void {
    if (this.onCall === undefined) return;
    notify(this.onCall, finishedOf(facts, epochOffsetMs(this.#clock)), this.#report, "onCall");
  }

  snapshot(): CallHistory {
    const offsetMs = epochOffsetMs(this.#clock);
    const finished = (ring: Ring) => ring.entries().map((facts) => finishedOf(facts, offsetMs));
    return {
      last: finished(this.#last),
      failed: finished(this.#failed),
      slow: finished(this.#slow),
    };
  }

  #isSlow({ kind, startedAtMs, endedAtMs }: CallFacts, usualMs: number | undefined): boolean {
    const tookMs = endedAtMs - startedAtMs;
    if (tookMs < this.leastSlowMs || (kind !== undefined && kind !== "unary")) return false;
    if (this.#slowMs !== undefined) return true;
    return tookMs >= (usualMs === undefined ? slow.unknownMs : slow.timesUsual * usualMs);
  }
}

/**
 * The calls of failures, by what the user gets of them: the metadata of a status, which are the same object in the error that
 * grpc-js makes of it, or the error of a guard.
 */
const failures = processWide("failures", () => new WeakMap<object, KnownCall>());

/** The call that this is the failure of: the metadata of its status, or the error of a guard. */
export function callOfFailure(failure: object): KnownCall | undefined {
  return failures.get(failure);
}

/** The latest entries, up to a number of them. */
class Ring {
  readonly #size: number;
  readonly #entries: EndedFacts[] = [];
  /** Where the next entry goes, once the ring is full. */
  #next = 0;

  constructor(size: number) {
    this.#size = size;
  }

  add(entry: EndedFacts): void {
    if (this.#entries.length < this.#size) {
      this.#entries.push(entry);
      return;
    }
    if (this.#size === 0) return;
    this.#entries[this.#next] = entry;
    this.#next = this.#next + 1 === this.#size ? 0 : this.#next + 1;
  }

  /** The latest first. */
  entries(): EndedFacts[] {
    return [...this.#entries.slice(this.#next), ...this.#entries.slice(0, this.#next)].reverse();
  }
}
