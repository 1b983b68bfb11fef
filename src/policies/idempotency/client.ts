import { createHash, randomUUID } from "node:crypto";
import {
  type Interceptor,
  Metadata,
  type NextCall,
  propagate,
  status as Status,
} from "@grpc/grpc-js";
import { type Random, systemRandom } from "../../core/clock.js";
import { InvalidOptionError, optionalFunction, readOptions } from "../../core/options.js";
import { ask, type ReportError, safely } from "../../core/user-code.js";
import { ForwardingCall } from "../../grpc/client/forwarding-call.js";
import { asKept, copyMetadata } from "../../grpc/client/kept-metadata.js";
import { KeptRequest, keepRequest, readable } from "../../grpc/client/kept-request.js";
import { interceptorOf, type Layer } from "../../grpc/client/layers.js";
import type { StandaloneOptions } from "../../grpc/client/policy.js";
import { type CallRecord, type OptionsWithOwn, recordKey } from "../../grpc/context/call-record.js";
import { follows, toMonotonic } from "../../grpc/deadline.js";
import { type Environment, environmentOf, environmentOptionNames } from "../../grpc/environment.js";
import type { MessageContext } from "../../grpc/types.js";
import { isIdempotencyKey, maxIdempotencyKeyLength } from "./levels.js";

/** What a call tells a key function beside its request. The metadata is the caller's: read it only. */
export interface KeyRequest {
  /** `/pkg.Service/Method` */
  readonly method: string;
  readonly metadata: Pick<Metadata, "get" | "getMap">;
}

/** Which idempotency key a call is sent with, and what it is worth. */
export interface IdempotencyKeyOptions {
  /**
   * Where the key of a call comes from that brings none itself:
   *
   * - `uuid`: a random one for each call. It makes the attempts of one call the same to the server;
   * - `request-hash`: SHA-256, in hex, of the method and the serialized request. Equal requests have equal
   *   keys, from whichever process: only for requests that name what they are about, or the second order
   *   of the same thing is taken for the first;
   * - a function of the request. `undefined` sends the call without a key.
   *
   * The last two need the request before the call starts, so they suit unary and server-streaming methods.
   * A call that streams its request ends with INTERNAL.
   *
   * @defaultValue "uuid"
   */
  readonly source?:
    | "uuid"
    | "request-hash"
    | ((request: unknown, call: KeyRequest) => string | undefined);
  /**
   * Whether the server is known to run a call once for each key. Then a call with a key may be retried and hedged
   * as one of an idempotent method. A key by itself promises nothing. @defaultValue false
   */
  readonly honoured?: boolean;
  /**
   * Makes the keys of `uuid`. They must differ between processes.
   * @defaultValue `crypto.randomUUID`; UUIDs made of the `random` of the weir, where one was handed in
   */
  readonly uuid?: () => string;
}

/** Checked, complete and frozen. */
export type ResolvedIdempotencyKeyOptions = Required<Omit<IdempotencyKeyOptions, "uuid">> & {
  readonly uuid: IdempotencyKeyOptions["uuid"];
};

const optionNames = [
  "source",
  "honoured",
  "uuid",
] as const satisfies readonly (keyof IdempotencyKeyOptions)[];

/**
 * @param alsoKnown Names of options that are somebody else's and stand beside.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveIdempotencyKeyOptions(
  given: IdempotencyKeyOptions = {},
  prefix = "idempotencyKey",
  alsoKnown: readonly string[] = [],
): ResolvedIdempotencyKeyOptions {
  const options = readOptions(prefix, given, [...optionNames, ...alsoKnown]);
  const { source = "uuid", honoured = false, uuid } = options;
  if (source !== "uuid" && source !== "request-hash" && typeof source !== "function") {
    throw new InvalidOptionError(`${prefix}.source`, "uuid, request-hash or a function", source);
  }
  if (typeof honoured !== "boolean") {
    throw new InvalidOptionError(`${prefix}.honoured`, "true or false", honoured);
  }
  optionalFunction(`${prefix}.uuid`, uuid);
  return Object.freeze({ source, honoured, uuid });
}

/**
 * Sends every call with an idempotency key, one for the call and so the same for all of its attempts: it
 * stands above whatever retries and hedges. A valid key in the caller's metadata is kept; one that is not
 * is reported, left as it is, and counts for nothing.
 */
