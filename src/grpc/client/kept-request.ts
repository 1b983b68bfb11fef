import type { InterceptorOptions, Metadata } from "@grpc/grpc-js";
import type { ClientCall, ClientListener, MessageContext } from "../types.js";
import { mustBeCall, peerOf, sendTo } from "./foreign-call.js";
import { lendMetadata } from "./kept-metadata.js";

type Serialize = (message: unknown) => Buffer;

/** The state of a copy in the making. */
interface Copying {
  /** The objects that were copied already: a message may refer to a part of itself twice (google-protobuf does). */
  readonly seen: Map<object, object>;
  /** The message has instances of classes. They may have state that cannot be copied: private fields, WeakMaps. */
  instances: boolean;
}

/**
 * A message as it was when the application gave it, for code that reads it later: the application may change the object
 * meanwhile. It copies what code generators for messages use: plain objects, arrays, maps, sets, dates, buffers, and
 * instances of classes with their state in properties.
 */
export class MessageCopy {
  readonly #message: unknown;
  readonly #serialize: Serialize;
  readonly #copy: unknown;
  /** Whether the copy can be used in place of the message. `undefined` until that is tried. */
  #faithful: boolean | undefined;

  constructor(message: unknown, serialize: Serialize) {
    const copying: Copying = { seen: new Map(), instances: false };
    this.#serialize = serialize;
    try {
      this.#copy = copyOf(message, copying);
      this.#faithful = copying.instances ? undefined : true;
    } catch {
      // A getter or a proxy of the message threw. Then the object itself is used.
      this.#faithful = false;
    }
    this.#message = this.#faithful === true ? undefined : message;
  }

  /** Returns another copy at each call, so that its readers cannot disturb each other. */
  make(): unknown {
    this.#faithful ??= this.#serializes();
    if (!this.#faithful) return this.#message;
    return copyOf(this.#copy, { seen: new Map(), instances: false });
  }

  /** A copy that lost private state cannot be serialized. */
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
  // An unknown kind of view is not copied.
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
    // Assigning to `__proto__` would set the prototype.
    if (typeof item === "object" && key !== "__proto__") copy[key] = copyOf(item, copying);
  }
  return copy;
}

/** Up to this size in bytes, copying costs less than finding out whether a copy is needed. */
const copiedUnseen = 1_024;
/** At most this many parts of a message are searched for memory that its bytes may share. */
const maxParts = 64;

/**
 * The bytes of a message in memory that nobody else writes to. Most serializers return new memory. Some return a buffer
 * of the message itself, which the caller may fill again; others write all messages into the same memory. Those are
 * copied.
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
 * Who handles a message below: only layers of the toolkit down to grpc-js (`open`), a foreign interceptor (`foreign`),
 * or nobody knows yet (`unknown`), because the calls below are made later.
 */
export type Reach = "open" | "foreign" | "unknown";

/** The method of the toolkit's calls that returns their reach. The calls of another copy of the toolkit are foreign. */
export const reach: unique symbol = Symbol("grpc-weir.reach");

/** A call of the toolkit: it accepts kept requests, and passes them on in the form that the call below accepts. */
export interface KeepingCall {
  [reach](): Reach;
  /** The target of the channel, where it is not known otherwise. May make the call below for that. */
  targetBelow(): string;
  /** The resets of its streams are counted here, or further below. */
  readonly countsResets: boolean;
}

function isKeeping(call: ClientCall): call is ClientCall & KeepingCall {
  return reach in call;
}

/** The target of the channel below a call that has not been started; `unknown` where the call does not know it. */
export function targetOf(call: ClientCall): string {
  return isKeeping(call) ? call.targetBelow() : (peerOf(call) ?? "unknown");
}

/** Whether the resets of the call's streams are counted by a call of the toolkit. */
export function countsResets(call: ClientCall | undefined): boolean {
  return call !== undefined && isKeeping(call) && call.countsResets;
}

/** Who handles a request that is sent to `call`. */
export function reachOf(call: ClientCall | undefined, definition: Definition): Reach {
  if (call === undefined) return "unknown";
  if (isKeeping(call)) return call[reach]();
  return isBottom(call, definition) ? "open" : "foreign";
}

/**
 * A request message as it was when the application sent it. Plain grpc-js serializes a message before the application's
 * call returns, so that the application may use the object again at once. Layers that send a message later, or again,
 * keep it in this form.
 *
 * Between layers of the toolkit it travels in place of the message, down to grpc-js, whose serializer returns its
 * bytes. A foreign interceptor gets a message: at first the application's own object, as from grpc-js, and later
 * copies.
 */
export class KeptRequest {
  readonly #serialize: RequestSerialize;
  readonly #below: Reach;
  /**
   * The application's object, until the call returns in which the application sent it. After that it may be changed.
   */
  #given: unknown;
  /** The call in which the application sent the message has not returned. */
  #fresh = true;
  #copy: MessageCopy | undefined;
  #bytes: Buffer | undefined;
  #failure: { readonly error: unknown } | undefined;

