import { AsyncLocalStorage } from "node:async_hooks";
import type { Buffer } from "node:buffer";
import type { Metadata, StatusObject } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.js";
import type { ObserveReport } from "../../core/control.js";
import type { Decision, DecisionCounter, DecisionEvent, PolicyName } from "../../core/decision.js";
import type { Refusal } from "../../core/permit.js";
import type { Priority } from "../../core/priority.js";
import { processWide } from "../../core/process-wide.js";
import { notify, type ReportError, reportSafely } from "../../core/user-code.js";
import type { Flags } from "../../policies/flags/flags.js";
import type { Environment } from "../environment.js";
import { readPreviousAttempts, readRetryDepth } from "../metadata.js";
import { type Degradation, Degradations, handlerDegradation } from "../status/degraded.js";
import { FailuresBelow } from "../status/relay.js";
import type { CallKind, PartialStatus, ServerCall } from "../types.js";
import {
  type CallFacts,
  callFacts,
  type KnownCall,
  knownCall,
  type TellsFacts,
} from "./finished-call.js";

/**
 * The call that a handler serves.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/context.md
 */
export interface CurrentCall {
  /** `/pkg.Service/Method`. */
  readonly method: string;
  readonly kind: CallKind;
  readonly priority: Priority;
  /**
   * A number from 0 to 127 for the user or tenant behind the call. Inside a priority, every service sheds lower cohorts
   * first, so that it is the same users who are refused everywhere.
   */
  readonly cohort: number;
  /** The caller's address, from grpc-js. */
  readonly peer: string;
  /** How many attempts of the same call came before this one, as the caller says. */
  readonly previousAttempts: number;
  /**
   * The idempotency key that the handler runs under. `undefined` where no policy `idempotency` has given the call a key.
   */
  readonly idempotency: HeldKey | undefined;
  /** Milliseconds until the caller's deadline, never below 0; `Infinity` without one. */
  remainingMs(): number;
  /**
   * Aborted when the caller cancels, disconnects or runs out of time. Not aborted when the handler answers: work that
   * the handler leaves running then goes on. A call that runs under an idempotency key goes on when its caller cancels or
   * disconnects, because calls with the same key get its answer; it is aborted when another call has taken over its key.
   */
  readonly signal: AbortSignal;
  /**
   * Why the answer is degraded so far: calls of the handler that a fallback answered, here or in a service below, and
   * what the handler has passed to `degrade`. Sent to the caller in the trailers of an OK.
   */
  readonly degradations: readonly Degradation[];
  /**
   * Marks the answer as degraded, such as `degrade("recommendations")` when the handler leaves those out. The name has
   * at most 64 characters: letters, digits, `.`, `_` and `-`. Others become `_`.
   */
  degrade(name: string): void;
  /**
   * Whether to leave out a piece of optional work, because of a flag or of the pressure on the server, as in
   * `if (call.shouldSkip("recommendations")) …`. The same for the same name as long as the call lasts. Without a source of
   * flags, always false without the policy `brownout`, and for a name that the policy does not have.
   */
  shouldSkip(name: string): boolean;
}

/**
 * The idempotency key that a call runs under.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/context.md
 */
export interface HeldKey {
  /** As the caller sent it, or as it was derived from the request. */
  readonly key: string;
  /**
   * Larger than that of every earlier call with this key, of this caller and method. A handler that writes under it, such
   * as by `… WHERE fence < $token`, keeps an earlier call from writing that was held up and comes back late. `undefined`
   * while the store of keys fails and the policy lets calls run all the same: the call may then run twice.
   */
  readonly fencingToken: number | undefined;
}

/** The whole answer to a call with a single response. */
export interface CompleteAnswer {
  /** The initial metadata, where the handler has sent any. */
  readonly headers: Metadata | undefined;
  /** The serialized message; `undefined` for a failure. */
  readonly message: Buffer | undefined;
  readonly status: PartialStatus;
}

/** Gets the answer of a handler before its caller does. */
export interface AnswerKeeper {
  /** The call whose answer it keeps. */
  readonly inbound: InboundCall;
  /** False: it only watches, and the answer is sent at once. */
  readonly enforced: boolean;
  /**
   * The handler has answered. The first answer counts.
   *
   * @param ran False when a policy behind the keeper refused the call, and not its handler.
   * @param send Called once, with what is sent: the answer, perhaps with more trailers, or a refusal.
   */
  keep(answer: CompleteAnswer, ran: boolean, send: (sent: CompleteAnswer | Refusal) => void): void;
}

/** The request of a call with a single request. */
export interface InboundRequest {
  readonly message: unknown;
  /** As it came. `undefined` where it cannot be had: an interceptor nearer the wire replaces the call of grpc-js. */
  readonly bytes: Uint8Array | undefined;
}

/** Decides which optional work one call leaves out. */
export interface OptionalWorkJudge {
  shouldSkip(name: string): boolean;
  /** Whether a call that leaves this work out is marked as degraded. */
  marks(name: string): boolean;
}

