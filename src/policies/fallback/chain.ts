import { type CancelTask, type Clock, expireAt } from "../../core/clock.js";
import type { Reason } from "../../core/decision.js";
import { durationMs, InvalidOptionError, wholeNumber } from "../../core/options.js";
import { type Permit, permit } from "../../core/permit.js";
import type { StatusOrigin } from "../../core/status.js";

/** The reply of a provider. `none`: it has no answer to this call. */
export type FallbackReply<A> =
  | { readonly kind: "answer"; readonly answer: A }
  | { readonly kind: "none" }
  | { readonly kind: "error"; readonly error: unknown };

/**
 * Numbers of one provider. All but `running` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface FallbackProviderSnapshot {
  /** Calls that it works for, streamed answers that have not ended included. */
  readonly running: number;
  readonly answered: number;
  /** It had no answer. */
  readonly none: number;
  /** It threw, or its promise was rejected. */
  readonly failed: number;
  /** It took longer than its `timeoutMs`, or than the call had left. */
  readonly timedOut: number;
  /** It was passed over, because it worked for `maxConcurrent` calls. */
  readonly busy: number;
  /** In `observe`: it would have been asked, or would have answered. */
  readonly observed: number;
}

/** How many calls a provider works for, with its limits and its numbers. */
export class ProviderLoad {
  limits: ResolvedFallbackLimits;
  readonly counts = { answered: 0, none: 0, failed: 0, timedOut: 0, busy: 0, observed: 0 };
  #running = 0;

  constructor(limits: ResolvedFallbackLimits) {
    this.limits = limits;
  }

  /** A permit to work for one call; `undefined` while it works for `maxConcurrent`. */
  tryEnter(): Permit | undefined {
    if (this.#running >= this.limits.maxConcurrent) {
      this.counts.busy += 1;
      return undefined;
    }
    this.#running += 1;
    return permit(() => {
      this.#running -= 1;
    });
  }

  snapshot(): FallbackProviderSnapshot {
    return { running: this.#running, ...this.counts };
  }
}

/** What the chain needs to know of a provider. */
export interface FallbackCandidate {
  readonly load: ProviderLoad;
  readonly storeAway?: boolean;
}

/** The call that looks for another answer. */
interface FallbackHost<P extends FallbackCandidate, A> {
  readonly clock: Clock;
  /** The deadline of the call in monotonic milliseconds; `Infinity` for none. */
  readonly deadlineMs: number;
  /** Whether the provider is for this failure. */
  accepts(provider: P): boolean;
  /**
   * Asks a provider, which may take until `dueMs`, in monotonic milliseconds. Only the first reply counts.
   *
   * @returns A function that cancels the question.
   */
  ask(provider: P, dueMs: number, onReply: (reply: FallbackReply<A>) => void): () => void;
  /** A provider threw. The next one is asked. */
  failed(provider: P, error: unknown): void;
  /** A provider has answered. The host settles the permit: a streamed answer holds it until its end. */
  answered(answer: A, provider: P, permit: Permit): void;
  /**
   * No provider has an answer.
   *
   * @param tried For a person: the result of each provider that was for this failure. Empty if none was.
   */
  unanswered(tried: string): void;
}

/** One question to one provider. */
interface Question {
  /** A reply does not count any more. */
  over: boolean;
  cancel: (() => void) | undefined;
  stopTimer: CancelTask | undefined;
  readonly permit: Permit;
}

/**
 * Asks the providers of a failed call one after another, until one answers. Each may take its `timeoutMs`, and never more
 * than the call has left. A reply that comes later, or after the call has ended, is dropped. Each permit is settled
 * exactly once.
 */
export class FallbackRun<P extends FallbackCandidate, A> {
  readonly #providers: readonly P[];
  readonly #host: FallbackHost<P, A>;
  readonly #tried: string[] = [];
  #next = 0;
  #question: Question | undefined;
  /** No further provider is asked: one has answered, or the call has ended. */
  #over = false;
  #aborted = false;

  constructor(providers: readonly P[], host: FallbackHost<P, A>) {
    this.#providers = providers;
    this.#host = host;
  }

  /** Asks the first provider. Calls `answered` or `unanswered` of the host once, now or later. */
  start(): void {
    this.#goOn();
  }

