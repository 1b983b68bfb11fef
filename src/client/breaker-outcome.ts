import { status as Status } from "@grpc/grpc-js";
import type { BreakerPermit } from "../core/breaker-permit.js";
import type { Clock } from "../core/clock.js";
import { Keyed } from "../core/keyed.js";
import type { StatusOrigin } from "../core/origin.js";
import { type Ending, OncePermit, type Outcome, type Permit } from "../core/permit.js";
import { LatencyQuantile } from "../core/quantile.js";
import { ask, type ReportError } from "../core/user-code.js";
import type { ClientPassage } from "../grpc/gated-call.js";
import { keepMetadata } from "../grpc/kept-metadata.js";
import type { Rejection } from "../grpc/rejection.js";
import { hasScheme } from "../grpc/status-origin.js";
import type { KeyedCall } from "./policy-options.js";

/** An attempt that has ended, as an `outcome` function sees it. */
export interface EndedAttempt {
  readonly call: KeyedCall;
  readonly code: Status;
  /** Where the status came from; `remote` for OK. */
  readonly origin: StatusOrigin;
  readonly details: string;
  /** From the breaker's permission to the end, in milliseconds. */
  readonly durationMs: number;
  /** What the toolkit says about the status, where it was refused here or by a server with the toolkit. */
  readonly rejection: Rejection | undefined;
}

/** How an attempt counts for its breaker; `undefined` leaves it to the breaker. */
export type JudgeOutcome = (ended: EndedAttempt) => Outcome | undefined;

const known = ["success", "failure", "ignored"] as const satisfies readonly Outcome[];

function outcomeOf(answer: unknown): Outcome | undefined {
  if (answer === undefined) return undefined;
  const told = known.find((outcome) => outcome === answer);
  if (told !== undefined) return told;
  throw new TypeError(`breaker.outcome must answer one of ${known.join(", ")}, or undefined`);
}

/** How far back the usual time of a success is learned from, and from how many at least: a median needs few. */
const usual = { windowMs: 300_000, minSamples: 20 } as const;

/**
 * A server and the layers before it keep a little of the time they are given. A deadline that passed elsewhere is the
 * call's own when no more than this share of its time was left, or no more than these milliseconds.
 */
const keptShare = 0.1;
const keptMs = 50;

/** What a judge works with. */
interface JudgeParts {
  readonly outcome: JudgeOutcome | undefined;
  readonly maxKeys: number;
  readonly clock: Clock;
  readonly report: ReportError;
}

/**
 * Says how the attempts of one breaker policy count, where more than their status matters: the user's own
 * word, and deadlines that were too short from the start. Those are the caller's doing: with less time than
 * half of the successes of the method take, an attempt that runs out of it says nothing of the server. While that time
 * is not known, no deadline says anything: a cold client cannot tell an impatient caller from a server that hangs.
 */
export class OutcomeJudge {
  readonly #parts: JudgeParts;
  readonly #usual: Keyed<LatencyQuantile>;
  /** The last reading of the clock, which serves the quantiles too. */
  #nowMs = 0;
  /** Most calls are like the one before. */
  #last: UsualOf | undefined;
  #lastPeer = { told: "", peer: undefined as string | undefined };

  constructor(parts: JudgeParts) {
    this.#parts = parts;
    const clock = { now: () => this.#nowMs };
    this.#usual = new Keyed(() => new LatencyQuantile(usual, clock), parts.maxKeys);
  }

  /** The permit of an attempt, which asks the judge before it is settled. */
  permit(inner: BreakerPermit, passage: ClientPassage, key: string): Permit {
    const { record } = passage;
    // The user's function is told of it later, when the caller may have changed its object.
    if (this.#parts.outcome !== undefined) record.metadata = keepMetadata(record.metadata);
    // Retries and hedges ask as well what such calls take.
    record.usual = this.#usualOf(key, record.method);
    return new JudgedPermit(this, inner, passage, key, this.#parts.clock.now());
  }

  /** @param delivered It is a stream that had a message, and so is known of already. */
  judge(
    passage: ClientPassage,
    key: string,
    sinceMs: number,
    outcome: Outcome,
    delivered: boolean,
  ): Outcome {
    const { clock, outcome: ask } = this.#parts;
    if (ask === undefined && outcome === "ignored") return outcome;
    this.#nowMs = clock.now();
    const durationMs = this.#nowMs - sinceMs;
    const told = ask && this.#ask(ask, passage, outcome, durationMs);
    const counts = told ?? (this.#tooShort(passage, key, sinceMs, outcome) ? "ignored" : outcome);
    if (counts === "success" && !delivered) {
      this.#usualOf(key, passage.record.method).record(durationMs);
    }
    return counts;
  }

  /**
   * A stream has had its first message. True when it counts for a success by that; where the user says how an attempt
   * counts, its end is waited for.
   */
  delivered({ record }: ClientPassage, key: string, sinceMs: number): boolean {
    this.#nowMs = this.#parts.clock.now();
    // What follows takes as long as the application wants.
    this.#usualOf(key, record.method).record(this.#nowMs - sinceMs);
    return this.#parts.outcome === undefined;
  }

  /** The server that an attempt went to, if one was chosen. */
  peerOf(passage: ClientPassage): string | undefined {
    const told = passage.getPeer();
    const last = this.#lastPeer;
    if (last.told !== told) this.#lastPeer = { told, peer: addressOf(told, passage.record.target) };
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
    // Both sides know the deadline, and the server may be the first to say that it has passed.
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
    // It has never been on its way.
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
    this.#inner.settle(counts, ending, peer);
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

/** A target has a scheme, and `unknown` no server yet. */
function addressOf(peer: string, target: string): string | undefined {
  const chosen = peer !== "" && peer !== target && peer !== "unknown" && !hasScheme(peer);
  return chosen ? peer : undefined;
}
