import type { Clock } from "./clock.js";
import type { Mode, ObserveReport } from "./control.js";
import type { Decision, PolicyName, RefusalReason } from "./decision.js";
import {
  type Answered,
  abandon,
  type Ending,
  type GateAnswer,
  isAnswered,
  isQueued,
  isRefusal,
  type Outcome,
  type Permit,
  type Queued,
  type Refusal,
  type WaitResult,
} from "./permit.js";
import type { WaitObserver } from "./wait.js";

/** A policy as a call meets it: it admits the call, queues it, or refuses it. `C` is what the policy sees of a call. */
export interface Gate<C> {
  readonly policy: PolicyName;
  /** Asked for each call: the mode can be switched while calls run. */
  modeFor(call: C): Mode;
  /** `undefined`: the policy does not concern this call. It goes on, and there is nothing to settle. */
  enter(call: C, onGranted: OnPassed): GateAnswer | Answered | undefined;
  /**
   * The gate gives out slots that other calls wait for. `enter` is called only when the call can use its slot at once, on a
   * server when its request has arrived; the gates behind this one are asked after it.
   */
  readonly takesSlot?: boolean;
  /** The gate reads the request: its `enter`, too, is called only when that has arrived. It may answer the call itself. */
  readonly readsRequest?: boolean;
  /** For a gate with `takesSlot`: refuses a call early that `enter` would refuse now. Takes no slot. */
  refusesEarly?(call: C): Refusal | undefined;
  /** No call waits in the gate, which calls no `onGranted`. */
  readonly neverQueues?: boolean;
  /** The permit is held until the call has ended. Without it, only until the call has been answered. */
  readonly untilEnd?: boolean;
}

/** The same as {@link OnGranted}, of gates that may answer the call themselves. */
export type OnPassed = (result: WaitResult | Answered, waitedMs: number) => void;

/** What a {@link GateRun} tells the call that it runs for. */
export interface GateHost {
  readonly clock: Clock;
  /** The call has passed the gates before those that need its request. Called only after `runToRequest`. */
  ready?(waited: boolean): void;
  /** A wait in a queue is over, and the gates behind it are asked. */
  resumed?(): void;
  /** The call has passed all gates. `waited`: it stood in a queue, so this is not called from inside `run`. */
  admitted(waited: boolean): void;
  /** A gate refused the call. Permits of the gates before it have been given back. */
  refused(refusal: Refusal, policy: PolicyName, waited: boolean): void;
  decide(decision: Decision): void;
  /** True while nobody listens to decisions, so that none need be made. @defaultValue false */
  readonly silent?: boolean;
  /** Is told of the time that the call stood in queues. */
  readonly waits?: WaitObserver | undefined;
  /** Counts what gates in `observe` would have refused, and how those calls ended. */
  readonly observed?: ObserveReport | undefined;
}

/**
 * Takes one call through a row of gates, in their order, and keeps the permits that the call holds. When the call has
 * ended each permit is settled once. When the call does not come through, because a gate refused it or the caller left
 * while it waited, each permit is given back unused instead.
 *
 * A gate in `observe` keeps its state as if its answers were obeyed. A call that it would have refused holds no permit of
 * it; a call that it would have queued goes on at once, and holds its permit from the moment the queue would have let it go.
 */
export class GateRun<C> {
  readonly #gates: readonly Gate<C>[];
  readonly #call: C;
  readonly #host: GateHost;
  /** The permits that the call holds, each at the index of its gate. */
  #permits = none;
  #whenGranted: OnPassed | undefined;
  /** Index of the first gate that needs the request, while the call may not come so far yet; -1 for none. */
  #stopAt = -1;
  /** Places in the queues of gates that observe. */
  #shadows: Queued[] | undefined;
  /** What gates that observe would have refused the call for. */
  #spared: { readonly policy: PolicyName; readonly reason: RefusalReason }[] | undefined;
  #next = 0;
  #admitted = false;
  /** A gate refused the call, and would refuse any other call now. */
  #othersRefused = false;
  #waiting: Queued | undefined;
  #over = false;

  constructor(gates: readonly Gate<C>[], call: C, host: GateHost) {
    this.#gates = gates;
    this.#call = call;
    this.#host = host;
  }

  /** The call stands in a queue. */
  get waiting(): boolean {
    return this.#waiting !== undefined;
  }

  /** Asks the gates. Tells the host, at once or when a wait is over. */
  run(): void {
    this.#goOn(false);
  }