export function idempotencyKeyLayer(
  environment: Environment,
  policy: ResolvedIdempotencyKeyOptions,
): Layer {
  return (options, nextCall) =>
    new IdempotentCall(options, nextCall, options[recordKey], policy, environment);
}

/** Where reports of this policy come from. */
const where = "idempotencyKey";

class IdempotentCall extends ForwardingCall<OptionsWithOwn> {
  readonly #record: CallRecord;
  readonly #policy: ResolvedIdempotencyKeyOptions;
  readonly #reportError: ReportError;
  readonly #random: Random;
  /** The metadata of a call whose key is made of the request, until that comes. */
  #waiting: Metadata | undefined;
  #stopWaiting: (() => void) | undefined;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    policy: ResolvedIdempotencyKeyOptions,
    { report, random }: Environment,
  ) {
    super(options, nextCall);
    this.#record = record;
    this.#policy = policy;
    this.#reportError = report;
    this.#random = random;
  }

  protected override begin(metadata: Metadata): void {
    const given = readIdempotencyKey(metadata);
    if (given.kind === "key") {
      this.#note(given.key);
      this.forward(metadata);
    } else if (given.kind === "invalid") {
      this.#report(new TypeError(`The call's own ${idempotencyKeyName} is not ${keyRule}`));
      this.forward(metadata);
    } else if (this.#policy.source === "uuid") {
      this.#forwardWith(this.#uuid(), copyMetadata(metadata));
    } else if (this.options.method_definition.requestStream) this.#refuse(this.#policy.source);
    else this.#await(metadata);
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    const metadata = this.#waiting;
    if (metadata === undefined) {
      super.sendMessageWithContext(context, message);
      return;
    }
    // Serialized for its key, it is not serialized again where it is sent.
    const hashed = this.#policy.source === "request-hash";
    const { method_definition: definition } = this.options;
    const sent = hashed ? keepRequest(definition, message, this) : message;
    // Forwarded first, so that the message takes the same way as without a key.
    this.#forwardWith(this.#keyOf(sent, metadata), metadata);
    super.sendMessageWithContext(context, sent);
    if (sent instanceof KeptRequest && sent !== message) sent.settle(this);
  }

  override halfClose(): void {
    const metadata = this.#waiting;
    // No request came, so there is nothing to make a key of. What that means is the server's to say.
    if (metadata !== undefined) this.#forwardWith(undefined, metadata);
    super.halfClose();
  }

  protected override released(): void {
    this.#waiting = undefined;
    this.#stopWaiting?.();
  }

  /**
   * Puts the start off until the request is there. grpc-js sends it in the same tick; an interceptor above may
   * take its time. A call that is over meanwhile goes on without a key, to where deadlines are watched.
   */
  #await(metadata: Metadata): void {
    const own = copyMetadata(metadata);
    this.#waiting = own;
    const { clock, inbound } = this.#record;
    const giveUp = () => this.#forwardWith(undefined, own);
    const cancelled = follows(this.options, propagate.CANCELLATION);
    const unfollow = cancelled ? inbound?.onCancelled(giveUp) : undefined;
    // A deadline that is no time is as good as none here: it is refused below.
    const deadlineMs = toMonotonic(this.options.deadline, clock, clock.now());
    const stopTimer =
      deadlineMs === undefined || deadlineMs === Number.POSITIVE_INFINITY
        ? undefined
        : clock.schedule(Math.max(0, deadlineMs - clock.now()), giveUp);
    this.#stopWaiting = () => {
      unfollow?.();
      stopTimer?.();
    };
  }

  /** @param own A copy of the caller's metadata, who may send them again. */
  #forwardWith(key: string | undefined, own: Metadata): void {
    this.released();
    if (key !== undefined) {
      this.#note(key);
      own.set(idempotencyKeyName, key);
    }
    this.forward(asKept(own));
  }

  #note(key: string): void {
    this.#record.idempotencyKey = key;
    this.#record.keyHonoured = this.#policy.honoured;
  }

  #refuse(source: "request-hash" | object): void {
    const name = source === "request-hash" ? '"request-hash"' : "a function";
    this.finish({
      code: Status.INTERNAL,
      details:
        `idempotencyKey.source: ${name} needs the request before the call starts, and ${this.#record.method} ` +
        `streams its requests. Use "uuid", or set ${idempotencyKeyName} in the metadata of the call`,
      metadata: new Metadata(),
    });
  }

  /** What goes wrong here is not the call's fault: it then has a key as random as any. */
  #keyOf(message: unknown, metadata: Metadata): string | undefined {
    const { source } = this.#policy;
    const { method } = this.#record;
    const question = () =>
      typeof source === "function"
        ? source(readable(message), { method, metadata })
        : this.#hash(message);
    const otherwise = Symbol();
    const key = ask(question, keyOrNone, otherwise, this.#reportError, where);
    return key === otherwise ? this.#uuid() : key;
  }

  #hash(message: unknown): string {
    const { bytes } = keepRequest(this.options.method_definition, message, this);
    // No path has a NUL, so no two pairs of path and request run together.
    const hash = createHash("sha256").update(this.options.method_definition.path).update("\0");
    return hash.update(bytes).digest("hex");
  }

  #uuid(): string {
    const { uuid } = this.#policy;
    const key = uuid && ask(() => uuid(), uuidKey, undefined, this.#reportError, where);
    return key ?? uuidOf(this.#random);
  }

  #report(error: unknown): void {
    safely(this.#reportError, error, where);
  }
}

