/**
 * What options say now, to be told from what they say later: plain objects and arrays are copied, to any depth; all else,
 * getters too, is taken as it is.
 */
export class OptionsCopy {
  readonly #copy: unknown;

  constructor(options: unknown) {
    this.#copy = copyOf(options);
  }

  /** Whether they still say the same. */
  saysSame(options: unknown): boolean {
    try {
      return same(this.#copy, options);
    } catch {
      // An object that can not be looked into any more is not the same as before.
      return false;
    }
  }
}

function copyOf(options: unknown): unknown {
  if (Array.isArray(options)) return options.map(copyOf);
  if (!isPlain(options)) return options;
  return new Map(Object.keys(options).map((key) => [key, copyOf(said(options, key))]));
}

function same(copy: unknown, options: unknown): boolean {
  if (Array.isArray(copy) && Array.isArray(options)) {
    return copy.length === options.length && copy.every((each, at) => same(each, options[at]));
  }
  if (!(copy instanceof Map) || !isPlain(options)) return Object.is(copy, options);
  const keys = Object.keys(options);
  return (
    keys.length === copy.size &&
    keys.every((key) => copy.has(key) && same(copy.get(key), said(options, key)))
  );
}

function said(options: object, key: string): unknown {
  const property: { readonly get?: unknown; readonly value?: unknown } | undefined =
    Object.getOwnPropertyDescriptor(options, key);
  return property?.get ?? property?.value;
}

/** An object that was written down, and not made by a class. */
function isPlain(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
