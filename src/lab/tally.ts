import { status as Status, type StatusObject } from "@grpc/grpc-js";
import type { Priority } from "../core/priority.js";
import { rejectionOf } from "../grpc/status/rejection.js";
import { Histogram } from "./histogram.js";
import type { OutcomeKind, TimelineRecorder } from "./timeline.js";

/** A part of the time of an incident. */
export interface PhaseTime {
  readonly name: string;
  readonly ms: number;
}

/** What became of some calls. */
export interface Counts {
  readonly sent: number;
  /** Answered OK before the deadline. */
  readonly good: number;
  /** Refused by a policy, on the client or the server, by reason. */
  readonly refused: Readonly<Record<string, number>>;
  /** Failed otherwise, by the name of the status. */
  readonly failed: Readonly<Record<string, number>>;
}

/** What became of the calls that began in one phase. */
export interface PhaseReport extends Counts {
  readonly name: string;
  readonly priorities: Readonly<Record<Priority, Counts>>;
  /** Requests to the servers that were sent in the phase, for each call that was due in it; of several tiers, to the one with the most. */
  readonly amplification: number;
  /** The time until a good answer, from when the call was due, in milliseconds. */
  readonly p50Ms: number | undefined;
  readonly p99Ms: number | undefined;
}

class Counting implements Counts {
  sent = 0;
  good = 0;
  readonly refused: Record<string, number> = {};
  readonly failed: Record<string, number> = {};
}

class PhaseCounting extends Counting {
  readonly name: string;
  readonly untilMs: number;
  readonly priorities: Readonly<Record<Priority, Counting>>;
  readonly latency = new Histogram();
  /** By tier. */
  readonly requests: number[] = [];

  constructor(name: string, untilMs: number) {
    super();
    this.name = name;
    this.untilMs = untilMs;
    this.priorities = {
      critical: new Counting(),
      high: new Counting(),
      normal: new Counting(),
      low: new Counting(),
    };
  }
}

/** The time is cut into slices, by which is told when all is back to normal. */
const sliceMs = 100;
/** A slice is normal when this share of the usual share of its calls is good. */
const normalShare = 0.95;

/** Counts what becomes of calls, by the phase in which each was due. It takes no more memory the more calls there are. */
export class Tally {
  readonly #phases: readonly PhaseCounting[];
  readonly #sliceSent: Uint32Array;
  readonly #sliceGood: Uint32Array;

  readonly #timeline: TimelineRecorder | undefined;

