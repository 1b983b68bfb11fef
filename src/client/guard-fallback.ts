import type { Mode } from "../core/mode.js";
import { durationMs, InvalidOptionError, optionalFunction, readOptions } from "../core/options.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import { ask, given, yesOrNo } from "../core/user-code.js";
import type { GuardedWork } from "./guard-life.js";
import type { GuardFallbackOptions } from "./guard-options.js";
import { type GuardScope, takeMode } from "./guard-policies.js";
import { neverAborted } from "./guard-signal.js";

/** What answers in place of guarded work. */
export class GuardFallback<F> implements ControlledPolicy {
  mode: Mode;
  readonly timeoutMs: number;
  /** How often it was asked and had an answer, or had none. Both only grow. */
  readonly counts = { answered: 0, unanswered: 0 };
  readonly #options: GuardFallbackOptions<F>;
  readonly #scope: GuardScope;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(its: GuardFallbackOptions<F>, scope: GuardScope, prefix: string) {
    const options = readOptions(prefix, its, ["mode", "timeoutMs", "when", "answer", "value"]);
    const { mode, rest } = takeMode(options, prefix);
    this.mode = mode;
    this.timeoutMs = durationMs(`${prefix}.timeoutMs`, rest.timeoutMs ?? 1_000, 1);
    optionalFunction(`${prefix}.when`, rest.when);
    optionalFunction(`${prefix}.answer`, rest.answer);
    if ((rest.answer === undefined) === !("value" in options)) {
      throw new InvalidOptionError(`${prefix}`, "with an answer or a value, and not both", options);
    }
    this.#options = options;
    this.#scope = scope;
  }

  wants(error: unknown): boolean {
    const { when } = this.#options;
    if (when === undefined) return true;
    return ask(() => when(error), yesOrNo, false, this.#scope.report, "guard.fallback.when");
  }

  /** The work that gives the answer to an error. */
  answerTo(error: unknown): GuardedWork<F> {
    const { answer, value } = this.#options;
    if (answer === undefined) return () => value;
    // A signal is made for functions that declare one.
    return answer.length < 2
      ? () => given(() => answer(error, neverAborted))
      : (signal) => given(() => answer(error, signal));
  }

  snapshot(): { readonly answered: number; readonly unanswered: number } {
    return { ...this.counts };
  }
}