  /**
   * @param below Who handles the message. A foreign interceptor may replace it, so that it is serialized after that.
   */
  constructor(serialize: RequestSerialize, message: unknown, below: Reach) {
    this.#serialize = serialize;
    this.#below = below;
    this.#given = message;
    if (below === "foreign") this.copy();
    else this.#open(message);
    // An interceptor below may turn it into what the serializer accepts. If not, it fails when it is sent.
    if (below === "unknown") this.#failure = undefined;
  }

  /** Set where it is certain that the message cannot be serialized. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /** The bytes to send. Throws what the serializer threw. */
  get bytes(): Buffer {
    if (this.#bytes === undefined && this.#failure === undefined) this.#open(this.message());
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#bytes ?? Buffer.alloc(0);
  }

  /** The message, for a foreign interceptor. */
  message(): unknown {
    if (this.#fresh) return this.#given;
    // No copy was made where only layers of the toolkit were expected. The bytes are right nevertheless.
    return this.#copy === undefined ? this : this.#copy.make();
  }

  /** A copy of the message, for functions that read it later. */
  copy(): MessageCopy | undefined {
    if (this.#fresh) this.#copy ??= new MessageCopy(this.#given, this.#serialize);
    return this.#copy;
  }

  /**
   * The application's call is about to return: from now on the application may change its object.
   *
   * @param by The call that keeps the message. It may now know who handles messages.
   */
  settle(by: KeepingCall): void {
    if (this.#below !== "open" && by[reach]() !== "open") this.copy();
    this.#given = undefined;
    this.#fresh = false;
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
 * Keeps a message. A message that is kept already stays as it is. Who keeps a message calls `settle` on it.
 *
 * @param by The call that keeps the message.
 */
export function keepRequest(
  definition: Definition,
  message: unknown,
  by: KeepingCall,
): KeptRequest {
  if (message instanceof KeptRequest) return message;
  // First, because the reach depends on it.
  const below = letOpen(definition) ? by[reach]() : "foreign";
  return new KeptRequest(definition.requestSerialize, message, below);
}

/** Sends a message to the call below, in the form that this call accepts. */
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

/** Starts the call below. A foreign interceptor gets a copy of kept metadata, because it may write to them. */
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

/** The message that the application sent, for functions that read it now. */
export function readable(message: unknown): unknown {
  return message instanceof KeptRequest ? message.message() : message;
}

/** The message that the application sent, for functions that read it later. */
export function readableLater(definition: Definition, message: unknown): MessageCopy | undefined {
  if (message instanceof KeptRequest) return message.copy();
  return new MessageCopy(message, definition.requestSerialize);
}

/** Marks a serializer that accepts kept requests. */
const opens: unique symbol = Symbol("grpc-weir.opens");
const opening = new WeakMap<RequestSerialize, RequestSerialize>();
/** The last one, because most calls have the same method as the one before. */
let latest: { readonly closed: RequestSerialize; readonly open: RequestSerialize } | undefined;

/**
 * Lets the serializer of this call accept kept requests, too. grpc-js makes a method definition for each call, and
 * reads the serializer from it at each message, so this affects no other call. False where the definition is frozen.
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

/** Whether this is the call of grpc-js that serializes with this definition, and not with a copy of it. */
function serializes(call: ClientCall, definition: Definition): boolean {
  return "methodDefinition" in call && call.methodDefinition === definition;
}

/** Whether it is, and its serializer accepts kept requests. */
function isBottom(call: ClientCall, definition: Definition): boolean {
  return serializes(call, definition) && opens in definition.requestSerialize;
}
