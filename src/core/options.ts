import { nearest } from "./nearest.js";

/**
 * Thrown while a policy is built, when an option makes no sense. Options are checked once, so no call throws it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export class InvalidOptionError extends RangeError {
  override readonly name = "InvalidOptionError";
  /** The path of the option, for example `retry.maxAttempts`. */
  readonly option: string;
  /** What the option must be. */
  readonly rule: string;

  /** @param text What the message says of the option. @defaultValue that it must be `rule`, and what it was given */
  constructor(
    option: string,
    rule: string,
    received: unknown,
    text = `must be ${rule}, got ${shown(received)}`,
  ) {
    super(`${option} ${text}`);
    this.option = option;
    this.rule = rule;
  }
}

/** Builds what an option asks for; `undefined` where it is left out, or `false` switches it off. */
export function unlessOff<O, P extends object | number>(
  option: string,
  given: O | false | undefined,
  build: (given: O, option: string) => P,
): P | undefined {
  if (given === undefined) return undefined;
  const built = unlessFalse(option, given, (path, value) => build(value, path));
  return built === false ? undefined : built;
}

/** Reads an option that `false` switches off. If it is neither, the error says that `false` is allowed. */
export function unlessFalse<T, R>(
  option: string,
  value: T | false,
  read: (option: string, value: T) => R,
): R | false {
  if (value === false) return false;
  try {
    return read(option, value);
  } catch (error) {
    if (!(error instanceof InvalidOptionError) || error.option !== option) throw error;
    throw new InvalidOptionError(option, `${error.rule}, or false`, value);
  }
}

/** The longest duration of an option: 24 days in milliseconds. Timers of Node, and grpc-js servers, overflow beyond 24.8 days. */
export const maxDurationMs = 24 * 24 * 60 * 60 * 1000;

/** A value of any kind, for an error message. */
export function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 80));
  if (typeof value === "object" && value !== null) return kindOf(value);
  return typeof value === "function" ? "a function" : String(value);
}

function kindOf(value: object): string {
  try {
    if (Array.isArray(value)) return "an array";
    return value instanceof Map ? "a Map" : value instanceof Set ? "a Set" : "an object";
  } catch {
    // A proxy may throw when it is inspected.
    return "an object";
  }
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

/** A text that is not empty. */
export function nameText(option: string, value: unknown): string {
  if (typeof value === "string" && value !== "") return value;
  throw new InvalidOptionError(option, "a name", value);
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

/**
 * Entries by the name of a method or a service, in the order of the object.
 *
 * @throws InvalidOptionError for a name of another shape, and for one that stands there with and without the slash.
 */
export function byMethodOrService<V>(
  option: string,
  given: Readonly<Record<string, V>>,
): { readonly at: string; readonly name: string; readonly value: V }[] {
  const names = new Set<string>();
  return Object.entries(readOptions(option, given)).map(([written, value]) => {
    const at = `${option}["${written}"]`;
    const name = methodOrService(at, written);
    if (names.has(name)) throw new InvalidOptionError(at, `given once: ${name} is /${name}`, value);
    names.add(name);
    return { at, name, value };
  });
}

/** An object that can hold options. Arrays, Maps and Sets cannot: their entries are no properties. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !(Symbol.iterator in value);
}

/**
 * Reads all options once, into a frozen object: getters are called now, and a later change of the object has no effect.
 * Options may be inherited, from a class with getters or from `Object.create(defaults)`; an inherited method keeps its
 * `this`.
 *
 * An unknown option is refused, because a misspelt one would silently mean the default.
 *
 * @param known The names of the options. Without them all options are read, and the caller checks the names.
 * @param also Names of options that the caller has taken out already. They only appear in the error about an unknown one, where
 * one of them may be what was meant.
 * @param elsewhere Options of another place, with a text that says which: `an option of weir.server()`.
 * @throws InvalidOptionError when the value is not an object of options, or for an option that is unknown or cannot be read.
 */
export function readOptions<O extends object>(
  option: string,
  value: O,
  known?: readonly string[],
  also: readonly string[] = [],
  elsewhere?: ReadonlyMap<string, string>,
): O {
  let keys: readonly string[];
  try {
    if (!isRecord(value)) throw new InvalidOptionError(option, "an object of options", value);
    keys = known === undefined ? allKeys(value) : keysOf(value);
  } catch (error) {
    if (error instanceof InvalidOptionError) throw error;
    throw new InvalidOptionError(option, "an object that can be read", value);
  }
  if (known !== undefined) {
    for (const key of keys) {
      if (!known.includes(key)) {
        const place = elsewhere?.get(key);
        const names = [...known, ...also];
        const near = nearest(key, names);
        const all = `options are ${names.join(", ")}`;
        let text = `is not an option; the ${all}`;
        if (place !== undefined) text = `is not an option here, but ${place}; the ${all}`;
        else if (near !== undefined) text = `is not an option; did you mean ${near}? The ${all}`;
        throw new InvalidOptionError(`${option}.${key}`, "absent", read(option, value, key), text);
      }
    }
  }
  const found: [string, unknown][] = [];
  for (const key of known ?? keys) if (key in value) found.push([key, read(option, value, key)]);
  return Object.freeze(Object.fromEntries(found)) as O;
}

function read(option: string, value: object, key: string): unknown {
  let found: unknown;
  try {
    found = Reflect.get(value, key);
  } catch (error) {
    throw new InvalidOptionError(
      `${option}.${key}`,
      `readable: it threw ${textOf(error)}`,
      undefined,
    );
  }
  return typeof found === "function" && !Object.hasOwn(value, key) ? found.bind(value) : found;
}

/** The keys of options. An object literal, the usual case, is read without its prototype. */
function keysOf(value: object): readonly string[] {
  return Object.getPrototypeOf(value) === Object.prototype ? Object.keys(value) : allKeys(value);
}

/**
 * The keys of an object and of all it inherits from, without those of `Object.prototype`. Of the keys that are not
 * enumerable, accessors and methods count: the members of a class are not enumerable.
 */
function allKeys(value: object): readonly string[] {
  const keys = new Set<string>();
  let from: object | null = value;
  while (from !== null && !isRoot(from)) {
    for (const [key, property] of Object.entries(Object.getOwnPropertyDescriptors(from))) {
      const accessor = property.get !== undefined || property.set !== undefined;
      const method = typeof property.value === "function" && key !== "constructor";
      if (property.enumerable === true || accessor || method) keys.add(key);
    }
    from = Object.getPrototypeOf(from);
  }
  return [...keys];
}

/** Whether it is `Object.prototype`, of this realm or of another. */
function isRoot(object: object): boolean {
  return Object.getPrototypeOf(object) === null && Object.hasOwn(object, "isPrototypeOf");
}

/** The message of what was thrown, which may be any value. */
function textOf(error: unknown): string {
  try {
    return error instanceof Error ? error.message : String(error);
  } catch {
    return "something that cannot be shown";
  }
}
