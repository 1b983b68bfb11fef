import type { Clock } from "../../core/clock.js";
import { type Mode, type ModeFromOutside, modes } from "../../core/control.js";
import type { Decision, DecisionCounter, DecisionEvent, Reason } from "../../core/decision.js";
import type { Gauges } from "../../core/gauges.js";
import { boundedKey, Keyed } from "../../core/keyed.js";
import { shown } from "../../core/options.js";
import { type Refusal, refusal } from "../../core/permit.js";
import {
  ask,
  callSafely,
  keyText,
  notify,
  type Observer,
  type ReportError,
  reportSafely,
  yesOrNo,
} from "../../core/user-code.js";
import { killAll, killFlags, modeFlag, skipFlag } from "./names.js";
import type { FlagSource, FlagValue } from "./source.js";

/**
 * One change of a flag.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export interface FlagChange {
  readonly flag: string;
  /** `undefined`: it was not set. */
  readonly from: FlagValue | undefined;
  /** `undefined`: it is not set any more. */
  readonly to: FlagValue | undefined;
  /** Who set it, where the source knows that. */
  readonly setBy?: string;
  /** When this process noticed, in milliseconds since the Unix epoch. */
  readonly epochMs: number;
}

/**
 * The flags of a weir, as it knows them now.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export interface FlagsSnapshot {
  /** The name of their source. */
  readonly source: string;
  /** The source cannot be reached: the values are the last ones that are known. */
  readonly away: boolean;
  /** The flags that are set, of those that are known to the source or were needed here. */
  readonly values: Readonly<Record<string, FlagValue>>;
  /** The latest changes, the last one first. */
  readonly changes: readonly FlagChange[];
  /** Calls and attempts that were refused because they are switched off. Only grows. */
  readonly killed: number;
  /** How often optional work was left out because a flag says so. Only grows. */
  readonly skipped: number;
}

/** Who is told of changes, and what flags need besides. */
interface FlagsEnvironment {
  readonly clock: Clock;
  readonly report: ReportError;
  readonly onDecision: Observer<DecisionEvent> | undefined;
  readonly counter?: DecisionCounter | undefined;
}

/** How many changes are kept for snapshots. */
const keptChanges = 50;
/** How many values are known at most: a source may say yes to any name. */
const mostKnown = 1_000;

/** Something that is off while one of its flags is true. */
interface Switch {
  /** The most general one first. */
  readonly flags: readonly string[];
  /** The first flag that is true now. */
  onBy: string | undefined;
}

/**
 * What a weir makes of the flags of a source: which methods are switched off, which optional work is left out, and which mode
 * policies have. All of it is worked out when the source says that something has changed, so that a call only looks its method
 * up.
 *
 * A flag never fails a call. A value that makes no sense counts as not set, and is reported once; while the source throws, its
 * last values hold.
 */
export class Flags {
  readonly #source: FlagSource;
  readonly #environment: FlagsEnvironment;
  readonly #unsubscribe: () => void;
  #onModes: (() => void) | undefined;
  readonly #methods = new Keyed((path: string) => this.#newSwitch(killFlags(path)));
  readonly #works = new Keyed((work: string) => this.#newSwitch([skipFlag(work)]));
  /** A method was switched off at the last change, or has been found to be since. */
  #killing = false;
  /** The values of the flags that are set, of those that were read. */
  readonly #known = new Map<string, FlagValue>();
  /** What was reported of a flag: a value that makes no sense, or that it could not be read. */
  readonly #wrong = new Map<string, unknown>();
  #away = false;
  #changes: readonly FlagChange[] = [];
  /** Decisions that nobody was told of yet: they are told when they have taken effect. */
  #untold: Decision[] = [];
  #killed = 0;
  #skipped = 0;
  #closed = false;