/** Who a caller has shown to be. grpc-js keeps the name to itself. */
export type AuthContext = ReturnType<ServerCall["getAuthContext"]>;

/** The caller of a call. Asked only on demand, because most calls do not need it. */
export type Caller = Pick<ServerCall, "getPeer" | "getAuthContext">;

/** The policies that a call passes. */
interface Row extends TellsFacts {
  stop(refused: Refusal, policy: PolicyName, enforced: boolean): void;
  /** Answers the call without its handler. */
  replay(answer: CompleteAnswer): void;
}

/** A list of nothing, for the calls to which nothing happens. */
const none: readonly never[] = Object.freeze([]);

/** Who is told of decisions. */
type Told = Pick<Environment, "onDecision" | "counter" | "traces" | "flags">;

const nobody: Told = { onDecision: undefined };

/** Of how much optional work a call keeps what flags said of it. */
const mostWork = 100;

/** How an inbound call ended. */
export type InboundEnd = "finished" | "cancelled" | "deadline";

/**
 * The record of one inbound call. AsyncLocalStorage carries it to the handler and to everything that the handler calls.
 */
export class InboundCall implements CurrentCall, TellsFacts {
  readonly method: string;
  readonly kind: CallKind;
  readonly clock: Clock;
  readonly report: ReportError;
  readonly startedAtMs: number;
  /** The caller's deadline on the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
  /** Collects what policies in mode `observe` would have refused. */
  readonly observed: ObserveReport | undefined;
  /** A span is recorded, so that decisions are kept for it. */
  recorded = false;
  priority: Priority = "normal";
  /** The caller set the priority. Only then the calls of the handler inherit it. */
  priorityMarked = false;
  /** From 0 to 127: inside a priority, lower cohorts are shed first. */
  cohort = 0;
  /** The cohort is that of a user or tenant, and not a random one. Only then the calls of the handler inherit it. */
  cohortMarked = false;
  /** Who is charged for what the call uses; `undefined` until a policy has asked. */
  caller: string | undefined;
  /** The call is arriving, in this turn of the event loop: it is as good as now that it started. */
  arriving = false;
  /** When the call was passed to its handler; `undefined` before that. */
  handlerStartedMs: number | undefined;
  /** How long such calls usually take, in milliseconds; 0 where that is not known. */
  neededMs = 0;
  /** The metadata of the request, once it has arrived. */
  metadata: Metadata | undefined;
  /** The request, for the policies that read it; once it is complete. */
  request: InboundRequest | undefined;
  /** Set by the policy that has given the call a key, where there is one. */
  idempotency: HeldKey | undefined;
  /** Set by the policy that keeps the answer, where there is one. */
  keeper: AnswerKeeper | undefined;
  /** Set by the policy that decides about optional work, where there is one. */
  optionalWork: OptionalWorkJudge | undefined;
  /** A policy of this server has answered the call, and not its handler. */
  answeredByPolicy = false;
  /**
   * The policies that the call passes. One of them may end it while its handler runs, or, not enforced, note that it
   * would.
   */
  row: Row | undefined;
  /** How it ended, where somebody keeps that. */
  ended: CallFacts | undefined;
  #decisions: Decision[] | undefined;
  /** What flags said of optional work, so that they say the same again. */
  #flagged: Map<string, boolean> | undefined;
  #failuresBelow: FailuresBelow | undefined;
  #degradations: Degradations | undefined;
  #end: InboundEnd | undefined;
  #doneAtMs: number | undefined;
  #abort: AbortController | undefined;
  #onCancelled: Set<(end: InboundEnd) => void> | undefined;
  /** Absent while nobody collects its counts. */
  readonly #counter: DecisionCounter | undefined;
  readonly #told: Told;
  readonly #caller: Caller;

  constructor(init: {
    readonly method: string;
    readonly kind: CallKind;
    readonly caller: Caller;
    readonly clock: Clock;
    readonly report: ReportError;
    readonly startedAtMs: number;
    readonly deadlineMs: number;
    readonly told?: Told;
    readonly observed?: ObserveReport | undefined;
  }) {
    this.method = init.method;
    this.kind = init.kind;
    this.clock = init.clock;
    this.report = init.report;
    this.startedAtMs = init.startedAtMs;
    this.deadlineMs = init.deadlineMs;
    this.#told = init.told ?? nobody;
    const { counter } = this.#told;
    this.#counter = counter?.idle === false ? counter : undefined;
    this.observed = init.observed;
    this.#caller = init.caller;
  }

  /** The time now on the monotonic clock, without a further reading of it while the call arrives. */
  get nowMs(): number {
    return this.arriving ? this.startedAtMs : this.clock.now();
  }

  /**
   * When the call was done, for who asks once the handler has answered or the call has ended. The first one who asks reads the
   * clock for all.
   */
  get doneAtMs(): number {
    this.#doneAtMs ??= this.clock.now();
    return this.#doneAtMs;
  }

  get peer(): string {
    return this.#caller.getPeer();
  }

  /** The identity of the caller, from grpc-js: with TLS, its certificate if it has one. */
  authContext(): AuthContext {
    return this.#caller.getAuthContext();
  }