  /** @param timeline Told of the same calls, where they are wanted over time. */
  constructor(phases: readonly PhaseTime[], timeline?: TimelineRecorder) {
    this.#timeline = timeline;
    let untilMs = 0;
    this.#phases = phases.map(({ name, ms }) => {
      untilMs += ms;
      return new PhaseCounting(name, untilMs);
    });
    const slices = Math.ceil(untilMs / sliceMs);
    this.#sliceSent = new Uint32Array(slices);
    this.#sliceGood = new Uint32Array(slices);
  }

  /** A call was due at `dueMs`. */
  sent(dueMs: number, priority: Priority): void {
    const phase = this.#phaseAt(dueMs);
    if (phase === undefined) return;
    this.#timeline?.sent(dueMs, priority);
    phase.sent += 1;
    phase.priorities[priority].sent += 1;
    const slice = Math.floor(dueMs / sliceMs);
    this.#sliceSent[slice] = (this.#sliceSent[slice] ?? 0) + 1;
  }

  /** A request that was sent at `sentMs` has come to a server of a tier. */
  arrived(sentMs: number, tier = 0): void {
    const requests = this.#phaseAt(sentMs)?.requests;
    if (requests !== undefined) requests[tier] = (requests[tier] ?? 0) + 1;
  }

  /** A call that was due at `dueMs` has ended. */
  ended(dueMs: number, tookMs: number, priority: Priority, status: StatusObject): OutcomeKind {
    const { kind, why } = outcomeOf(status);
    const phase = this.#phaseAt(dueMs);
    if (phase === undefined) return kind;
    const its = phase.priorities[priority];
    this.#timeline?.ended(dueMs, tookMs, priority, kind, why);
    if (kind === "good") {
      phase.good += 1;
      its.good += 1;
      phase.latency.add(tookMs);
      const slice = Math.floor(dueMs / sliceMs);
      this.#sliceGood[slice] = (this.#sliceGood[slice] ?? 0) + 1;
      return kind;
    }
    for (const counts of [phase, its]) {
      const reasons = counts[kind];
      reasons[why] = (reasons[why] ?? 0) + 1;
    }
    return kind;
  }

  report(): readonly PhaseReport[] {
    return this.#phases.map((phase) => ({
      name: phase.name,
      ...plain(phase),
      priorities: {
        critical: plain(phase.priorities.critical),
        high: plain(phase.priorities.high),
        normal: plain(phase.priorities.normal),
        low: plain(phase.priorities.low),
      },
      amplification:
        phase.sent === 0 ? 0 : Math.max(0, ...Object.values(phase.requests)) / phase.sent,
      p50Ms: phase.latency.quantile(0.5),
      p99Ms: phase.latency.quantile(0.99),
    }));
  }

  /**
   * How long after `overMs` the last slice began in which fewer calls were good than usual, in milliseconds; 0 for none.
   *
   * @param usual The share of good calls in normal times, from 0 to 1.
   * @returns `Infinity` where the last slices are not normal.
   */
  recoveryMs(overMs: number, usual: number): number {
    const first = Math.floor(overMs / sliceMs);
    const last = this.#sliceSent.length - 1;
    for (let slice = last; slice >= first; slice -= 1) {
      const sent = this.#sliceSent[slice] ?? 0;
      const good = this.#sliceGood[slice] ?? 0;
      if (sent === 0 || good >= normalShare * usual * sent - 1) continue;
      return slice >= last - 4 ? Number.POSITIVE_INFINITY : (slice + 1) * sliceMs - overMs;
    }
    return 0;
  }

  #phaseAt(ms: number): PhaseCounting | undefined {
    return this.#phases.find(({ untilMs }) => ms < untilMs);
  }
}

function plain({ sent, good, refused, failed }: Counts): Counts {
  return { sent, good, refused: sorted(refused), failed: sorted(failed) };
}

function sorted(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** What became of a call, and why, in one word. A call that ran out of time was not refused. */
function outcomeOf(status: StatusObject): { readonly kind: OutcomeKind; readonly why: string } {
  const { code } = status;
  if (code === Status.OK) return { kind: "good", why: "OK" };
  if (code === Status.DEADLINE_EXCEEDED) return { kind: "failed", why: "DEADLINE_EXCEEDED" };
  const reason = rejectionOf(status)?.reason;
  // A service says with this that its own attempts have failed: nobody has refused anything.
  if (reason === "RETRY_EXHAUSTED_BELOW") return { kind: "failed", why: reason };
  if (reason !== undefined) return { kind: "refused", why: reason };
  const why = Status[code] ?? String(code);
  return { kind: code === Status.RESOURCE_EXHAUSTED ? "refused" : "failed", why };
}

/** The share of calls that were good, from 0 to 1; 1 without calls. */
export function goodput({ sent, good }: Counts): number {
  return sent === 0 ? 1 : good / sent;
}

/** How many of the calls were refused. */
export function refusals({ refused }: Counts): number {
  return Object.values(refused).reduce((sum, count) => sum + count, 0);
}

/** The counts of several phases, or of several runs, together. */
export function together(all: readonly Counts[]): Counts {
  const sum = new Counting();
  for (const { sent, good, refused, failed } of all) {
    sum.sent += sent;
    sum.good += good;
    for (const [into, from] of [
      [sum.refused, refused],
      [sum.failed, failed],
    ] as const) {
      for (const [why, count] of Object.entries(from)) into[why] = (into[why] ?? 0) + count;
    }
  }
  return plain(sum);
}