function keyOrNone(answer: unknown): string | undefined {
  if (answer === undefined || isIdempotencyKey(answer)) return answer;
  throw new TypeError(`The key function must return ${keyRule}, or undefined`);
}

function uuidKey(answer: unknown): string {
  if (isIdempotencyKey(answer)) return answer;
  throw new TypeError(`uuid must return ${keyRule}`);
}

/** A UUID of version 4. By the system's own chance it is one that nobody can guess. */
function uuidOf(random: Random): string {
  if (random === systemRandom) return randomUUID();
  const bytes = Buffer.from(Array.from({ length: 16 }, () => Math.floor(random() * 256)));
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

const keyRule = `one value of 1 to ${maxIdempotencyKeyLength} printable ASCII characters`;

/**
 * Idempotency keys as an interceptor of their own: {@link idempotencyKeyLayer} with the same options for
 * all methods. Put it above `deadline` and `retry`.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function idempotencyKey(
  options: IdempotencyKeyOptions & StandaloneOptions = {},
): Interceptor {
  const policy = resolveIdempotencyKeyOptions(options, where, environmentOptionNames);
  const environment = environmentOf(options, where);
  return interceptorOf(environment, idempotencyKeyLayer(environment, policy));
}

/**
 * Request: names the call, so that a server that honours it runs the call once, however often it is
 * sent. The lower-case form of the header in the IETF draft "The Idempotency-Key HTTP Header Field".
 */
const idempotencyKeyName = "idempotency-key";

/** What the metadata of a call says of its idempotency key. */
export type KeyInMetadata =
  | { readonly kind: "absent" }
  | { readonly kind: "invalid" }
  | { readonly kind: "key"; readonly key: string };

/**
 * Several keys, a key that is too long or has other characters than printable ASCII: all are invalid.
 *
 * @internal Exported for its tests.
 */
export function readIdempotencyKey(metadata: Metadata): KeyInMetadata {
  const values = metadata.get(idempotencyKeyName);
  if (values.length === 0) return { kind: "absent" };
  const [key] = values;
  return values.length === 1 && isIdempotencyKey(key) ? { kind: "key", key } : { kind: "invalid" };
}
