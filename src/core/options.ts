/**
 * Thrown while a policy is built, when an option makes no sense. It is never thrown while a call
 * runs: options are checked once, before the first call.
 */
export class InvalidOptionError extends RangeError {
  override readonly name = "InvalidOptionError";
  /** Path of the option, for example `retry.maxAttempts`. */
  readonly option: string;

  constructor(option: string, rule: string, received: unknown) {
    super(`${option} must be ${rule}, got ${show(received)}`);
    this.option = option;
  }
}

/** The longest duration an option may name: grpc-js servers overflow beyond 24.8 days. */
export const maxDurationMs = 24 * 24 * 60 * 60 * 1000;

function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 80));
  if (typeof value === "object" && value !== null) {
    if (Array.isArray(value)) return "an array";
    return value instanceof Map ? "a Map" : value instanceof Set ? "a Set" : "an object";
  }
  return String(value);
}

/** A finite number of milliseconds from `minMs` to 24 days. */
export function durationMs(option: string, value: unknown, minMs = 0): number {
  if (typeof value !== "number" || !(value >= minMs && value <= maxDurationMs)) {
    throw new InvalidOptionError(
      option,
      `milliseconds from ${minMs} to ${maxDurationMs} (24 days)`,
      value,
    );
  }
  return value;
}

/** A whole number from `min` to `max`. */
export function wholeNumber(
  option: string,
  value: unknown,
  min: number,
  max = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max) {
    const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
    throw new InvalidOptionError(option, `a whole number ${range}`, value);
  }
  return value;
}

/** A finite number from `min` to `max`, both included. */
export function finiteNumber(option: string, value: unknown, min: number, max: number): number {
  if (typeof value !== "number" || !(value >= min && value <= max) || !Number.isFinite(value)) {
    throw new InvalidOptionError(option, `a number from ${min} to ${max}`, value);
  }
  return value;
}

/** A share above 0 and up to 1. */
export function ratio(option: string, value: unknown): number {
  if (typeof value !== "number" || !(value > 0 && value <= 1)) {
    throw new InvalidOptionError(option, "a number above 0 and up to 1", value);
  }
  return value;
}

/** One of a fixed list of strings. */
export function oneOf<T extends string>(option: string, value: unknown, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) {
    throw new InvalidOptionError(option, `one of ${allowed.join(", ")}`, value);
  }
  return found;
}

/** A function, or absent. */
export function optionalFunction<T extends ((...args: never[]) => unknown) | undefined>(
  option: string,
  value: T,
): T {
  if (value !== undefined && typeof value !== "function") {
    throw new InvalidOptionError(option, "a function", value);
  }
  return value;
}

const methodOrServiceForm = /^\/?(\w+(\.\w+)*\/\w+|\w+(\.\w+)+)$/;

/** The name of a method or a service, without the slash that may stand in front. */
export function methodOrService(option: string, name: string): string {
  if (!methodOrServiceForm.test(name)) {
    throw new InvalidOptionError(option, "named pkg.Service/Method or pkg.Service", name);
  }
  return name.replace(/^\//, "");
}

/** An object with entries of its own. A list, a Map and a Set have theirs where nobody would look. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !(Symbol.iterator in value);
}

/**
 * Refuses what is not a plain options object, and every key that is not known: a misspelt option
 * would otherwise be a default nobody asked for.
 *
 * @param also Options that somebody else has taken out already: they are named, and not accepted here.
 */
export function knownKeys(
  option: string,
  value: unknown,
  known: readonly string[],
  also: readonly string[] = [],
): void {
  if (!isRecord(value)) {
    throw new InvalidOptionError(option, "an object of options", value);
  }
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) {
      throw new InvalidOptionError(
        `${option}.${key}`,
        `absent: the options are ${[...known, ...also].join(", ")}`,
        value[key],
      );
    }
  }
}
