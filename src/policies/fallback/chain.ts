import { type CancelTask, type Clock, expireAt } from "../../core/clock.js";
import type { Reason } from "../../core/decision.js";
import { durationMs, InvalidOptionError, wholeNumber } from "../../core/options.js";
import { type Permit, permit } from "../../core/permit.js";
import type { StatusOrigin } from "../../core/status.js";

/** What a provider said. `none`: it has no answer to this call. */
export type FallbackReply<A> =
  | { readonly kind: "answer"; readonly answer: A }
  | { readonly kind: "none" }
  | { readonly kind: "error"; readonly error: unknown };

/** Numbers of one provider. All but `running` only grow. */
export interface FallbackProviderSnapshot {
  /** Calls that it works for, streams that it still gives included. */
  readonly running: number;
  readonly answered: number;
  /** It had no answer. */
  readonly none: number;
  /** It threw, or its promise was rejected. */
  readonly failed: number;
  /** It took longer than it may. */
  readonly timedOut: number;
  /** It worked for as many calls as it may already, and was passed over. */
  readonly busy: number;
  /** In `observe`: it would have been asked, or would have answered. */
  readonly observed: number;
}

/** The places of one provider, and its numbers. */
export class FallbackSlot {
  readonly limits: ResolvedFallbackLimits;
  readonly counts = { answered: 0, none: 0, failed: 0, timedOut: 0, busy: 0, observed: 0 };
  #running = 0;

  constructor(limits: ResolvedFallbackLimits) {
    this.limits = limits;
  }

  /** A permit to work for one call; `undefined` when it works for as many as it may. */
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

/** A provider, as far as the order of asking goes. */
export interface FallbackCandidate {
  readonly slot: FallbackSlot;
}

/** What goes on around a call that looks for another answer. */
export interface FallbackHost<P extends FallbackCandidate, A> {
  readonly clock: Clock;
  /** When the call's own time is over, `Infinity` for never. */
  readonly deadlineMs: number;
  /** Whether the provider is for this failure. */
  accepts(provider: P): boolean;
  /**
   * Asks a provider, which may take until `dueMs`. What it says counts once, and not after that.
   * @returns What calls it off.
   */
  ask(provider: P, dueMs: number, told: (reply: FallbackReply<A>) => void): () => void;
  /** A provider threw. The next is asked. */
  failed(provider: P, error: unknown): void;
  /** The permit is the host's now: an answer that is given bit by bit is work until its end. */
  answered(answer: A, provider: P, permit: Permit): void;
  /**
   * No provider has an answer. `tried` says what became of each that was for this failure, for a person; it is empty
   * where none was.
   */
  unanswered(tried: string): void;
}

/** One question to one provider. */
interface Question {
  /** Nobody waits for its reply any more. */
  over: boolean;
  callOff: (() => void) | undefined;
  stopTimer: CancelTask | undefined;
  readonly permit: Permit;
}

/**
 * The way of one failed call along the chain of its providers, in their order, until one of them answers. Each is given
 * its own time and never more than the call has left; its permit is settled exactly once, and what it
 * says after its time, or after the call has ended, is dropped.
 */
export class FallbackRun<P extends FallbackCandidate, A> {
  readonly #providers: readonly P[];
  readonly #host: FallbackHost<P, A>;
  readonly #tried: string[] = [];
  #next = 0;
  #question: Question | undefined;
  /** Nobody is asked any more: somebody has answered, nobody could, or the call has ended. */
  #over = false;
  #aborted = false;

  constructor(providers: readonly P[], host: FallbackHost<P, A>) {
    this.#providers = providers;
    this.#host = host;
  }

  /** Asks the first. Tells the host, now or later, and once. */
  start(): void {
    this.#goOn();
  }