  /** The call has ended. Cancels the question to the provider that works for it. */
  abort(): void {
    if (this.#over) return;
    this.#over = true;
    this.#aborted = true;
    const question = this.#question;
    if (question !== undefined) this.#close(question, true);
  }

  #goOn(): void {
    const host = this.#host;
    while (!this.#over) {
      const provider = this.#providers[this.#next];
      if (provider === undefined) break;
      this.#next += 1;
      // Calls a function of the user's, which may end the call.
      if (!host.accepts(provider) || this.#over) continue;
      const { limits } = provider.load;
      const nowMs = host.clock.now();
      const leftMs = host.deadlineMs - nowMs;
      if (!(leftMs > 0)) {
        this.#note(provider, "no time left");
        break;
      }
      const permit = provider.load.tryEnter();
      if (permit === undefined) this.#note(provider, "busy");
      else if (!this.#ask(provider, permit, nowMs, Math.min(limits.timeoutMs, leftMs))) return;
    }
    if (!this.#over) host.unanswered(this.#tried.join(", "));
  }

  /** True if the provider has replied at once, without an answer. */
  #ask(provider: P, permit: Permit, nowMs: number, limitMs: number): boolean {
    const host = this.#host;
    const question: Question = { over: false, cancel: undefined, stopTimer: undefined, permit };
    this.#question = question;
    let atOnce = true;
    const dueMs = nowMs + limitMs;
    const cancel = host.ask(provider, dueMs, (reply) => {
      if (question.over) return;
      if (reply.kind === "answer") {
        this.#over = true;
        this.#close(question, false);
        provider.load.counts.answered += 1;
        host.answered(reply.answer, provider, permit);
        return;
      }
      this.#close(question, false);
      permit.settle("failure");
      // A provider knows its deadline, and may fail by it before the timer here fires.
      if (reply.kind === "error" && host.clock.now() >= dueMs) this.#timedOut(provider, limitMs);
      else this.#count(provider, reply);
      if (!atOnce) this.#goOn();
    });
    atOnce = false;
    if (question.over) {
      // The call ended while the provider was being asked.
      if (this.#aborted) cancel();
      return !this.#over;
    }
    question.cancel = cancel;
    question.stopTimer = expireAt(host.clock, dueMs, limitMs, () => {
      this.#close(question, true);
      this.#timedOut(provider, limitMs);
      this.#goOn();
    });
    return false;
  }

  #timedOut(provider: P, limitMs: number): void {
    provider.load.counts.timedOut += 1;
    this.#note(provider, `no answer within ${Math.round(limitMs)} ms`);
  }

  /** @param cancel The provider is still at work. */
  #close(question: Question, cancel: boolean): void {
    question.over = true;
    question.stopTimer?.();
    this.#question = undefined;
    if (!cancel) return;
    question.permit.settle("ignored");
    question.cancel?.();
  }

  #count(provider: P, reply: Exclude<FallbackReply<A>, { readonly kind: "answer" }>): void {
    if (reply.kind === "none") {
      provider.load.counts.none += 1;
      this.#note(provider, provider.storeAway === true ? "nothing, the store is away" : "nothing");
      return;
    }
    provider.load.counts.failed += 1;
    this.#note(provider, "failed");
    this.#host.failed(provider, reply.error);
  }

  #note({ load }: P, what: string): void {
    this.#tried.push(`${load.limits.name}: ${what}`);
  }
}

/**
 * Options of every provider.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface FallbackLimits {
  /**
   * The name in marks, decisions and numbers: letters, digits, `.`, `_` and `-`, at most 64. It must be unique in the
   * chain. @defaultValue the name of its kind
   */
  readonly name?: string;
  /** How many calls of one policy it may work for at once, at least 1. @defaultValue 10, as in Hystrix */
  readonly maxConcurrent?: number;
}

/** The limits of a provider, checked. */
export interface ResolvedFallbackLimits {
  readonly name: string;
  /** How long it may take for one call. It counts towards the reserve. */
  readonly timeoutMs: number;
  readonly maxConcurrent: number;
}

/** A name in the mark of a degraded answer. */
export const degradationName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveFallbackLimits(
  options: FallbackLimits & { readonly timeoutMs?: number },
  defaults: { readonly name: string; readonly timeoutMs: number },
  prefix: string,
): ResolvedFallbackLimits {
  const { name = defaults.name, timeoutMs = defaults.timeoutMs, maxConcurrent = 10 } = options;
  if (typeof name !== "string" || !degradationName.test(name)) {
    throw new InvalidOptionError(
      `${prefix}.name`,
      "a name of letters, digits, dots, dashes and underscores, at most 64 of them",
      name,
    );
  }
  return Object.freeze({
    name,
    timeoutMs: durationMs(`${prefix}.timeoutMs`, timeoutMs, 1),
    maxConcurrent: wholeNumber(`${prefix}.maxConcurrent`, maxConcurrent, 1),
  });
}

/** The largest share of a call's time that is kept for its fallback. The call itself comes first. */
const largestShare = { asked: 1 / 2, byDefault: 1 / 4 } as const;

/**
 * The reserve in milliseconds: how much earlier than its deadline a call must be answered, so that a fallback has time.
 *
 * @param reserveMs The user's option. `undefined`: the sum of the timeouts of the providers.
 * @param availableMs The time that the call has left; `Infinity` without a deadline, and then nothing is kept.
 */
export function fallbackReserveMs(
  reserveMs: number | undefined,
  providers: readonly { readonly timeoutMs: number }[],
  availableMs: number,
): number {
  if (!(availableMs > 0) || availableMs === Number.POSITIVE_INFINITY) return 0;
  if (reserveMs !== undefined) return Math.min(reserveMs, availableMs * largestShare.asked);
  const chainMs = providers.reduce((sum, { timeoutMs }) => sum + timeoutMs, 0);
  return Math.min(chainMs, availableMs * largestShare.byDefault);
}

const helpedCodes: ReadonlySet<number> = new Set([
  2, // UNKNOWN
  4, // DEADLINE_EXCEEDED
  8, // RESOURCE_EXHAUSTED
  13, // INTERNAL
  14, // UNAVAILABLE
  15, // DATA_LOSS
]);

/**
 * The default of `when`: whether a fallback answers a failure. It does if the service could not do its work. It does not if
 * the caller asked for something that it cannot have, nor if this process could not send or read a message: that would
 * hide a mistake.
 */
export function fallbackHelps(failed: {
  readonly code: number;
  readonly origin: StatusOrigin;
  readonly reason: Reason | undefined;
}): boolean {
  const { code, origin, reason } = failed;
  if (origin === "caller" || origin === "local-limit" || origin === "local-setup") return false;
  if (reason === "CLOSED") return false;
  return helpedCodes.has(code);
}
