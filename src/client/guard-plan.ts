import type { Decision } from "../core/decision.js";
import { notify } from "../core/user-code.js";
import type { InboundCall } from "../grpc/inbound-call.js";
import type { Surroundings } from "../grpc/surroundings.js";
import type { WaitingRoom } from "../grpc/waiting-room.js";
import type { GuardClock } from "./guard-clock.js";
import type { GuardBreaker, GuardBulkhead } from "./guard-policies.js";
import type { GuardRetry } from "./guard-retry.js";
import type { GuardTimer } from "./guard-timer.js";
import { GuardTurn } from "./guard-turn.js";

/** What became of runs. All but `abandoned` only grow. */
export interface GuardCounts {
  /** Runs that the function had an answer for. */
  succeeded: number;
  /** Runs that ended with the function's error. */
  failed: number;
  /** Runs that a policy refused or a time-out ended, or that were called off. */
  rejected: number;
  /** Functions that still run, though their run has given up on them. They hold their places in the bulkhead. */
  abandoned: number;
}

export interface GuardPolicies {
  readonly bulkhead: GuardBulkhead | undefined;
  readonly breaker: GuardBreaker | undefined;
  readonly retry: GuardRetry | undefined;
  /** For whole runs. */
  readonly timer: GuardTimer | undefined;
  readonly attemptTimer: GuardTimer | undefined;
  /** How much earlier than the inbound call's deadline a run ends, in milliseconds. */
  readonly marginMs: number;
}

/** An inbound call keeps so many decisions at most: a stream may last for days. */
const maxNoted = 128;

/** All that the runs of one guard work with. */
export class GuardPlan implements GuardPolicies {
  readonly name: string;
  readonly clock: GuardClock;
  readonly room: WaitingRoom;
  /** Where it is noted what observed policies would have refused. */
  readonly observed: Surroundings["observed"];
  readonly bulkhead: GuardBulkhead | undefined;
  readonly breaker: GuardBreaker | undefined;
  readonly retry: GuardRetry | undefined;
  readonly timer: GuardTimer | undefined;
  readonly attemptTimer: GuardTimer | undefined;
  readonly marginMs: number;
  /** A run is one attempt, and ends when that does. */
  readonly single: boolean;
  readonly counts: GuardCounts = { succeeded: 0, failed: 0, rejected: 0, abandoned: 0 };
  /** For the next run that has to wait. Most need not, and making one for each costs. */
  nextTurn = new GuardTurn();
  readonly #report: Surroundings["report"];
  readonly #onDecision: Surroundings["onDecision"];

  constructor(
    name: string,
    clock: GuardClock,
    {
      room,
      observed,
      report,
      onDecision,
    }: Pick<Surroundings, "room" | "observed" | "report" | "onDecision">,
    policies: Partial<GuardPolicies>,
  ) {
    this.name = name;
    this.clock = clock;
    this.room = room;
    this.observed = observed;
    this.bulkhead = policies.bulkhead;
    this.breaker = policies.breaker;
    this.retry = policies.retry;
    this.timer = policies.timer;
    this.attemptTimer = policies.attemptTimer;
    this.marginMs = policies.marginMs ?? 0;
    this.single = (this.retry ?? this.timer ?? this.attemptTimer) === undefined;
    this.#report = report;
    this.#onDecision = onDecision;
  }

  /** Notes a decision where it is wanted, and tells the observer. */
  decide(
    notes: Decision[] | undefined,
    inbound: InboundCall | undefined,
    policy: Decision["policy"],
    verdict: Decision["verdict"],
    enforced: boolean,
    { reason, detail, waitMs }: Partial<Pick<Decision, "reason" | "detail" | "waitMs">>,
  ): void {
    const onDecision = this.#onDecision;
    if (onDecision === undefined && inbound === undefined && notes === undefined) return;
    const decision: Decision = {
      policy,
      verdict,
      enforced,
      atMs: this.clock.now(),
      ...(reason === undefined ? {} : { reason }),
      ...(detail === undefined ? {} : { detail }),
      ...(waitMs === undefined ? {} : { waitMs }),
    };
    notes?.push(decision);
    if (inbound !== undefined && inbound.decisions.length < maxNoted) {
      const named = detail === undefined ? this.name : `${this.name}: ${detail}`;
      inbound.decisions.push({ ...decision, detail: named });
    }
    if (onDecision === undefined) return;
    const event = { ...decision, method: this.name, target: "", side: "guard" } as const;
    notify(onDecision, event, this.#report, "onDecision");
  }
}
