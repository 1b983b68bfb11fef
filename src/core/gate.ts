import type { Clock } from "./clock.js";
import type { Mode, ObserveReport } from "./control.js";
import type { Decision, PolicyName, RefusalReason } from "./decision.js";
import {
  abandon,
  type Ending,
  type GateAnswer,
  isQueued,
  isRefusal,
  type OnGranted,
  type Outcome,
  type Permit,
  type Queued,
  type Refusal,
  type WaitResult,
} from "./permit.js";

/** A policy that stands in the way of a call: it lets it pass, makes it wait, or refuses it. */
export interface Gate<C> {
  readonly policy: PolicyName;
  /** Asked for each call, so that it can change while calls run. */
  modeFor(call: C): Mode;
  /** `undefined`: the policy has nothing to say about this call, and nothing to settle. */
  enter(call: C, onGranted: OnGranted): GateAnswer | undefined;
  /**
   * The call would take a slot that others wait for: it is asked to enter once the call can use it. Gates behind it come
   * later as well.
   */
  readonly takesSlot?: boolean;
  /** For a gate that takes slots: refuses a call that need not come so far. Takes nothing. */
  refusesEarly?(call: C): Refusal | undefined;
  /** Its permit is held until the call has ended, and not only until it was answered. */
  readonly untilEnd?: boolean;
}

/** What goes on around a call that passes gates. */
export interface GateHost {
  readonly clock: Clock;
  /** The call has come to the gates that take slots. Only told after `runToSlots`. */
  ready?(waited: boolean): void;
  /** All gates are passed. `waited`: not inside `run`, but from the callback of a queue. */
  admitted(waited: boolean): void;
  /** A gate refused. What the gates before it gave is given back already. */
  refused(refusal: Refusal, policy: PolicyName, waited: boolean): void;
  decide(decision: Decision): void;
  /** Where it is noted what observed gates would have refused, and how those calls ended. */
  readonly observed?: ObserveReport | undefined;
}

/**
 * The way of one call through a row of gates, and what it holds until it ends. Every permit is settled exactly once when
 * the call has ended. Of a call that did not come through, because a gate refused it or it left while it waited, each
 * permit is given back unused instead.
 *
 * A gate that observes works on its state as if the call obeyed it: a call that it would have refused
 * holds nothing of it, and one that it would have queued holds its permit from the turn it would have got.
 */
export class GateRun<C> {
  readonly #gates: readonly Gate<C>[];
  readonly #call: C;
  readonly #host: GateHost;
  readonly #held: Permit[] = [];
  /** Of gates that hold theirs until the end. */
  #lasting: Permit[] | undefined;
  #stopAt: number;
  #shadows: Queued[] | undefined;
  /** Gates that would have refused the call, in pairs of policy and reason. */
  #spared: { readonly policy: PolicyName; readonly reason: RefusalReason }[] | undefined;
  #next = 0;
  #admitted = false;
  #refused = false;
  #waiting: Queued | undefined;
  #over = false;

  constructor(gates: readonly Gate<C>[], call: C, host: GateHost) {
    this.#gates = gates;
    this.#call = call;
    this.#host = host;
    this.#stopAt = gates.length;
  }

  /** The call stands in a queue. */
  get waiting(): boolean {
    return this.#waiting !== undefined;
  }

  /** Asks the gates in their order. Tells the host, now or when a wait is over. */
  run(): void {
    this.#goOn(false);
  }

  /** A gate that observes would have refused the call, and has a permit for it all the same. */
  wouldRefuse(refusal: Refusal, policy: PolicyName): void {
    this.#decideRefusal(refusal, policy, false);
  }

