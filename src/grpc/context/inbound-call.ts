import { AsyncLocalStorage } from "node:async_hooks";
import type { Metadata, StatusObject } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.js";
import type { ObserveReport } from "../../core/control.js";
import type { Decision, DecisionEvent, PolicyName } from "../../core/decision.js";
import type { Refusal } from "../../core/permit.js";
import type { Priority } from "../../core/priority.js";
import { notify, type Observer, type ReportError, safely } from "../../core/user-code.js";
import { type Degradation, Degradations, handlerDegradation } from "../status/degraded.js";
import { FailuresBelow } from "../status/relay.js";
import type { CallKind, ServerCall } from "../types.js";

/** What a handler can ask of the call that it serves. */
export interface CurrentCall {
  /** `/pkg.Service/Method`. */
  readonly method: string;
  readonly kind: CallKind;
  readonly priority: Priority;
  /** Who is behind the call, from 0 to 127: inside a priority the lower ones are shed first, in every service alike. */
  readonly cohort: number;
  /** The caller's address, as grpc-js tells it. */
  readonly peer: string;
  /** How many attempts of the same call came before this one. */
  readonly previousAttempts: number;
  /** Milliseconds until the caller's deadline, never below 0; `Infinity` without one. */
  remainingMs(): number;
  /**
   * Aborted when the caller cancels, disconnects or runs out of time. Not when the call ends well: what a
   * handler leaves running then is its own affair.
   */
  readonly signal: AbortSignal;
  /**
   * What the answer has had to make do with so far: calls of the handler that a fallback answered, here or in a
   * service below, and what the handler said itself. It goes to the caller in the trailers of an OK.
   */
  readonly degradations: readonly Degradation[];
  /**
   * Says that the answer is less than it should be, such as `degrade("recommendations")` when they are left out.
   * The name is letters, digits, `.`, `_` and `-`, at most 64; anything else in it becomes `_`.
   */
  degrade(name: string): void;
  /**
   * Whether to leave out a piece of work that the answer can do without, because a flag or the pressure on the server
   * says so: `if (call.shouldSkip("recommendations")) …`. The same answer for the same name as long as the call lasts.
   * Always false without the policy `brownout`, and for a name that it does not know.
   */
  shouldSkip(name: string): boolean;
}

/** Judges, for one call, what its handler can do without. */
export interface OptionalWorkJudge {
  shouldSkip(name: string): boolean;
}

/** Who a caller has shown to be. grpc-js keeps the name to itself. */
export type AuthContext = ReturnType<ServerCall["getAuthContext"]>;

/** What is known of a caller. It is asked when somebody wants to know: most calls never are. */
export type Caller = Pick<ServerCall, "getPeer" | "getAuthContext">;

/** How an inbound call ended. */
export type InboundEnd = "finished" | "cancelled" | "deadline";

/** The record of one inbound call: in AsyncLocalStorage for the handler and everything it calls. */
export class InboundCall implements CurrentCall {
  readonly method: string;
  readonly kind: CallKind;
  readonly clock: Clock;
  readonly report: ReportError;
  readonly startedAtMs: number;
  /** The caller's deadline on the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
  /** Where it is noted what observed policies would have refused. */
  readonly observed: ObserveReport | undefined;
  readonly decisions: Decision[] = [];
  priority: Priority = "normal";
  /** The caller set the priority; only then it is passed on to the calls of the handler. */
  priorityMarked = false;
  /** Who is behind the call, from 0 to 127: the lower ones are shed first. */
  cohort = 0;
  /** It is the cohort of a user or tenant, and not one by chance; only then it is passed on. */
  cohortMarked = false;
  /** When it was let through to its handler; `undefined` before that. */
  handlerStartedMs: number | undefined;
  /** How long such calls take as a rule, in milliseconds; 0 where that is not known. */
  neededMs = 0;
  previousAttempts = 0;
  /** How many services above are retrying. */
  retryDepth = 0;
  /** The metadata of the request, once it arrived. */
  metadata: Metadata | undefined;
  /** Set by the policy that decides about optional work, where there is one. */
  optionalWork: OptionalWorkJudge | undefined;
  /** A policy of this server has answered the call: what is sent now is no word of its handler. */
  answeredByPolicy = false;
  /** The policies that the call passes. One of them may end it while its handler runs, or, not enforced, note that it would. */
  row: { stop(refused: Refusal, policy: PolicyName, enforced: boolean): void } | undefined;
  #failuresBelow: FailuresBelow | undefined;
  #degradations: Degradations | undefined;
  #end: InboundEnd | undefined;
  #abort: AbortController | undefined;
  #onCancelled: Set<(end: InboundEnd) => void> | undefined;
  readonly #onDecision: Observer<DecisionEvent> | undefined;
  readonly #caller: Caller;

