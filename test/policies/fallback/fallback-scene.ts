import type { Permit } from "../../../src/core/permit.js";
import {
  type FallbackCandidate,
  type FallbackReply,
  FallbackRun,
  ProviderLoad,
} from "../../../src/policies/fallback/chain.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";

export interface Asked {
  readonly name: string;
  readonly atMs: number;
  readonly dueMs: number;
  readonly told: (reply: FallbackReply<string>) => void;
  ownCancel: number;
}

export interface Candidate extends FallbackCandidate {
  /** What it says at once, if anything. */
  readonly atOnce?: FallbackReply<string> | undefined;
  readonly accepts?: boolean;
}

export function candidate(
  name: string,
  more: {
    readonly timeoutMs?: number;
    readonly maxConcurrent?: number;
    readonly atOnce?: FallbackReply<string>;
    readonly accepts?: boolean;
  } = {},
): Candidate {
  const { timeoutMs = 100, maxConcurrent = 10, ...rest } = more;
  return { load: new ProviderLoad({ name, timeoutMs, maxConcurrent }), ...rest };
}

/** A failed call that asks candidates, and what came of it. */
export class FallbackScene {
  readonly clock: VirtualClock;
  readonly startMs: number;
  readonly asked: Asked[] = [];
  readonly errors: unknown[] = [];
  readonly answers: { readonly answer: string; readonly by: string; readonly permit: Permit }[] =
    [];
  readonly unanswered: string[] = [];
  readonly run: FallbackRun<Candidate, string>;
  /** Runs in the middle of asking, as a function of the user's would. */
  duringAsk: () => void = () => {};
  /** The same, in the middle of finding out whether a candidate is for the failure. */
  duringAccept: () => void = () => {};
  /** What a host does with an answer. */
  onAnswer: () => void = () => {};

  constructor(candidates: readonly Candidate[], withinMs = 1_000, clock = new VirtualClock()) {
    this.clock = clock;
    this.startMs = clock.now();
    this.run = new FallbackRun<Candidate, string>(candidates, {
      clock,
      deadlineMs: this.startMs + withinMs,
      accepts: ({ accepts = true }) => {
        this.duringAccept();
        return accepts;
      },
      ask: ({ load, atOnce }, dueMs, told) => {
        const asked: Asked = {
          name: load.limits.name,
          atMs: clock.now() - this.startMs,
          dueMs: dueMs - this.startMs,
          told,
          ownCancel: 0,
        };
        this.asked.push(asked);
        this.duringAsk();
        if (atOnce !== undefined) told(atOnce);
        return () => {
          asked.ownCancel += 1;
        };
      },
      failed: (_candidate, error) => this.errors.push(error),
      answered: (answer, { load }, permit) => {
        this.answers.push({ answer, by: load.limits.name, permit });
        this.onAnswer();
      },
      unanswered: (tried) => this.unanswered.push(tried),
    });
  }

  get names(): readonly string[] {
    return this.asked.map(({ name }) => name);
  }

  /** The question to the provider that was asked last. */
  get last(): Asked {
    const last = this.asked.at(-1);
    if (last === undefined) throw new Error("nobody was asked");
    return last;
  }
}
