import { type Clock, type Random, systemClock, systemRandom } from "../../core/clock.js";
import { Keyed } from "../../core/keyed.js";
import {
  durationMs,
  InvalidOptionError,
  nameText,
  optionalFunction,
  readOptions,
} from "../../core/options.js";
import { Polling, type PollingOptions } from "../../core/polling.js";
import {
  answerOf,
  ask,
  callSafely,
  type ReportError,
  reportSafely,
  userClock,
  userRandom,
  warn,
} from "../../core/user-code.js";
import { FlagListeners, type FlagSource, type FlagValue } from "./source.js";

/**
 * What an OpenFeature client answers.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export interface OpenFeatureDetails<T> {
  readonly value: T;
  readonly errorCode?: string;
  readonly errorMessage?: string;
}

/**
 * The part of a client of `@openfeature/server-sdk` that the toolkit uses.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export interface OpenFeatureClient {
  getBooleanDetails(flagKey: string, otherwise: boolean): Promise<OpenFeatureDetails<boolean>>;
  getStringDetails(flagKey: string, otherwise: string): Promise<OpenFeatureDetails<string>>;
  addHandler(event: OpenFeatureEvent, handler: () => void): void;
  removeHandler(event: OpenFeatureEvent, handler: () => void): void;
}

/**
 * The events of a provider that concern the values of its flags.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export type OpenFeatureEvent =
  | "PROVIDER_READY"
  | "PROVIDER_CONFIGURATION_CHANGED"
  | "PROVIDER_STALE"
  | "PROVIDER_ERROR";

/**
 * Options of `openFeatureFlags`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export interface OpenFeatureFlagsOptions extends PollingOptions {
  /**
   * Flags that are evaluated from the start, such as `kill.shop.v1.Orders`, so that they hold for the first call. OpenFeature
   * does not say which flags there are: others are evaluated when the process first needs them, and hold a moment later.
   * @defaultValue none
   */
  readonly names?: readonly string[];
  /**
   * What a flag is called in OpenFeature. @defaultValue its name, with `.` in place of what is no letter, digit, `.`, `_` or
   * `-`, because most providers allow nothing else: `kill.shop.v1.Orders.Place`
   */
  readonly key?: (name: string) => string;
  /** How long the provider may take to evaluate, in milliseconds, from 1 ms to 24 days. @defaultValue 1_000 */
  readonly timeoutMs?: number;
  /** The source of time. @defaultValue the system's clocks and timers */
  readonly clock?: Clock;
  /** The source of chance. @defaultValue the system's */
  readonly random?: Random;
  /** Notified once of what goes wrong. @defaultValue emits a process warning */
  readonly onError?: ReportError;
}

/**
 * Flags of OpenFeature.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export interface OpenFeatureFlags extends FlagSource {
  readonly name: "openfeature";
  /**
   * Resolves when the flags in `names` have been evaluated, or after `firstValuesMs`. True when they have been. Await it before
   * the server listens.
   */
  readonly ready: Promise<boolean>;
  readonly away: boolean;
  /** Listens and evaluates no more. The last values hold. */
  close(): void;
}

/**
 * Flags of a client of `@openfeature/server-sdk`, and so of any provider. They are evaluated when the provider says that
 * something has changed, and at intervals, and never while a call waits: a call sees the last values. The evaluation context is
 * that of the client; there is none for a call.
 *
 * Flags that begin with `mode.` are texts, where an empty one means that it is not set; all others are booleans. A flag that
 * the provider does not have is not set. While the provider fails, the last values hold.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export function openFeatureFlags(
  client: OpenFeatureClient,
  options: OpenFeatureFlagsOptions = {},
): OpenFeatureFlags {
  return new EvaluatedFlags(client, options);
}

const optionNames = [
  "names",
  "key",
  "timeoutMs",
  "clock",
  "random",
  "onError",
  "pollMs",
  "firstValuesMs",
] as const satisfies readonly (keyof OpenFeatureFlagsOptions)[];

/** A flag that is evaluated from now on. */
interface Evaluated {
  readonly name: string;
  readonly key: string;
  value: FlagValue | undefined;
  /** The error code that was reported of it. */
  wrong: string | undefined;
}

/** What an evaluation came to: a value, none, or that the provider could not tell. */
type Answer = { readonly value: FlagValue | undefined } | "unknown";

const changes = ["PROVIDER_READY", "PROVIDER_CONFIGURATION_CHANGED"] as const;
const troubles = ["PROVIDER_STALE", "PROVIDER_ERROR"] as const;

class EvaluatedFlags implements OpenFeatureFlags {
  readonly name = "openfeature";
  away = false;
  readonly #client: OpenFeatureClient;
  readonly #clock: Clock;
  readonly #report: ReportError;
  readonly #timeoutMs: number;
  readonly #polling: Polling;
  readonly #listeners: FlagListeners;
  readonly #keyOf: (name: string) => string;
  readonly #pinned = new Map<string, Evaluated>();
  /** Flags that the process has needed. Those that it needed longest ago are forgotten. */
  readonly #needed = new Keyed((name: string) => this.#isNeeded(name));
  /** Flags are needed that were not evaluated yet. */
  #evaluatesSoon = false;
  #closed = false;

