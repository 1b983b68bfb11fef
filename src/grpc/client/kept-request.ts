import type { InterceptorOptions, Metadata } from "@grpc/grpc-js";
import type { ClientCall, ClientListener, MessageContext } from "../types.js";
import { mustBeCall, sendTo } from "./foreign-call.js";
import { lendMetadata } from "./kept-metadata.js";

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
 *
 * @internal Exported for its tests.
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

type Definition = InterceptorOptions["method_definition"];
type RequestSerialize = Definition["requestSerialize"];

/**
 * What a message meets below: only calls of ours down to grpc-js (`open`), somebody else's call (`foreign`), or what
 * cannot be told yet (`unknown`), because the calls there are made later.
 */
export type Reach = "open" | "foreign" | "unknown";

/** Asked of our own calls. Of another copy of the toolkit nobody knows this symbol: its calls are foreign. */
export const reach: unique symbol = Symbol("grpc-weir.reach");

/** A call of ours: it takes kept requests, and hands them on in the form that the call below takes. */
export interface KeepingCall {
  [reach](): Reach;
}

function isKeeping(call: ClientCall): call is ClientCall & KeepingCall {
  return reach in call;
}

/** What a request meets that is given to `call`. */
export function reachOf(call: ClientCall | undefined, definition: Definition): Reach {
  if (call === undefined) return "unknown";
  if (isKeeping(call)) return call[reach]();
  return isBottom(call, definition) ? "open" : "foreign";
}

/**
 * A request message as it was when the application handed it over. grpc-js serializes inside the call, so that a caller may
 * use its object again at once; whoever sends a message later, or again, has to keep it like this.
 *
 * Between calls of ours it travels in the place of the message, down to grpc-js, whose serializer hands the bytes on. A
 * call of somebody else's is given a message: at first the caller's own object, as grpc-js would, and later copies.
 */
export class KeptRequest {
  readonly #serialize: RequestSerialize;
  readonly #below: Reach;
  /** The caller's object, as long as the caller cannot have changed it: in the call that handed it over. */
  #given: { readonly message: unknown } | undefined;
  #copy: MessageCopy | undefined;
  #bytes: Buffer | undefined;
  #failure: { readonly error: unknown } | undefined;

  /** @param below What the message meets. Somebody else may make another of it, so that it is serialized behind. */
  constructor(serialize: RequestSerialize, message: unknown, below: Reach) {
    this.#serialize = serialize;
    this.#below = below;
    this.#given = { message };
    if (below === "foreign") this.copy();
    else this.#open(message);
    // Perhaps somebody below makes it what the serializer takes. If not, it fails where it is sent.
    if (below === "unknown") this.#failure = undefined;
  }

  /** Why the message cannot be sent, where it is certain that it cannot. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /** The bytes to send. Throws what the serializer threw. */
  get bytes(): Buffer {
    if (this.#bytes === undefined && this.#failure === undefined) this.#open(this.message());
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#bytes ?? Buffer.alloc(0);
  }

  /** The message, for somebody else's eyes. */
  message(): unknown {
    if (this.#given !== undefined) return this.#given.message;
    // Where only calls of ours were met before, none was made. The bytes are right all the same.
    return this.#copy === undefined ? this : this.#copy.make();
  }

  /** The message as it was, for whoever asks later. */
  copy(): MessageCopy | undefined {
    if (this.#given !== undefined) {
      this.#copy ??= new MessageCopy(this.#given.message, this.#serialize);
    }
    return this.#copy;
  }

  /**
   * The call that handed the message over is about to return: from now on the caller may change it.
   *
   * @param by The call that keeps it. What it could not tell before it may know now.
   */
  settle(by: KeepingCall): void {
    if (this.#below !== "open" && by[reach]() !== "open") this.copy();
    this.#given = undefined;
  }

  #open(message: unknown): void {
    try {
      this.#bytes = bytesApart(this.#serialize(message), message);
    } catch (error) {
      this.#failure = { error };
    }
  }
}

/**
 * Keeps a message of a call. What is kept already stays as it is. The one who keeps it settles it.
 *
 * @param by The call that keeps it, and knows what it meets.
 */
export function keepRequest(
  definition: Definition,
  message: unknown,
  by: KeepingCall,
): KeptRequest {
  if (message instanceof KeptRequest) return message;
  // Before it is asked what comes below, which depends on it.
  const below = letOpen(definition) ? by[reach]() : "foreign";
  return new KeptRequest(definition.requestSerialize, message, below);
}

/** Hands a message to the call below, in the form that it takes. */
export function handOn(
  call: ClientCall,
  definition: Definition,
  context: MessageContext,
  message: unknown,
): void {
  if (!(message instanceof KeptRequest) || isKeeping(call) || isBottom(call, definition)) {
    sendTo(call, context, message);
  } else sendTo(call, context, message.message());
}

/** Starts the call below. Metadata that is needed again is not for somebody else, who may write to it. */
export function startOn(
  call: ClientCall,
  definition: Definition,
  metadata: Metadata,
  listener: ClientListener,
): void {
  mustBeCall(call);
  const read = isKeeping(call) || serializes(call, definition);
  call.start(read ? metadata : lendMetadata(metadata), listener);
}

/** The message that the application gave, for functions that read it now. */
export function readable(message: unknown): unknown {
  return message instanceof KeptRequest ? message.message() : message;
}

/** The message that the application gave, for functions that read it later. */
export function readableLater(definition: Definition, message: unknown): MessageCopy | undefined {
  if (message instanceof KeptRequest) return message.copy();
  return new MessageCopy(message, definition.requestSerialize);
}

/** Marks a serializer that takes kept requests. */
const opens: unique symbol = Symbol("grpc-weir.opens");
const opening = new WeakMap<RequestSerialize, RequestSerialize>();
/** The latest of them: most calls are of the method of the one before. */
let latest: { readonly closed: RequestSerialize; readonly open: RequestSerialize } | undefined;

/**
 * From now on the serializer of this call takes kept requests, too. grpc-js makes a definition for each call and reads
 * from it message by message, so nothing is changed but this call. False where somebody has frozen it.
 */
function letOpen(definition: Definition): boolean {
  const { requestSerialize } = definition;
  if (latest?.closed !== requestSerialize) {
    if (opens in requestSerialize) return true;
    latest = { closed: requestSerialize, open: opened(requestSerialize) };
  }
  try {
    definition.requestSerialize = latest.open;
    return true;
  } catch {
    return false;
  }
}

function opened(requestSerialize: RequestSerialize): RequestSerialize {
  let serialize = opening.get(requestSerialize);
  if (serialize === undefined) {
    const either: RequestSerialize = (message: unknown) =>
      message instanceof KeptRequest ? message.bytes : requestSerialize(message);
    serialize = Object.assign(either, { [opens]: true });
    opening.set(requestSerialize, serialize);
  }
  return serialize;
}

/** The call of grpc-js that serializes. No other has a definition, and ours may be a copy that somebody made. */
function serializes(call: ClientCall, definition: Definition): boolean {
  return "methodDefinition" in call && call.methodDefinition === definition;
}

/** The same, and its serializer takes kept requests. */
function isBottom(call: ClientCall, definition: Definition): boolean {
  return serializes(call, definition) && opens in definition.requestSerialize;
}