  constructor(source: FlagSource, environment: FlagsEnvironment) {
    this.#source = source;
    this.#environment = environment;
    const subscribe = () => source.onChange(() => this.#changed());
    const { report } = environment;
    this.#unsubscribe = ask(subscribe, stopping, () => {}, report, "flags.onChange");
    this.#changed();
  }

  /** Calls `apply` now and after each change, for whoever gives policies the modes that flags ask for. */
  followModes(apply: () => void): void {
    this.#onModes = apply;
    apply();
    this.#tell();
  }

  /** Whether a method may be switched off now. While it is false, none is that was called before. */
  get killing(): boolean {
    return this.#killing;
  }

  /** The refusal of a call, given by the path of its method; `undefined` while that is not switched off. */
  refusalOf(path: string): Refusal | undefined {
    const { onBy } = this.#methods.get(boundedKey(path));
    if (this.#untold.length > 0) this.#tell();
    if (onBy === undefined) return undefined;
    this.#killed += 1;
    return refusal("KILLED", `by the flag ${onBy} (${this.#source.name})`);
  }

  /** The flag by which a piece of optional work is left out; `undefined` while it is not. */
  skipping(work: string): string | undefined {
    const { onBy } = this.#works.get(boundedKey(work));
    if (this.#untold.length > 0) this.#tell();
    if (onBy !== undefined) this.#skipped += 1;
    return onBy;
  }

  /** The mode that flags give a policy. */
  readonly mode: ModeFromOutside = (policy, builtFor) => {
    const own = builtFor === undefined ? undefined : this.#modeBy(modeFlag(policy, builtFor));
    const ofAll = this.#modeBy(modeFlag(policy));
    return own ?? ofAll;
  };

  snapshot(): FlagsSnapshot {
    return {
      source: this.#source.name,
      away: this.#away,
      values: Object.fromEntries(this.#known),
      changes: this.#changes,
      killed: this.#killed,
      skipped: this.#skipped,
    };
  }

  measure(gauges: Gauges): void {
    gauges.note("storeAway", this.#away ? 1 : 0, { policy: "flags" });
    for (const [flag, value] of this.#known) if (value !== false) gauges.note("flag", 1, { flag });
  }

  /** Listens to the source no more. What is switched off now stays so. */
  close(): void {
    this.#closed = true;
    this.#onModes = undefined;
    const { report } = this.#environment;
    callSafely(this.#unsubscribe, report, "flags.onChange");
  }

  #changed(): void {
    if (this.#closed) return;
    for (const flag of new Set([...this.#known.keys(), ...this.#names()])) this.#read(flag);
    let killing = this.#isOn(killAll);
    for (const [, method] of this.#methods.entries()) {
      method.onBy = this.#onBy(method.flags);
      killing ||= method.onBy !== undefined;
    }
    this.#killing = killing;
    for (const [, work] of this.#works.entries()) work.onBy = this.#onBy(work.flags);
    this.#onModes?.();
    this.#noteAway();
    this.#tell();
  }

  /** Made when a method is called, or work is asked for, for the first time. */
  #newSwitch(flags: readonly string[]): Switch {
    const onBy = this.#onBy(flags);
    if (onBy !== undefined) this.#killing = true;
    return { flags, onBy };
  }

  /** All flags are read, so that a source which learns by being asked what is needed learns all. */
  #onBy(flags: readonly string[]): string | undefined {
    return flags.filter((flag) => this.#isOn(flag))[0];
  }

  #isOn(flag: string): boolean {
    const value = this.#read(flag);
    if (value === undefined || typeof value === "boolean") return value === true;
    this.#makesNoSense(flag, value, "true or false");
    return false;
  }

  #modeBy(flag: string): Mode | undefined {
    const value = this.#read(flag);
    if (value === undefined) return undefined;
    const mode = modes.find((one) => one === value);
    if (mode === undefined) this.#makesNoSense(flag, value, `one of ${modes.join(", ")}`);
    return mode;
  }

  /** The value of a flag now. Notes a change of it. */
  #read(flag: string): FlagValue | undefined {
    const before = this.#known.get(flag);
    const value = ask(
      () => this.#source.flag(flag),
      (answer) => this.#readValue(flag, answer),
      unread,
      (error) => this.#complain(flag, unread, error),
      "flags.flag",
    );
    if (value === unread) return before;
    if (value === before) return value;
    // A flag that is false is as good as not set: a source may say so of every name.
    const changes = (value ?? false) !== (before ?? false);
    if (value === undefined) this.#known.delete(flag);
    else if (before !== undefined || (changes && this.#known.size < mostKnown)) {
      this.#known.set(flag, value);
    } else return value;
    if (changes) this.#noteChange(flag, before, value);
    return value;
  }

  #readValue(flag: string, answer: unknown): FlagValue | undefined {
    if (this.#wrong.size > 0 && this.#wrong.get(flag) !== answer) this.#wrong.delete(flag);
    if (answer === undefined || answer === null) return undefined;
    if (typeof answer === "boolean" || typeof answer === "string") return answer;
    this.#makesNoSense(flag, answer, "true, false or a text");
    return undefined;
  }

  #makesNoSense(flag: string, value: unknown, rule: string): void {
    const text = `The flag ${flag} must be ${rule}, got ${shown(value)}: it counts as not set`;
    this.#complain(flag, value, new Error(text));
  }

  /** Reports what is wrong with a flag, once as long as it stays so. */
  #complain(flag: string, what: unknown, error: unknown): void {
    if (this.#wrong.get(flag) === what) return;
    if (this.#wrong.size >= mostKnown) this.#wrong.clear();
    this.#wrong.set(flag, what);
    reportSafely(this.#environment.report, error, `flags (${this.#source.name})`);
  }

  /** The flags that are set, where the source knows them. */
  #names(): readonly string[] {
    const { report } = this.#environment;
    return ask(() => this.#source.names?.(), namesIn, [], report, "flags.names");
  }

  #noteChange(flag: string, from: FlagValue | undefined, to: FlagValue | undefined): void {
    const { report, clock } = this.#environment;
    const setBy = ask(() => this.#source.setBy?.(flag), keyText, undefined, report, "flags.setBy");
    const by = setBy === undefined ? {} : { setBy };
    const change = { flag, from, to, ...by, epochMs: clock.wallNow() };
    this.#changes = [change, ...this.#changes.slice(0, keptChanges - 1)];
    const who = setBy === undefined ? "" : `, by ${setBy}`;
    this.#note("FLAG_CHANGED", `${flag}: ${valueText(from)} → ${valueText(to)}${who}`);
  }

  #noteAway(): void {
    const { report } = this.#environment;
    const away = ask(() => this.#source.away, yesOrNo, this.#away, report, "flags.away");
    if (away === this.#away) return;
    this.#away = away;
    if (away) this.#note("STORE_AWAY", "cannot be reached, so the last known values hold");
    else this.#note(undefined, "can be reached again");
  }

  #note(reason: Reason | undefined, what: string): void {
    const atMs = this.#environment.clock.now();
    const detail = `${this.#source.name}: ${what}`;
    const why = reason === undefined ? {} : { reason };
    this.#untold.push({ policy: "flags", verdict: "switch", ...why, enforced: true, atMs, detail });
  }

  #tell(): void {
    const { onDecision, counter, clock, report } = this.#environment;
    for (const decision of this.#untold.splice(0)) {
      counter?.count(decision, "process", undefined);
      const event = { ...decision, ...ofNoCall, epochMs: clock.wallNow() };
      notify(onDecision, event, report, "onDecision");
    }
  }
}

/** In the place of a value: the source threw, or did not answer at once. */
const unread = Symbol("unread");

/** A decision of the whole process. */
const ofNoCall = { method: "", target: "", side: "process" } as const;

function valueText(value: FlagValue | undefined): string {
  return value === undefined ? "not set" : String(value);
}

function stopping(answer: unknown): () => void {
  if (typeof answer !== "function") throw new TypeError("it gave no way to stop listening");
  return () => answer();
}

function namesIn(answer: unknown): readonly string[] {
  if (answer === undefined) return [];
  const names: string[] = [];
  for (const name of answer as Iterable<unknown>) {
    if (typeof name === "string" && names.length < mostKnown) names.push(name);
  }
  return names;
}
