import { connectivityState, type StatusObject } from "@grpc/grpc-js";
import { type Clock, type Random, systemClock, systemRandom } from "../core/clock.js";
import { ObserveReport } from "../core/control.js";
import type { DecisionCounter, DecisionEvent } from "../core/decision.js";
import { InvalidOptionError, optionalFunction, readOptions } from "../core/options.js";
import { refusal } from "../core/permit.js";
import {
  type ResetBudgets,
  resolveResetOptions,
  sharedResetBudgets,
} from "../core/reset-budget.js";
import { type Observer, type ReportError, userClock, userRandom, warn } from "../core/user-code.js";
import type { Flags } from "../policies/flags/flags.js";
import { BudgetStore } from "../policies/retry/budget.js";
import type { ChannelWatch } from "./channel/watch.js";
import type { TraceIds } from "./context/finished-call.js";
import type { History } from "./context/history.js";
import { channelClosedStatus } from "./status/local.js";
import { UnknownTexts } from "./status/origin.js";
import { localRejection } from "./status/rejection.js";

/** What all interceptors of a weir share: clock, chance, observers, and state that belongs to no single policy. */
export interface Environment {
  readonly clock: Clock;
  readonly random: Random;
  /** Receives what functions of the user's throw. */
  readonly report: ReportError;
  /** Notified of every decision, after it was taken. */
  readonly onDecision: Observer<DecisionEvent> | undefined;
  /** Counts every decision. Absent without metrics. */
  readonly counter?: DecisionCounter | undefined;
  readonly pendingCalls: PendingCalls;
  /** Retry budgets, by their options. */
  readonly budgets: BudgetStore;
  /** What policies in mode `observe` would have refused. */
  readonly observed: ObserveReport;
  /** Receives status texts that no version of Node or grpc-js is known to make. */
  readonly unknownTexts: UnknownTexts;
  /** The `target` option of a standalone interceptor. */
  readonly target?: string | undefined;
  /** How many streams may still be reset on each connection; `undefined` where nobody counts them. */
  readonly resets: ResetBudgets | undefined;
  /** Notified of every call that ends. Absent where nobody keeps calls. */
  readonly history?: History | undefined;
  /** Absent where nobody traces. */
  readonly traces?: TraceReader | undefined;
  /** Absent where no flags were given. */
  readonly flags?: Flags | undefined;
}

/** Reads which trace a call belongs to. The telemetry has it, so that calls need not know OpenTelemetry. */
export interface TraceReader {
  /** The span that is active now. */
  readonly active: () => TraceIds | undefined;
  /** The span of a client call, by what the telemetry keeps of the call. */
  readonly of: (trace: unknown) => TraceIds | undefined;
}

/**
 * The part of the environment that a user can set.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface EnvironmentOptions {
  /** The source of time. @defaultValue the system's clocks and timers */
  readonly clock?: Clock;
  /** The source of chance. @defaultValue the system's */
  readonly random?: Random;
  /**
   * Notified of every decision of every policy, after it was taken. An error that it throws does not affect the call.
   */
  readonly onDecision?: Observer<DecisionEvent>;
  /** Notified of errors that functions of yours have thrown. @defaultValue emits a process warning */
  readonly onError?: ReportError;
}

const environmentKeys = ["clock", "random", "onDecision", "onError"] as const;

/** The names of the options in {@link EnvironmentOptions}, for policies that accept them beside their own. */
export const environmentOptionNames: readonly string[] = environmentKeys;

/**
 * Takes the environment's options out of those of a policy. The policy refuses the names that it does not know in the
 * rest.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function takeEnvironment<O extends EnvironmentOptions>(
  given: O,
  prefix: string,
): { readonly environment: Environment; readonly rest: Omit<O, keyof EnvironmentOptions> } {
  const options = readOptions(prefix, given);
  const { clock, random, onDecision, onError, ...rest } = options;
  return { environment: environmentOf({ clock, random, onDecision, onError }, prefix), rest };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function environmentOf(
  options: { readonly [K in keyof EnvironmentOptions]: EnvironmentOptions[K] | undefined },
  prefix: string,
): Environment {
  const { clock: time = systemClock, random: chance = systemRandom, onDecision, onError } = options;
  for (const method of ["now", "wallNow", "schedule", "afterPoll"] as const) {
    if (typeof time?.[method] !== "function") {
      throw new InvalidOptionError(`${prefix}.clock`, `a clock: it has no ${method}()`, time);
    }
  }
  optionalFunction(`${prefix}.random`, chance);
  optionalFunction(`${prefix}.onDecision`, onDecision);
  optionalFunction(`${prefix}.onError`, onError);
  const report = onError ?? warn;
  const clock = userClock(time, report);
  const random = chance === systemRandom ? chance : userRandom(chance, report);
  return {
    clock,
    random,
    onDecision,
    report,
    pendingCalls: new PendingCalls(),
    budgets: new BudgetStore(clock),
    observed: new ObserveReport(),
    unknownTexts: new UnknownTexts(report),
    resets: sharedResetBudgets(resolveResetOptions(), clock),
  };
}

/** Ends a waiting call with this status. */
export type EndWaiting = (closed: StatusObject) => void;

/**
 * The client calls and guarded runs that wait: in a queue, for the next attempt, or for a fallback. When the weir is
 * closed, or the channel of a call, they end with UNAVAILABLE (reason `CLOSED`), so that no caller waits for ever.
 */
export class PendingCalls {
  /** Each with the function that ends its subscription to the channel. */
  readonly #calls = new Map<EndWaiting, (() => void) | undefined>();
  #closed = false;

  get closed(): boolean {
    return this.#closed;
  }

  /** How many wait now. */
  get size(): number {
    return this.#calls.size;
  }

  /** The status of a call that would begin or wait now; `undefined` while the weir and the call's channel are open. */
  closing(connection?: ChannelWatch): StatusObject | undefined {
    if (this.#closed) return closedStatus();
    return connection?.closed === true ? channelClosedStatus() : undefined;
  }

  /** Adds a call. If the weir or its channel is closed already, `end` is called at once. */
  enter(end: EndWaiting, connection?: ChannelWatch): void {
    const closed = this.closing(connection);
    if (closed !== undefined) {
      end(closed);
      return;
    }
    this.#calls.set(
      end,
      connection?.subscribe((state) => {
        if (state !== connectivityState.SHUTDOWN) return;
        this.leave(end);
        end(channelClosedStatus());
      }),
    );
  }

  /** Removes a call that waits no longer. */
  leave(end: EndWaiting): void {
    this.#calls.get(end)?.();
    this.#calls.delete(end);
  }

  /** The weir is closed: ends all calls. */
  close(): void {
    this.#closed = true;
    for (const end of this.#calls.keys()) {
      this.leave(end);
      end(closedStatus());
    }
  }
}

/** The status of a call that began or waited when the weir was closed. */
function closedStatus(): StatusObject {
  return localRejection(refusal("CLOSED", "The weir is closed"));
}
