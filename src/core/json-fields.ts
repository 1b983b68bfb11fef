import { InvalidOptionError } from "./options.js";

/**
 * An object in a parsed JSON document, with its path, so that errors can name the field. A field that is `null` counts as
 * absent, as in the JSON encoding of protobuf messages.
 */
export class JsonFields {
  /** For example `serviceConfig.methodConfig[0]`. */
  readonly path: string;
  readonly #fields: Readonly<Record<string, unknown>>;

  /** @throws InvalidOptionError when the value is not an object. */
  constructor(path: string, value: unknown) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new InvalidOptionError(path, "an object", value);
    }
    this.path = path;
    this.#fields = value as Readonly<Record<string, unknown>>;
  }

  /** The path of a field. */
  at(name: string): string {
    return `${this.path}.${name}`;
  }

  get(name: string): unknown {
    return this.has(name) ? this.#fields[name] : undefined;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#fields, name) && this.#fields[name] != null;
  }

  /** Names of the fields that are set. */
  get names(): readonly string[] {
    return Object.keys(this.#fields).filter((name) => this.has(name));
  }

  /** @throws InvalidOptionError when the field is present and not an object. */
  object(name: string): JsonFields | undefined {
    return this.has(name) ? new JsonFields(this.at(name), this.get(name)) : undefined;
  }

  /** @throws InvalidOptionError when the field is present and not an array. */
  list(name: string): readonly unknown[] | undefined {
    if (!this.has(name)) return undefined;
    const value = this.get(name);
    if (!Array.isArray(value)) throw new InvalidOptionError(this.at(name), "an array", value);
    return value;
  }

  /** The items of an array of objects; none when the field is absent. @throws InvalidOptionError when one is not an object. */
  objects(name: string): readonly JsonFields[] {
    const path = this.at(name);
    return (this.list(name) ?? []).map((item, index) => new JsonFields(`${path}[${index}]`, item));
  }
}
