import { connectivityState, type StatusObject } from "@grpc/grpc-js";
import { type Clock, type Random, systemClock, systemRandom } from "../core/clock.js";
import { ObserveReport } from "../core/control.js";
import type { DecisionEvent } from "../core/decision.js";
import { InvalidOptionError, isRecord, optionalFunction, readOptions } from "../core/options.js";
import { refusal } from "../core/permit.js";
import {
  type ResetBudgets,
  resolveResetOptions,
  sharedResetBudgets,
} from "../core/reset-budget.js";
import { type Observer, type ReportError, userClock, userRandom, warn } from "../core/user-code.js";
import { BudgetStore } from "../policies/retry/budget.js";
import type { ChannelWatch } from "./channel/watch.js";
import { channelClosedStatus } from "./status/local.js";
import { UnknownTexts } from "./status/origin.js";
import { localRejection } from "./status/rejection.js";

/** What every interceptor works with and no policy decides. */
export interface Environment {
  readonly clock: Clock;
  readonly random: Random;
  /** Where errors of the user's own functions go. */
  readonly report: ReportError;
  /** Told of every decision, after it was taken. */
  readonly onDecision: Observer<DecisionEvent> | undefined;
  readonly pendingCalls: PendingCalls;
  readonly budgets: BudgetStore;
  /** What policies that observe would have refused. */
  readonly observed: ObserveReport;
  /** Where status texts go that no version of Node or grpc-js is known to make. */
  readonly unknownTexts: UnknownTexts;
  /** The target of the calls, where a user said it of interceptors that stand alone. */
  readonly target?: string | undefined;
  /** The resets of streams that connections bear; `undefined` where nobody counts them. */
  readonly resets: ResetBudgets | undefined;
}

/** What can be handed in from outside. */
export interface EnvironmentOptions {
  /** Time. @defaultValue the system's */
  readonly clock?: Clock;
  /** Chance. @defaultValue the system's */
  readonly random?: Random;
  /** Told of every decision of every policy, after it was taken. What it throws costs the call nothing. */
  readonly onDecision?: Observer<DecisionEvent>;
  /** Told of errors that functions handed in by the user have thrown. @defaultValue a process warning */
  readonly onError?: ReportError;
}

const environmentKeys = ["clock", "random", "onDecision", "onError"] as const;

/** Names of the options in {@link EnvironmentOptions}, for policies that take them beside their own. */
export const environmentOptionNames: readonly string[] = environmentKeys;

/**
 * Takes what surrounds a policy out of its options, so that the policy sees only its own and can refuse the rest.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function takeEnvironment<O extends EnvironmentOptions>(
  given: O,
  prefix: string,
): { readonly environment: Environment; readonly rest: Omit<O, keyof EnvironmentOptions> } {
  // Refuses what is no object of options; which keys are known is the policy's to say.
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

/** Ends a waiting call with the status it is given. */
export type EndWaiting = (closed: StatusObject) => void;

/**
 * The calls that wait for something: for a turn in a queue, for the next attempt, for a fallback. Closing the room, or
 * the channel of a call, ends them with UNAVAILABLE (reason `CLOSED`): nothing runs after the weir is closed, nothing
 * waits for a channel that is gone, and no caller is left without an answer.
 */
export class PendingCalls {
  /** With what takes each away from its channel. */
  readonly #calls = new Map<EndWaiting, (() => void) | undefined>();
  #closed = false;

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls that wait now. */
  get size(): number {
    return this.#calls.size;
  }

  /** What a call ends with that is made or would wait now; `undefined` while the weir and its channel are open. */
  closing(connection?: ChannelWatch): StatusObject | undefined {
    if (this.#closed) return closedStatus();
    return connection?.closed === true ? channelClosedStatus() : undefined;
  }

  /** Where everything is closed already, `end` is called at once. */
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

  leave(end: EndWaiting): void {
    this.#calls.get(end)?.();
    this.#calls.delete(end);
  }

  close(): void {
    this.#closed = true;
    for (const end of this.#calls.keys()) {
      this.leave(end);
      end(closedStatus());
    }
  }
}

/** The status of a call that was made or waited when the weir was closed. */
function closedStatus(): StatusObject {
  return localRejection(refusal("CLOSED", "The weir is closed"));
}

/**
 * Checks what a user adds of their own to the options of a client or server: grpc-js would only notice it in the first call.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function checkOwn(option: string, own: object, lists: readonly string[]): void {
  if (!isRecord(own)) throw new InvalidOptionError(option, "an object of options", own);
  for (const name of lists) {
    const list = own[name];
    if (list === undefined) continue;
    if (!Array.isArray(list) || list.some((entry) => typeof entry !== "function")) {
      throw new InvalidOptionError(`${option}.${name}`, "an array of functions", list);
    }
  }
}