  constructor(init: {
    readonly method: string;
    readonly kind: CallKind;
    readonly caller: Caller;
    readonly clock: Clock;
    readonly report: ReportError;
    readonly startedAtMs: number;
    readonly deadlineMs: number;
    readonly onDecision?: Observer<DecisionEvent> | undefined;
    readonly observed?: ObserveReport | undefined;
  }) {
    this.method = init.method;
    this.kind = init.kind;
    this.clock = init.clock;
    this.report = init.report;
    this.startedAtMs = init.startedAtMs;
    this.deadlineMs = init.deadlineMs;
    this.#onDecision = init.onDecision;
    this.observed = init.observed;
    this.#caller = init.caller;
  }

  get peer(): string {
    return this.#caller.getPeer();
  }

  /** Who the caller has shown to be, as grpc-js tells it: with TLS, its certificate if it has one. */
  authContext(): AuthContext {
    return this.#caller.getAuthContext();
  }

  shouldSkip(name: string): boolean {
    return this.optionalWork?.shouldSkip(name) ?? false;
  }

  remainingMs(): number {
    return Math.max(0, this.deadlineMs - this.clock.now());
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#end !== undefined && this.#end !== "finished") this.#abort.abort();
    }
    return this.#abort.signal;
  }

  get degradations(): readonly Degradation[] {
    return this.#degradations?.list ?? [];
  }

  degrade(name: string): void {
    this.degraded([handlerDegradation(name, this.method)]);
  }

  /** Notes what an outbound call of the handler had to make do with. */
  degraded(degradations: readonly Degradation[]): void {
    if (degradations.length === 0) return;
    this.#degradations ??= new Degradations();
    for (const degradation of degradations) this.#degradations.add(degradation);
  }

  /** What the calls made for this one have failed with so far, where one has. */
  get failuresBelow(): FailuresBelow | undefined {
    return this.#failuresBelow;
  }

  /** Notes what an outbound call of the handler has failed with. */
  failedBelow(status: StatusObject): void {
    this.#failuresBelow ??= new FailuresBelow();
    this.#failuresBelow.note(status);
  }

  /** How the call ended, or undefined while it runs. */
  get end(): InboundEnd | undefined {
    return this.#end;
  }

  /**
   * Tells `task` when the call is called off: cancelled, or out of time. Never told of a call that ended
   * well, and one set for all outbound calls, so that a fan-out adds no listener to the call itself.
   * The result takes the task out again.
   */
  onCancelled(task: (end: InboundEnd) => void): () => void {
    if (this.#end !== undefined) {
      // Too late for a subscription: a call made after its inbound call was called off is called
      // off as well, after the caller has it in hand.
      const end = this.#end;
      let wanted = end !== "finished";
      if (wanted) process.nextTick(() => wanted && task(end));
      return () => {
        wanted = false;
      };
    }
    this.#onCancelled ??= new Set();
    const tasks = this.#onCancelled;
    tasks.add(task);
    return () => tasks.delete(task);
  }

  /** The call ended. Only the first end counts. */
  finish(end: InboundEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    const tasks = this.#onCancelled;
    this.#onCancelled = undefined;
    if (end === "finished") return;
    this.#abort?.abort();
    for (const task of tasks ?? []) {
      try {
        task(end);
      } catch (error) {
        safely(this.report, error, "inbound call called off");
      }
    }
  }

  /** Notes a decision and tells the observer. */
  decide(decision: Decision): void {
    this.decisions.push(decision);
    if (this.#onDecision === undefined) return;
    const event: DecisionEvent = { ...decision, method: this.method, target: "", side: "server" };
    notify(this.#onDecision, event, this.report, "onDecision");
  }
}

const storage = new AsyncLocalStorage<InboundCall | undefined>();

/** The inbound call whose handler runs, for the toolkit's own use. */
export function currentInbound(): InboundCall | undefined {
  return storage.getStore();
}

/**
 * The inbound call that the running code serves, or `undefined` outside a handler (and inside
 * `detached`). Needs the toolkit's server interceptors.
 */
export function currentCall(): CurrentCall | undefined {
  return storage.getStore();
}

/** Runs `fn` as part of the inbound call. */
export function runInbound<A extends unknown[], R>(
  call: InboundCall,
  fn: (...args: A) => R,
  ...args: A
): R {
  return storage.run(call, fn, ...args);
}

/**
 * Runs `fn` outside the inbound call: what it calls inherits neither the deadline nor the cancellation nor
 * the priority. For work that must outlive the answer, such as an audit record.
 */
export function detached<R>(fn: () => R): R {
  return storage.run(undefined, fn);
}