  /**
   * Asks the gates before the first one that takes slots or reads the request. Refuses the call at once where a gate that
   * takes slots would refuse it now, unless one before it may answer the call. Otherwise calls `ready` of the host, which
   * goes on with `run`.
   */
  runToRequest(): void {
    const gates = this.#gates;
    for (let index = 0; index < gates.length && this.#stopAt < 0; index += 1) {
      const gate = gates[index];
      if (gate?.takesSlot !== true && gate?.readsRequest !== true) continue;
      if (gate.modeFor(this.#call) !== "off") this.#stopAt = index;
    }
    this.#goOn(false);
  }

  /** True when a gate that takes slots is enforced for this call, and does not just observe. */
  get slotsEnforced(): boolean {
    return this.#gates.some(
      (gate) => gate.takesSlot === true && gate.modeFor(this.#call) === "enforce",
    );
  }

  /** True when a gate that takes slots is asked for this call, if only to observe. */
  get slotsAsked(): boolean {
    // Asked for each call with a single request.
    for (const gate of this.#gates) {
      if (gate.takesSlot === true && gate.modeFor(this.#call) !== "off") return true;
    }
    return false;
  }

  /** A policy that observes would have ended the call. Its outcome is noted when it ends. */
  spare(policy: PolicyName, reason: RefusalReason): void {
    this.#host.observed?.refused(policy, reason);
    // When a wait ends after the call, the outcome of the call has been counted already.
    if (this.#over) return;
    this.#spared ??= [];
    this.#spared.push({ policy, reason });
  }

  /** For a gate that observes and hands out a permit all the same: notes that it would have refused the call. */
  wouldRefuse(refusal: Refusal, policy: PolicyName): void {
    this.#decideRefusal(refusal, policy, false);
  }

  /** A stream has had its first message from the other side. Called once. */
  delivered(): void {
    for (const permit of this.#permits) permit?.delivered?.();
  }

  /** The call has been answered: settles the permits that are not held until the end. */
  answered(outcome: Outcome, ending?: Ending): void {
    if (!this.#over) this.#end(false, outcome, ending);
  }

  /** The call has ended, admitted or not: it leaves the queue it stands in, and its permits are settled or given back. */
  settle(outcome: Outcome, ending?: Ending): void {
    this.#end(true, outcome, ending);
  }

  /** @param all Also the permits that are held until the end of the call. */
  #end(all: boolean, outcome: Outcome, ending: Ending | undefined): void {
    const first = !this.#over;
    this.#over = true;
    const waiting = this.#waiting;
    if (waiting !== undefined) {
      this.#waiting = undefined;
      this.#noteWait(waiting);
      waiting.leave();
    }
    const permits = this.#permits;
    const last = permits.length - 1;
    for (let passed = 0; passed <= last; passed += 1) {
      // Those that come back unused, the last one first: a waiting call that is granted a permit finds those of the
      // gates behind it free again.
      const index = this.#admitted ? passed : last - passed;
      const permit = permits[index];
      if (permit === undefined || (!all && this.#gates[index]?.untilEnd === true)) continue;
      permits[index] = undefined;
      if (this.#admitted) permit.settle(outcome, ending);
      else abandon(permit, this.#othersRefused);
    }
    if (first) this.#endObserved(outcome);
  }

  #endObserved(outcome: Outcome): void {
    if (this.#shadows !== undefined) for (const shadow of this.#shadows) shadow.leave();
    if (this.#spared === undefined) return;
    for (const { policy, reason } of this.#spared) {
      this.#host.observed?.ended(policy, reason, outcome);
    }
  }

  #goOn(waited: boolean): void {
    // A function of the user's that a gate calls may end the call: then no further gate is asked.
    while (!this.#over && this.#next < this.#gates.length) {
      if (this.#next === this.#stopAt) {
        this.#stopAt = -1;
        if (!this.#refusedEarly(waited)) this.#host.ready?.(waited);
        return;
      }
      const gate = this.#gates[this.#next];
      this.#next += 1;
      const mode = gate?.modeFor(this.#call) ?? "off";
      if (gate === undefined || mode === "off") continue;
      if (mode === "observe") {
        this.#observe(gate, this.#next - 1);
        continue;
      }
      const answer = gate.enter(this.#call, this.#grantedBy(gate));
      if (answer === undefined) continue;
      if (isQueued(answer)) {
        if (this.#over) answer.leave();
        else this.#waiting = answer;
        return;
      }
      if (!this.#take(answer, gate, waited)) return;
    }
    if (this.#over) return;
    this.#admitted = true;
    this.#host.admitted(waited);
  }

  #refusedEarly(waited: boolean): boolean {
    const first = this.#gates[this.#next];
    if (first?.readsRequest === true && first.modeFor(this.#call) === "enforce") return false;
    for (let index = this.#next; index < this.#gates.length; index += 1) {
      const gate = this.#gates[index];
      if (gate?.refusesEarly === undefined || gate.modeFor(this.#call) !== "enforce") continue;
      const refused = gate.refusesEarly(this.#call);
      if (refused !== undefined) return !this.#take(refused, gate, waited);
    }
    return false;
  }

  #grantedBy(gate: Gate<C>): OnPassed {
    if (gate.neverQueues === true) return neverGranted;
    this.#whenGranted ??= (result, waitedMs) => this.#granted(result, waitedMs);
    return this.#whenGranted;
  }

  #granted(result: WaitResult | Answered, waitedMs: number): void {
    const gate = this.#gates[this.#next - 1];
    const queued = this.#waiting;
    this.#waiting = undefined;
    if (queued !== undefined) this.#noteWait(queued);
    if (gate !== undefined && !this.#over) {
      this.#decideQueue(queued, gate.policy, true, waitedMs);
    }
    // An observer of the decision may have ended the call.
    if (this.#over || gate === undefined) {
      if (!isRefusal(result) && !isAnswered(result)) abandon(result, false);
      return;
    }
    this.#host.resumed?.();
    if (this.#take(result, gate, true)) this.#goOn(true);
  }

  /** False when the call is refused, or answered by the gate. */
  #take(result: WaitResult | Answered, gate: Gate<C>, waited: boolean): boolean {
    const { policy } = gate;
    if (isAnswered(result)) {
      this.#decideReplay(result, policy, true);
      if (this.#over) return false;
      // What the gates before this one gave it has been used.
      this.#admitted = true;
      result.send();
      return false;
    }
    if (!isRefusal(result)) {
      if (result.storeAway !== undefined) this.#decideAlone(result.storeAway, policy, true);
      this.#hold(result, this.#next - 1);
      return true;
    }
    this.#decideRefusal(result, policy, true);
    if (this.#over) return false;
    // A refusal with a subject concerns that subject only, for example one tenant. What is switched off is a method.
    this.#othersRefused = result.subject === undefined && result.reason !== "KILLED";
    this.settle("ignored");
    this.#host.refused(result, policy, waited);
    return false;
  }

  #observe(gate: Gate<C>, index: number): void {
    const answer =
      gate.neverQueues === true
        ? gate.enter(this.#call, neverGranted)
        : this.#enterObserved(gate, index);
    if (answer !== undefined && !isQueued(answer)) this.#takeObserved(answer, gate, index);
  }

  #enterObserved(gate: Gate<C>, index: number): GateAnswer | Answered | undefined {
    let queued: Queued | undefined;
    const answer = gate.enter(this.#call, (result, waitedMs) => {
      this.#decideQueue(queued, gate.policy, false, waitedMs);
      this.#takeObserved(result, gate, index);
    });
    if (answer === undefined || !isQueued(answer)) return answer;
    queued = answer;
    if (this.#over) queued.leave();
    this.#shadows ??= [];
    this.#shadows.push(queued);
    return answer;
  }

  #takeObserved(result: WaitResult | Answered, gate: Gate<C>, index: number): void {
    if (isAnswered(result)) this.#decideReplay(result, gate.policy, false);
    else if (isRefusal(result)) this.#decideRefusal(result, gate.policy, false);
    else {
      if (result.storeAway !== undefined) this.#decideAlone(result.storeAway, gate.policy, false);
      this.#hold(result, index);
    }
  }

  #hold(permit: Permit, index: number): void {
    if (this.#over) abandon(permit, false);
    else {
      if (this.#permits === none) this.#permits = this.#gates.map(noPermit);
      this.#permits[index] = permit;
    }
  }

  /** For the gate that was asked last: the call has left its queue. */
  #noteWait({ sinceMs }: Queued): void {
    const { waits, clock } = this.#host;
    const policy = this.#gates[this.#next - 1]?.policy;
    if (waits?.recording !== true || policy === undefined) return;
    waits.waited({ kind: "queue", policy, startedAtMs: sinceMs, endedAtMs: clock.now() });
  }

  #decideQueue(
    queued: Queued | undefined,
    policy: PolicyName,
    enforced: boolean,
    waitMs: number,
  ): void {
    if (this.#host.silent === true) return;
    const atMs = this.#host.clock.now();
    const decision = { policy, verdict: "queue", enforced, atMs, waitMs } as const;
    const detail = queued?.detail;
    this.#host.decide(detail === undefined ? decision : { ...decision, detail });
  }

  #decideAlone(detail: string, policy: PolicyName, enforced: boolean): void {
    if (this.#host.silent === true) return;
    const atMs = this.#host.clock.now();
    this.#host.decide({ policy, verdict: "admit", reason: "STORE_AWAY", enforced, atMs, detail });
  }

  #decideRefusal({ reason, detail }: Refusal, policy: PolicyName, enforced: boolean): void {
    if (!enforced) this.spare(policy, reason);
    if (this.#host.silent === true) return;
    const atMs = this.#host.clock.now();
    this.#host.decide({ policy, verdict: "reject", reason, enforced, atMs, detail });
  }

  #decideReplay({ detail }: Answered, policy: PolicyName, enforced: boolean): void {
    if (this.#host.silent === true) return;
    const atMs = this.#host.clock.now();
    this.#host.decide({ policy, verdict: "replay", enforced, atMs, detail });
  }
}

/** The permits of a call that holds none. Never written to. */
const none: (Permit | undefined)[] = [];

function neverGranted(): void {}

function noPermit(): Permit | undefined {
  return undefined;
}
