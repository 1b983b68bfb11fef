/**
 * A copy of options, to find out later whether they have changed. Plain objects and arrays are copied to any depth; other
 * values, and getters, are compared by identity.
 */
export class OptionsCopy {
  readonly #copy: unknown;

  constructor(options: unknown) {
    this.#copy = copyOf(options);
  }

  /** Whether the options are still equal to the copy. */
  matches(options: unknown): boolean {
    try {
      return same(this.#copy, options);
    } catch {
      // A proxy may throw when it is read. Such options count as changed.
      return false;
    }
  }
}

/**
 * The options as they are now: plain objects and arrays are copied to any depth, and getters are called; other values are the
 * same.
 */
export function optionsNow(options: unknown): unknown {
  if (Array.isArray(options)) return options.map(optionsNow);
  if (!isPlain(options)) return options;
  return Object.fromEntries(
    Object.entries(options).map(([name, value]: [string, unknown]) => [name, optionsNow(value)]),
  );
}

function copyOf(options: unknown): unknown {
  if (Array.isArray(options)) return options.map(copyOf);
  if (!isPlain(options)) return options;
  return new Map(Object.keys(options).map((key) => [key, copyOf(propertyOf(options, key))]));
}

function same(copy: unknown, options: unknown): boolean {
  if (Array.isArray(copy) && Array.isArray(options)) {
    return copy.length === options.length && copy.every((each, at) => same(each, options[at]));
  }
  if (!(copy instanceof Map) || !isPlain(options)) return Object.is(copy, options);
  const keys = Object.keys(options);
  return (
    keys.length === copy.size &&
    keys.every((key) => copy.has(key) && same(copy.get(key), propertyOf(options, key)))
  );
}

function propertyOf(options: object, key: string): unknown {
  const property: { readonly get?: unknown; readonly value?: unknown } | undefined =
    Object.getOwnPropertyDescriptor(options, key);
  return property?.get ?? property?.value;
}

/** An object literal, and not an instance of a class. */
function isPlain(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