  get previousAttempts(): number {
    return this.metadata === undefined ? 0 : readPreviousAttempts(this.metadata);
  }

  /** How many services above are retrying the call. */
  get retryDepth(): number {
    return this.metadata === undefined ? 0 : readRetryDepth(this.metadata);
  }

  shouldSkip(name: string): boolean {
    if (this.#told.flags !== undefined && this.#skipsByFlag(name, this.#told.flags)) return true;
    return this.optionalWork?.shouldSkip(name) ?? false;
  }

  #skipsByFlag(name: string, flags: Flags): boolean {
    const known = this.#flagged?.get(name);
    if (known !== undefined) return known;
    const flag = flags.skipping(name);
    this.#flagged ??= new Map();
    if (this.#flagged.size < mostWork) this.#flagged.set(name, flag !== undefined);
    if (flag === undefined) return false;
    this.decide({
      policy: "flags",
      verdict: "skip",
      reason: "BROWNOUT_FLAG",
      enforced: true,
      atMs: this.clock.now(),
      detail: `${name}: off by the flag ${flag}`,
    });
    if (this.optionalWork?.marks(name) ?? true) this.degrade(name);
    return true;
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
    return this.#degradations?.list ?? none;
  }

  degrade(name: string): void {
    this.degraded([handlerDegradation(name, this.method)]);
  }

  /** Notes that an outbound call of the handler had a degraded answer. */
  degraded(degradations: readonly Degradation[]): void {
    if (degradations.length === 0) return;
    this.#degradations ??= new Degradations();
    for (const degradation of degradations) this.#degradations.add(degradation);
  }

  /** The failures of the handler's calls so far; `undefined` without any. */
  get failuresBelow(): FailuresBelow | undefined {
    return this.#failuresBelow;
  }

  /** Notes the failure of an outbound call of the handler. */
  failedBelow(status: StatusObject): void {
    this.#failuresBelow ??= new FailuresBelow();
    this.#failuresBelow.note(status);
  }

  /** How the call ended; `undefined` while it runs. */
  get end(): InboundEnd | undefined {
    return this.#end;
  }

  /**
   * Runs `task` when the call is cancelled or runs out of time, and not when the handler answers. All outbound calls of
   * a handler share one set of tasks, so that many of them add no listeners to the call of grpc-js.
   *
   * @returns Removes the task.
   */
  onCancelled(task: (end: InboundEnd) => void): () => void {
    if (this.#end !== undefined) {
      // An outbound call that is made after its inbound call was cancelled is cancelled too, in the next tick: by then
      // its maker has it.
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

  /** The call has ended. Only the first end counts. */
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
        reportSafely(this.report, error, "inbound call cancelled");
      }
    }
  }

  [callFacts](): KnownCall | undefined {
    return this.ended === undefined ? this.row?.[callFacts]() : knownCall(this.ended, this.clock);
  }

  get decisions(): readonly Decision[] {
    return this.#decisions ?? none;
  }

  /** Nobody is told of decisions, so that none need be made. */
  get silent(): boolean {
    return !this.recorded && this.#told.onDecision === undefined && this.#counter === undefined;
  }

  /** A function of the user's is told of decisions. */
  get hasObserver(): boolean {
    return this.#told.onDecision !== undefined;
  }

  /** Notes a decision. */
  note(decision: Decision): void {
    this.#decisions ??= [];
    this.#decisions.push(decision);
  }

  /** Notes a decision, counts it and tells the observer. */
  decide(decision: Decision): void {
    this.note(decision);
    this.#counter?.count(decision, "server", this.priority);
    const { onDecision, traces } = this.#told;
    if (onDecision === undefined) return;
    const { method, priority } = this;
    const event: DecisionEvent = {
      ...decision,
      method,
      target: "",
      side: "server",
      epochMs: this.clock.wallNow(),
      priority,
      ...traces?.active(),
    };
    notify(onDecision, event, this.report, "onDecision");
  }
}

const storage = processWide("inbound call", () => new AsyncLocalStorage<InboundCall | undefined>());

/** The inbound call that the running code serves, for the toolkit's own use. */
export function currentInbound(): InboundCall | undefined {
  return storage.getStore();
}

/**
 * The inbound call that the running code serves; `undefined` outside of a handler and inside `detached`. It needs the
 * interceptors of `weir.server`, or `context` from `grpc-weir/server`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/context.md
 */
export function currentCall(): CurrentCall | undefined {
  return storage.getStore();
}

/** Runs `fn` with this call as the current one. */
export function runInbound<A extends unknown[], R>(
  call: InboundCall,
  fn: (...args: A) => R,
  ...args: A
): R {
  return storage.run(call, fn, ...args);
}

/**
 * Runs `fn` outside of the inbound call: calls made in it inherit no deadline, no cancellation and no priority. For
 * work that must outlive the answer, such as an audit record.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/context.md
 */
export function detached<R>(fn: () => R): R {
  return storage.run(undefined, fn);
}