  constructor(client: OpenFeatureClient, given: OpenFeatureFlagsOptions) {
    const options = readOptions("openFeatureFlags", given, optionNames);
    for (const method of ["getBooleanDetails", "getStringDetails", "addHandler"] as const) {
      if (typeof client?.[method] !== "function") {
        const rule = `a client of @openfeature/server-sdk: it has no ${method}()`;
        throw new InvalidOptionError("openFeatureFlags", rule, client);
      }
    }
    const { names = [], key, timeoutMs = 1_000, onError, random = systemRandom } = options;
    optionalFunction("openFeatureFlags.key", key);
    optionalFunction("openFeatureFlags.random", random);
    this.#report = optionalFunction("openFeatureFlags.onError", onError) ?? warn;
    this.#timeoutMs = durationMs("openFeatureFlags.timeoutMs", timeoutMs, 1);
    this.#client = client;
    this.#clock = userClock(options.clock ?? systemClock, this.#report);
    this.#listeners = new FlagListeners(this.#report);
    this.#keyOf = (name) =>
      key === undefined
        ? usualKey(name)
        : ask(() => key(name), keyIn, usualKey(name), this.#report, "openFeatureFlags.key");
    if (!Array.isArray(names)) {
      throw new InvalidOptionError("openFeatureFlags.names", "an array of names", names);
    }
    for (const [index, name] of names.entries()) {
      nameText(`openFeatureFlags.names[${index}]`, name);
      this.#pinned.set(name, this.#newFlag(name));
    }
    const chance = { clock: this.#clock, random: userRandom(random, this.#report) };
    this.#polling = new Polling(() => this.#evaluateAll(), options, chance, "openFeatureFlags");
    const where = "openFeatureFlags.addHandler";
    for (const event of changes) {
      callSafely(() => client.addHandler(event, this.#changed), this.#report, where);
    }
    for (const event of troubles) {
      callSafely(() => client.addHandler(event, this.#troubled), this.#report, where);
    }
    this.#polling.now();
  }

  get ready(): Promise<boolean> {
    return this.#polling.ready;
  }

  flag(name: string): FlagValue | undefined {
    return (this.#pinned.get(name) ?? this.#needed.get(name)).value;
  }

  onChange(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }

  close(): void {
    this.#closed = true;
    this.#polling.close();
    this.#listeners.clear();
    const where = "openFeatureFlags.removeHandler";
    for (const event of changes) {
      callSafely(() => this.#client.removeHandler(event, this.#changed), this.#report, where);
    }
    for (const event of troubles) {
      callSafely(() => this.#client.removeHandler(event, this.#troubled), this.#report, where);
    }
  }

  readonly #changed = (): void => this.#polling.now();

  readonly #troubled = (): void => {
    if (!this.#closed) this.#setAway(true);
  };

  #setAway(away: boolean): void {
    if (this.away === away) return;
    this.away = away;
    this.#listeners.tell();
  }

  #isNeeded(name: string): Evaluated {
    if (!this.#evaluatesSoon) {
      this.#evaluatesSoon = true;
      // Not now: this is inside of a call. All that the call needs is evaluated together.
      queueMicrotask(() => {
        this.#evaluatesSoon = false;
        this.#polling.now();
      });
    }
    return this.#newFlag(name);
  }

  #newFlag(name: string): Evaluated {
    return { name, key: this.#keyOf(name), value: undefined, wrong: undefined };
  }

  /** False when the provider could not tell of one of them, or was too slow. */
  async #evaluateAll(): Promise<boolean> {
    const flags = [...this.#pinned.values(), ...this.#needed.entries().map(([, flag]) => flag)];
    const answers = await this.#inTime(Promise.all(flags.map((flag) => this.#evaluate(flag))));
    if (this.#closed) return false;
    const known = answers !== undefined && !answers.includes("unknown");
    let changed = false;
    for (const [index, flag] of flags.entries()) {
      const answer = answers?.[index] ?? "unknown";
      if (answer === "unknown" || answer.value === flag.value) continue;
      flag.value = answer.value;
      changed = true;
    }
    if (this.away === known) this.#setAway(!known);
    else if (changed) this.#listeners.tell();
    return known;
  }

  /** `undefined` when it takes too long: it may never end. */
  #inTime<T>(all: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve) => {
      const stop = this.#clock.schedule(this.#timeoutMs, () => resolve(undefined), { ref: false });
      void all.then((answers) => {
        stop();
        resolve(answers);
      });
    });
  }

  /** Does not reject. */
  async #evaluate(flag: Evaluated): Promise<Answer> {
    const { name, key } = flag;
    try {
      const details = name.startsWith("mode.")
        ? await answerOf(() => this.#client.getStringDetails(key, ""))
        : await answerOf(() => this.#client.getBooleanDetails(key, false));
      const { value, errorCode, errorMessage } = details;
      if (errorCode === undefined) {
        flag.wrong = undefined;
        return { value: value === "" ? undefined : value };
      }
      if (errorCode === "FLAG_NOT_FOUND") return { value: undefined };
      // Before the provider is ready all flags are unknown, which is nothing to report.
      if (errorCode !== "PROVIDER_NOT_READY") {
        this.#complain(flag, errorCode, new Error(`${key}: ${errorCode} ${errorMessage ?? ""}`));
      }
      return ofTheFlag.has(errorCode) ? { value: undefined } : "unknown";
    } catch (error) {
      this.#complain(flag, "thrown", error);
      return "unknown";
    }
  }

  #complain(flag: Evaluated, wrong: string, error: unknown): void {
    if (flag.wrong === wrong) return;
    flag.wrong = wrong;
    reportSafely(this.#report, error, "openFeatureFlags");
  }
}

/** Errors that are of the flag and not of the provider: it is not set, as it should be. */
const ofTheFlag: ReadonlySet<string> = new Set(["TYPE_MISMATCH", "PARSE_ERROR", "INVALID_CONTEXT"]);

function usualKey(name: string): string {
  return name.replace(/[^\w.-]/g, ".");
}

function keyIn(answer: unknown): string {
  if (typeof answer === "string" && answer !== "") return answer;
  throw new TypeError("a key must be a text");
}
