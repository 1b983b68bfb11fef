import { InvalidOptionError, nameText, readOptions } from "../../core/options.js";
import { type ReportError, reportSafely, warn } from "../../core/user-code.js";

/**
 * The value of a flag: yes or no, or a word, such as the mode of a policy.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export type FlagValue = boolean | string;

/**
 * Where the values of flags come from. A weir asks it while calls run, so it answers at once, with what it knows: nothing is
 * awaited for a flag.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export interface FlagSource {
  /** What decisions, metrics and snapshots call it, such as `redis`. */
  readonly name: string;
  /**
   * The value of a flag now; `undefined` where it is not set. The weir remembers the answer until the next change, so that a
   * call costs no call of this.
   */
  flag(name: string): FlagValue | undefined;
  /**
   * Calls `listener` after every change: of a value, or of `away`.
   *
   * @returns Removes it.
   */
  onChange(listener: () => void): () => void;
  /** The names of the flags that are set, where the source knows them. Changes of all these are told, and not only of those in use. */
  names?(): Iterable<string>;
  /** Who set a flag, for people. */
  setBy?(name: string): string | undefined;
  /** What the values come from cannot be reached, so that they are the last ones that are known. */
  readonly away?: boolean;
}

/** @throws InvalidOptionError where the value cannot be a source of flags. */
export function flagSource(option: string, given: FlagSource): FlagSource {
  for (const method of ["flag", "onChange"] as const) {
    if (typeof given?.[method] !== "function") {
      throw new InvalidOptionError(option, `a source of flags: it has no ${method}()`, given);
    }
  }
  nameText(`${option}.name`, given.name);
  return given;
}

/** The listeners of a source. What one throws does not keep the others from being told. */
export class FlagListeners {
  readonly #listeners = new Set<() => void>();
  readonly #report: ReportError;

  constructor(report: ReportError = warn) {
    this.#report = report;
  }

  add(listener: () => void): () => void {
    // A function of its own, so that a listener that is added twice is told twice, and removed one at a time.
    const own = () => listener();
    this.#listeners.add(own);
    return () => {
      this.#listeners.delete(own);
    };
  }

  tell(): void {
    for (const listener of this.#listeners) {
      try {
        listener();
      } catch (error) {
        reportSafely(this.#report, error, "flags.onChange");
      }
    }
  }

  clear(): void {
    this.#listeners.clear();
  }
}

/**
 * Flags that the program sets itself.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export interface StaticFlags extends FlagSource {
  readonly name: "static";
  /** @throws InvalidOptionError for a value that is neither true, false nor a text. */
  set(name: string, value: FlagValue): void;
  unset(name: string): void;
  names(): Iterable<string>;
}

/**
 * Flags that the program sets itself: from its configuration, an admin call or a test. They can be set while it runs.
 *
 * @throws InvalidOptionError for a value that is neither true, false nor a text.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/flags.md
 */
export function staticFlags(initial: Readonly<Record<string, FlagValue>> = {}): StaticFlags {
  const values = new Map<string, FlagValue>();
  const listeners = new FlagListeners();
  for (const [name, value] of Object.entries(readOptions("staticFlags", initial))) {
    values.set(name, flagValue(name, value));
  }
  return {
    name: "static",
    flag: (name) => values.get(name),
    names: () => [...values.keys()],
    onChange: (listener) => listeners.add(listener),
    set(name, value) {
      nameText("staticFlags.set", name);
      if (values.get(name) === flagValue(name, value)) return;
      values.set(name, value);
      listeners.tell();
    },
    unset(name) {
      if (values.delete(name)) listeners.tell();
    },
  };
}

function flagValue(name: string, value: FlagValue): FlagValue {
  if (typeof value === "boolean" || typeof value === "string") return value;
  throw new InvalidOptionError(`staticFlags.${name}`, "true, false or a text", value);
}
