type Serialize = (message: unknown) => Buffer;

/** What is known of a message while it is copied. */
interface Copying {
  /** What was copied already: a message may refer to a part of itself twice (google-protobuf does). */
  readonly seen: Map<object, object>;
  /** Instances of classes are among it, which may keep state where no copy reaches: a private field, a WeakMap. */
  instances: boolean;
}

/**
 * A message as it was, of the same type, for those who read it later than its owner may change it. Made for what
 * generators of messages make: plain objects, arrays, maps, dates, buffers, and instances of classes that keep their
 * state in properties.
 */
export class MessageCopy {
  readonly #message: unknown;
  readonly #serialize: Serialize;
  readonly #copy: unknown;
  /** Whether the copy is as good as the message. `undefined`: nobody has tried. */
  #faithful: boolean | undefined;

  constructor(message: unknown, serialize: Serialize) {
    const copying: Copying = { seen: new Map(), instances: false };
    this.#serialize = serialize;
    try {
      this.#copy = copyOf(message, copying);
      this.#faithful = copying.instances ? undefined : true;
    } catch {
      // A getter or a proxy of the user's threw. The object itself is the best there is.
      this.#faithful = false;
    }
    this.#message = this.#faithful === true ? undefined : message;
  }

  /** A message of its own for each who asks. */
  make(): unknown {
    this.#faithful ??= this.#serializes();
    if (!this.#faithful) return this.#message;
    return copyOf(this.#copy, { seen: new Map(), instances: false });
  }

  /** What lost its private state throws as soon as something is asked of it. */
  #serializes(): boolean {
    try {
      this.#serialize(this.#copy);
      return true;
    } catch {
      return false;
    }
  }
}

function copyOf(value: unknown, copying: Copying): unknown {
  if (typeof value !== "object" || value === null) return value;
  const { seen } = copying;
  const known = seen.get(value);
  if (known !== undefined) return known;
  if (Array.isArray(value)) {
    const copy: unknown[] = [];
    seen.set(value, copy);
    for (const item of value) copy.push(copyOf(item, copying));
    return copy;
  }
  const bytes = copyOfBytes(value);
  if (bytes !== undefined) {
    seen.set(value, bytes);
    return bytes;
  }
  if (value instanceof Map) {
    const copy = new Map<unknown, unknown>();
    seen.set(value, copy);
    for (const [key, item] of value) copy.set(copyOf(key, copying), copyOf(item, copying));
    return copy;
  }
  if (value instanceof Set) {
    const copy = new Set<unknown>();
    seen.set(value, copy);
    for (const item of value) copy.add(copyOf(item, copying));
    return copy;
  }
  if (value instanceof Date) return new Date(value.getTime());
  return copyOfObject(value, copying);
}

function copyOfBytes(value: object): object | undefined {
  if (Buffer.isBuffer(value)) return Buffer.from(value);
  if (value instanceof ArrayBuffer) return value.slice(0);
  if (!ArrayBuffer.isView(value)) return undefined;
  const { byteOffset, byteLength } = value;
  const bytes = new Uint8Array(value.buffer, byteOffset, byteLength).slice();
  if (value instanceof Uint8Array) return bytes;
  const make: unknown = value.constructor;
  // A view of a kind that is not known keeps its own memory.
  return typeof make === "function" ? Reflect.construct(make, [bytes.buffer]) : value;
}

function copyOfObject(value: object, copying: Copying): object {
  const prototype: object | null = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype) {
    if (prototype !== null) copying.instances = true;
    const copy: object = Object.create(prototype);
    copying.seen.set(value, copy);
    for (const key of Reflect.ownKeys(value)) {
      const property = Object.getOwnPropertyDescriptor(value, key) ?? {};
      if ("value" in property) property.value = copyOf(property.value, copying);
      Object.defineProperty(copy, key, property);
    }
    return copy;
  }
  const copy: Record<string, unknown> = { ...value };
  copying.seen.set(value, copy);
  for (const key of Object.keys(copy)) {
    const item = copy[key];
    // A property of this name would set the prototype.
    if (typeof item === "object" && key !== "__proto__") copy[key] = copyOf(item, copying);
  }
  return copy;
}

/** Of a message up to this size a copy costs less than looking whether one is needed. */
const copiedUnseen = 1_024;
/** So many parts of a message are looked at for memory that its bytes may share. */
const maxParts = 64;

/**
 * The bytes of a message in memory that nobody else writes to. Serializers make new ones, but some give the buffer that they
 * were given, or a part of it: that is the caller's, who may fill it again. Others write each message into the same
 * memory and give the part that they filled.
 */
export function bytesApart(bytes: Buffer, message: unknown): Buffer {
  const whole = bytes.length === bytes.buffer.byteLength;
  const apart = bytes.length > copiedUnseen && whole && !mayShare(bytes, message);
  return apart ? bytes : Buffer.from(bytes);
}

function mayShare(bytes: Buffer, message: unknown): boolean {
  const parts: unknown[] = [message];
  for (const part of parts) {
    if (parts.length > maxParts) return true;
    if (typeof part !== "object" || part === null) continue;
    if (ArrayBuffer.isView(part)) {
      if (part.buffer === bytes.buffer) return true;
    } else if (part === bytes.buffer) return true;
    else if (part instanceof Map || part instanceof Set) return true;
    else parts.push(...(Array.isArray(part) ? part : Object.values(part)).slice(0, maxParts));
  }
  return false;
}
