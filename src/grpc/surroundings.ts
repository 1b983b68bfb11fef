import { BudgetStore } from "../core/budget-store.js";
import { type Clock, systemClock } from "../core/clock.js";
import { ObserveReport } from "../core/observe-report.js";
import { InvalidOptionError, optionalFunction, readOptions } from "../core/options.js";
import { type Random, systemRandom } from "../core/random.js";
import {
  type ResetBudgets,
  resolveResetOptions,
  sharedResetBudgets,
} from "../core/reset-budget.js";
import { type Observer, type ReportError, userClock, userRandom, warn } from "../core/user-code.js";
import type { DecisionEvent } from "./call-record.js";
import { UnknownTexts } from "./status-origin.js";
import { WaitingRoom } from "./waiting-room.js";

/** What every interceptor works with and no policy decides. */
export interface Surroundings {
  readonly clock: Clock;
  readonly random: Random;
  /** Where errors of the user's own functions go. */
  readonly report: ReportError;
  /** Told of every decision, after it was taken. */
  readonly onDecision: Observer<DecisionEvent> | undefined;
  readonly room: WaitingRoom;
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
export interface SurroundingsOptions {
  /** Time. @defaultValue the system's */
  readonly clock?: Clock;
  /** Chance. @defaultValue the system's */
  readonly random?: Random;
  /** Told of every decision of every policy, after it was taken. What it throws costs the call nothing. */
  readonly onDecision?: Observer<DecisionEvent>;
  /** Told of errors that functions handed in by the user have thrown. @defaultValue a process warning */
  readonly onError?: ReportError;
}

const surroundingsKeys = ["clock", "random", "onDecision", "onError"] as const;

/** Names of the options in {@link SurroundingsOptions}, for policies that take them beside their own. */
export const surroundingsOptionNames: readonly string[] = surroundingsKeys;

/**
 * Takes what surrounds a policy out of its options, so that the policy sees only its own and can refuse the rest.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function takeSurroundings<O extends SurroundingsOptions>(
  given: O,
  prefix: string,
): { readonly surroundings: Surroundings; readonly rest: Omit<O, keyof SurroundingsOptions> } {
  // Refuses what is no object of options; which keys are known is the policy's to say.
  const options = readOptions(prefix, given);
  const { clock, random, onDecision, onError, ...rest } = options;
  return { surroundings: surroundingsOf({ clock, random, onDecision, onError }, prefix), rest };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function surroundingsOf(
  options: { readonly [K in keyof SurroundingsOptions]: SurroundingsOptions[K] | undefined },
  prefix: string,
): Surroundings {
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
    room: new WaitingRoom(),
    budgets: new BudgetStore(clock),
    observed: new ObserveReport(),
    unknownTexts: new UnknownTexts(report),
    resets: sharedResetBudgets(resolveResetOptions(), clock),
  };
}