  /**
   * The same, up to the first gate that takes slots; whoever would be refused there is refused now. The host is told by
   * `ready` that the call has come so far, and goes on with `run`.
   */
  runToSlots(): void {
    const call = this.#call;
    const first = this.#gates.findIndex(
      (gate) => gate.takesSlot === true && gate.modeFor(call) !== "off",
    );
    if (first >= 0) this.#stopAt = first;
    this.#goOn(false);
  }

  /** Slots are really taken, and not only counted by gates that observe. */
  get slotsEnforced(): boolean {
    return this.#gates.some(
      (gate) => gate.takesSlot === true && gate.modeFor(this.#call) === "enforce",
    );
  }

  /** The call was answered: it gives back what it holds, but for the permits that are held until its end. */
  answered(outcome: Outcome, ending?: Ending): void {
    if (this.#over) return;
    this.#giveBack(outcome, ending);
  }

  /** The call has ended, admitted or not: it leaves the queue it is in and gives back what it holds. */
  settle(outcome: Outcome, ending?: Ending): void {
    this.#giveBack(outcome, ending);
    const lasting = this.#lasting;
    this.#lasting = undefined;
    for (const permit of lasting ?? []) permit.settle(outcome, ending);
  }

  #giveBack(outcome: Outcome, ending: Ending | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#waiting?.leave();
    this.#waiting = undefined;
    if (this.#admitted) for (const permit of this.#held) permit.settle(outcome, ending);
    // The last first: a waiting call that gets what comes back finds what lies behind free already.
    else for (const permit of this.#held.reverse()) abandon(permit, this.#refused);
    for (const shadow of this.#shadows ?? []) shadow.leave();
    for (const { policy, reason } of this.#spared ?? []) {
      this.#host.observed?.ended(policy, reason, outcome);
    }
  }

  /** A stream has had its first message from the other side. Told once. */
  delivered(): void {
    for (const permit of this.#held) permit.delivered?.();
  }

  #goOn(waited: boolean): void {
    // A function of the user's, asked or told on the way, may end the call: then it passes no other gate.
    while (!this.#over && this.#next < this.#gates.length) {
      if (this.#next === this.#stopAt) {
        this.#stopAt = this.#gates.length;
        if (!this.#refusedEarly(waited)) this.#host.ready?.(waited);
        return;
      }
      const gate = this.#gates[this.#next];
      this.#next += 1;
      const mode = gate?.modeFor(this.#call) ?? "off";
      if (gate === undefined || mode === "off") continue;
      if (mode === "observe") {
        this.#observe(gate);
        continue;
      }
      const entry = gate.enter(this.#call, this.#onGranted);
      if (entry === undefined) continue;
      if (isQueued(entry)) {
        if (this.#over) entry.leave();
        else this.#waiting = entry;
        return;
      }
      if (!this.#take(entry, gate, waited)) return;
    }
    if (this.#over) return;
    this.#admitted = true;
    this.#host.admitted(waited);
  }

  #refusedEarly(waited: boolean): boolean {
    for (let index = this.#next; index < this.#gates.length; index += 1) {
      const gate = this.#gates[index];
      if (gate?.refusesEarly === undefined || gate.modeFor(this.#call) !== "enforce") continue;
      const refused = gate.refusesEarly(this.#call);
      if (refused !== undefined) return !this.#take(refused, gate, waited);
    }
    return false;
  }

  readonly #onGranted: OnGranted = (turn, waitedMs) => {
    const gate = this.#gates[this.#next - 1];
    const waited = this.#waiting;
    this.#waiting = undefined;
    if (this.#over || gate === undefined) {
      if (!isRefusal(turn)) abandon(turn, false);
      return;
    }
    this.#decideQueue(waited, gate.policy, true, waitedMs);
    if (this.#take(turn, gate, true)) this.#goOn(true);
  };

  /** False when the call is refused. */
  #take(turn: WaitResult, gate: Gate<C>, waited: boolean): boolean {
    if (!isRefusal(turn)) {
      this.#hold(turn, gate);
      return true;
    }
    const { policy } = gate;
    this.#decideRefusal(turn, policy, true);
    if (this.#over) return false;
    this.#refused = true;
    this.settle("ignored");
    this.#host.refused(turn, policy, waited);
    return false;
  }

  #observe(gate: Gate<C>): void {
    const { policy } = gate;
    const entry = gate.enter(this.#call, (turn, waitedMs) => {
      if (entry !== undefined && isQueued(entry)) this.#decideQueue(entry, policy, false, waitedMs);
      if (isRefusal(turn)) this.#decideRefusal(turn, policy, false);
      else this.#hold(turn, gate);
    });
    if (entry === undefined) return;
    if (isQueued(entry)) {
      if (this.#over) entry.leave();
      this.#shadows ??= [];
      this.#shadows.push(entry);
    } else if (isRefusal(entry)) this.#decideRefusal(entry, policy, false);
    else this.#hold(entry, gate);
  }

  #hold(permit: Permit, { untilEnd }: Gate<C>): void {
    if (this.#over) abandon(permit, false);
    else if (untilEnd === true) {
      this.#lasting ??= [];
      this.#lasting.push(permit);
    } else this.#held.push(permit);
  }

  #decideQueue(
    queued: Queued | undefined,
    policy: PolicyName,
    enforced: boolean,
    waitMs: number,
  ): void {
    const atMs = this.#host.clock.now();
    const decision = { policy, verdict: "queue", enforced, atMs, waitMs } as const;
    const detail = queued?.detail;
    this.#host.decide(detail === undefined ? decision : { ...decision, detail });
  }

  #spare(policy: PolicyName, reason: RefusalReason): void {
    this.#host.observed?.refused(policy, reason);
    // A wait that ends after the call says nothing more of it.
    if (this.#over) return;
    this.#spared ??= [];
    this.#spared.push({ policy, reason });
  }

  #decideRefusal({ reason, detail }: Refusal, policy: PolicyName, enforced: boolean): void {
    if (!enforced) this.#spare(policy, reason);
    const atMs = this.#host.clock.now();
    this.#host.decide({ policy, verdict: "reject", reason, enforced, atMs, detail });
  }
}
