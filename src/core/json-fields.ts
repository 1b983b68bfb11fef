import { InvalidOptionError } from "./options.js";

/**
 * An object of a parsed JSON document that knows where it stands, so that what is wrong with it can be named by its
 * path. A field that is `null` reads as absent, as in the JSON form of protobuf messages.
 */
export class JsonFields {
  /** Such as `serviceConfig.methodConfig[0]`. */
  readonly path: string;
  readonly #fields: Readonly<Record<string, unknown>>;

  /** @throws InvalidOptionError when the value is no object. */
  constructor(path: string, value: unknown) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new InvalidOptionError(path, "an object", value);
    }
    this.path = path;
    this.#fields = value as Readonly<Record<string, unknown>>;
  }

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

  /** @throws InvalidOptionError when the field is there and no object. */
  object(name: string): JsonFields | undefined {
    return this.has(name) ? new JsonFields(this.at(name), this.get(name)) : undefined;
  }

  /** @throws InvalidOptionError when the field is there and no array. */
  list(name: string): readonly unknown[] | undefined {
    if (!this.has(name)) return undefined;
    const value = this.get(name);
    if (!Array.isArray(value)) throw new InvalidOptionError(this.at(name), "an array", value);
    return value;
  }

  /** @throws InvalidOptionError when an item is no object. */
  objects(name: string): readonly JsonFields[] {
    const path = this.at(name);
    return (this.list(name) ?? []).map((item, index) => new JsonFields(`${path}[${index}]`, item));
  }
}