  /** The call has ended: the provider at work is called off. */
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
      // A function of the user's, who may end the call in it.
      if (!host.accepts(provider) || this.#over) continue;
      const { limits } = provider.slot;
      const nowMs = host.clock.now();
      const leftMs = host.deadlineMs - nowMs;
      if (!(leftMs > 0)) {
        this.#note(provider, "no time left");
        break;
      }
      const permit = provider.slot.tryEnter();
      if (permit === undefined) this.#note(provider, "busy");
      else if (!this.#ask(provider, permit, nowMs, Math.min(limits.timeoutMs, leftMs))) return;
    }
    if (this.#over) return;
    this.#over = true;
    host.unanswered(this.#tried.join(", "));
  }

  /** True when the provider has said at once that it has nothing. */
  #ask(provider: P, permit: Permit, nowMs: number, limitMs: number): boolean {
    const host = this.#host;
    const question: Question = { over: false, callOff: undefined, stopTimer: undefined, permit };
    this.#question = question;
    let atOnce = true;
    const dueMs = nowMs + limitMs;
    const callOff = host.ask(provider, dueMs, (reply) => {
      if (question.over) return;
      if (reply.kind === "answer") {
        this.#over = true;
        this.#close(question, false);
        provider.slot.counts.answered += 1;
        host.answered(reply.answer, provider, permit);
        return;
      }
      this.#close(question, false);
      permit.settle("failure");
      // A provider knows the time as well, and may be the first to say that it is over.
      if (reply.kind === "error" && host.clock.now() >= dueMs) this.#timedOut(provider, limitMs);
      else this.#count(provider, reply);
      if (!atOnce) this.#goOn();
    });
    atOnce = false;
    if (question.over) {
      // The call ended while the provider was being asked: it has started all the same.
      if (this.#aborted) callOff();
      return !this.#over;
    }
    question.callOff = callOff;
    question.stopTimer = expireAt(host.clock, dueMs, limitMs, () => {
      this.#close(question, true);
      this.#timedOut(provider, limitMs);
      this.#goOn();
    });
    return false;
  }

  #timedOut(provider: P, limitMs: number): void {
    provider.slot.counts.timedOut += 1;
    this.#note(provider, `no answer within ${Math.round(limitMs)} ms`);
  }

  #close(question: Question, ownCancel: boolean): void {
    if (question.over) return;
    question.over = true;
    question.stopTimer?.();
    this.#question = undefined;
    if (!ownCancel) return;
    question.permit.settle("ignored");
    question.callOff?.();
  }

  #count(provider: P, reply: Exclude<FallbackReply<A>, { readonly kind: "answer" }>): void {
    if (reply.kind === "none") {
      provider.slot.counts.none += 1;
      this.#note(provider, "nothing");
      return;
    }
    provider.slot.counts.failed += 1;
    this.#note(provider, "failed");
    this.#host.failed(provider, reply.error);
  }

  #note({ slot }: P, what: string): void {
    this.#tried.push(`${slot.limits.name}: ${what}`);
  }
}

/** What every provider of fallback answers can be told. */
export interface FallbackLimits {
  /**
   * What it is called in marks, decisions and numbers: letters, digits, `.`, `_` and `-`, at most 64. Two providers of
   * one chain need two names. @defaultValue the name of its kind
   */
  readonly name?: string;
  /** Calls of one policy that it may work for at once, at least 1. @defaultValue 10, as in Hystrix */
  readonly maxConcurrent?: number;
}

/** The limits of a provider, checked. */
export interface ResolvedFallbackLimits {
  readonly name: string;
  /** How long it may take for one call, and what it counts for in the reserve. */
  readonly timeoutMs: number;
  readonly maxConcurrent: number;
}

/** What names something that degrades an answer. */
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

/** How much of a call's time is kept for its fallback, at most: the call itself comes first. */
const largestShare = { asked: 1 / 2, byDefault: 1 / 4 } as const;

/**
 * How much earlier than its deadline a call must be answered, so that a fallback can still answer for it.
 *
 * @param reserveMs What the user asked for; else the time that the providers may take altogether.
 * @param availableMs The time the call has; without a deadline nothing is kept.
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
 * Whether another answer helps against a failure, unless the user says otherwise: where the service could not do its
 * part. Not where the caller asked for something that it cannot have, nor where this process could not send
 * or read a message: hiding that would hide a mistake.
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
