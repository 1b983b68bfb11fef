import { status as Status } from "@grpc/grpc-js";
import type { Clock } from "../core/clock.js";
import { Keyed } from "../core/keyed.js";
import type { StatusOrigin } from "../core/origin.js";
import type { Ending, Outcome, Permit } from "../core/permit.js";
import { LatencyQuantile } from "../core/quantile.js";
import { ask, type ReportError } from "../core/user-code.js";
import type { ClientPassage } from "../grpc/gated-call.js";
import { keepMetadata } from "../grpc/kept-metadata.js";
import { type Rejection, rejectionOf } from "../grpc/rejection.js";
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

/** How far back the usual time of a success is learned from. */
const usualWindowMs = 300_000;

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
 * half of the successes take, an attempt that runs out of it says nothing of the server.
 */
export class OutcomeJudge {
  readonly #parts: JudgeParts;
  readonly #usual: Keyed<LatencyQuantile>;
  /** The last reading of the clock, which serves the quantiles too. */
  #nowMs = 0;

  constructor(parts: JudgeParts) {
    this.#parts = parts;
    const clock = { now: () => this.#nowMs };
    this.#usual = new Keyed(
      () => new LatencyQuantile({ windowMs: usualWindowMs }, clock),
      parts.maxKeys,
    );
  }

  /** The permit of an attempt, which asks the judge before it is settled. */
  permit(inner: Permit, passage: ClientPassage, key: string): Permit {
    const { record } = passage;
    // The user's function is told of it later, when the caller may have changed its object.
    if (this.#parts.outcome !== undefined) record.metadata = keepMetadata(record.metadata);
    return new JudgedPermit(this, inner, passage, key, this.#parts.clock.now());
  }

  judge(passage: ClientPassage, key: string, sinceMs: number, outcome: Outcome): Outcome {
    const { clock, outcome: ask } = this.#parts;
    if (ask === undefined && outcome === "ignored") return outcome;
    this.#nowMs = clock.now();
    const durationMs = this.#nowMs - sinceMs;
    const told = ask && this.#ask(ask, passage, outcome, durationMs);
    const counts = told ?? (this.#tooShort(passage, key, sinceMs, outcome) ? "ignored" : outcome);
    // A stream takes as long as the application wants.
    if (counts === "success" && passage.record.kind === "unary") {
      this.#usual.get(key).record(durationMs);
    }
    return counts;
  }

  #tooShort(
    { attempt, record }: ClientPassage,
    key: string,
    sinceMs: number,
    outcome: Outcome,
  ): boolean {
    if (outcome !== "failure" || attempt.status?.code !== Status.DEADLINE_EXCEEDED) return false;
    // Both sides know the deadline, and the server may be the first to say that it has passed.
    if (attempt.origin !== "deadline" && attempt.origin !== "remote") return false;
    const usualMs = this.#usual.get(key).quantile(0.5);
    return usualMs !== undefined && record.deadlineMs - sinceMs < usualMs;
  }

  #ask(
    judge: JudgeOutcome,
    { attempt, record }: ClientPassage,
    outcome: Outcome,
    durationMs: number,
  ): Outcome | undefined {
    const { status } = attempt;
    // It has never been on its way.
    if (status === undefined && outcome !== "success") return undefined;
    const { report } = this.#parts;
    const ended = {
      call: record,
      code: status?.code ?? Status.OK,
      origin: attempt.origin ?? "remote",
      details: status?.details ?? "",
      durationMs,
      rejection: rejectionOf(status),
    };
    return ask(() => judge(ended), outcomeOf, undefined, report, "breaker.outcome");
  }
}

class JudgedPermit implements Permit {
  readonly #judge: OutcomeJudge;
  readonly #passage: ClientPassage;
  readonly #key: string;
  readonly #sinceMs: number;
  #inner: Permit | undefined;

  constructor(
    judge: OutcomeJudge,
    inner: Permit,
    passage: ClientPassage,
    key: string,
    sinceMs: number,
  ) {
    this.#judge = judge;
    this.#inner = inner;
    this.#passage = passage;
    this.#key = key;
    this.#sinceMs = sinceMs;
  }

  settle(outcome: Outcome, ending?: Ending): void {
    const inner = this.#inner;
    if (inner === undefined) return;
    this.#inner = undefined;
    inner.settle(this.#judge.judge(this.#passage, this.#key, this.#sinceMs, outcome), ending);
  }
}
