import { createHash, randomUUID } from "node:crypto";
import {
  type Interceptor,
  Metadata,
  type NextCall,
  propagate,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { type Random, systemRandom } from "../../core/clock.js";
import type { Reason } from "../../core/decision.js";
import { InvalidOptionError, optionalFunction, readOptions } from "../../core/options.js";
import { ask, type ReportError, reportSafely } from "../../core/user-code.js";
import type { AttemptPart } from "../../grpc/client/attempt.js";
import { KeptRequest, keepRequest, readable } from "../../grpc/client/kept-request.js";
import { interceptorOf, type Layer, segmentOf } from "../../grpc/client/parts.js";
import { type CallPart, PipelineCall, type Segment } from "../../grpc/client/pipeline-call.js";
import type { StandaloneOptions } from "../../grpc/client/policy.js";
import type { CallRecord, OptionsWithRecord } from "../../grpc/context/call-record.js";
import { follows, toMonotonic } from "../../grpc/deadline.js";
import { type Environment, environmentOf, environmentOptionNames } from "../../grpc/environment.js";
import { idempotencyKeyName, keyMarkName, readIdempotencyKey } from "../../grpc/metadata.js";
import type { Failure } from "../../grpc/status/outcome.js";
import type { MessageContext } from "../../grpc/types.js";
import { HonouredKeys } from "./honours.js";
import { isIdempotencyKey, maxIdempotencyKeyLength } from "./levels.js";

/**
 * The call, for a key function. Its metadata is the caller's own: do not change it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface KeyRequest {
  /** `/pkg.Service/Method` */
  readonly method: string;
  readonly metadata: Pick<Metadata, "get" | "getMap">;
}

/**
 * Which idempotency key a call is sent with, and what the server does with it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface IdempotencyKeyOptions {
  /**
   * Where the key comes from, for calls that have none in their metadata:
   *
   * - `uuid`: a random key for each call. To the server the attempts of one call are the same;
   * - `request-hash`: SHA-256, in hex, of the method and the serialized request. Equal requests have equal keys, in all
   *   processes. Only for requests with an identity of their own: otherwise a second order of the same thing is taken
   *   for the first;
   * - a function of the request. `undefined` sends the call without a key.
   *
   * The last two need the request before the call starts, so they work for unary and server-streaming methods. A call
   * that streams its request ends with INTERNAL.
   *
   * @defaultValue "uuid"
   */
  readonly source?:
    | "uuid"
    | "request-hash"
    | ((request: unknown, call: KeyRequest) => string | undefined);
  /**
   * Whether the server runs a call once for each key. Then a call with a key may be retried and hedged like a call of an
   * idempotent method. A key alone does not make that safe.
   * @defaultValue what the server says: servers with the policy `idempotency` mark their answers, and the mark counts for a
   *   minute, for the target and the method
   */
  readonly honoured?: boolean;
  /**
   * Makes the keys for the source `uuid`. They must differ between processes. If it throws or returns no valid key, that
   * is reported, and the default makes the key.
   * @defaultValue `crypto.randomUUID`; with a `random` of your own, UUIDs made from it
   */
  readonly uuid?: () => string;
}

/** Checked, complete and frozen. */
export interface ResolvedIdempotencyKeyOptions {
  readonly source: NonNullable<IdempotencyKeyOptions["source"]>;
  /** `undefined`: as the server says. */
  readonly honoured: boolean | undefined;
  readonly uuid: IdempotencyKeyOptions["uuid"];
}

const optionNames = [
  "source",
  "honoured",
  "uuid",
] as const satisfies readonly (keyof IdempotencyKeyOptions)[];

/**
 * @param alsoKnown Names of further options, which the caller reads.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveIdempotencyKeyOptions(
  given: IdempotencyKeyOptions = {},
  prefix = "idempotencyKey",
  alsoKnown: readonly string[] = [],
): ResolvedIdempotencyKeyOptions {
  const options = readOptions(prefix, given, [...optionNames, ...alsoKnown]);
  const { source = "uuid", honoured, uuid } = options;
  if (source !== "uuid" && source !== "request-hash" && typeof source !== "function") {
    throw new InvalidOptionError(`${prefix}.source`, "uuid, request-hash or a function", source);
  }
  if (honoured !== undefined && typeof honoured !== "boolean") {
    throw new InvalidOptionError(`${prefix}.honoured`, "true, false or absent", honoured);
  }
  optionalFunction(`${prefix}.uuid`, uuid);
  return Object.freeze({ source, honoured, uuid });
}

/** The parts of the policy: above the retries, and below them. */
export interface IdempotencyKeyParts {
  readonly call: CallPart | Layer;
  /** Absent where nothing is to be learnt. */
  readonly attempt: AttemptPart | undefined;
}

/**
 * Sends every call with an idempotency key. The first part stands above retries and hedges, so that all attempts of a call
 * have the same key. A valid key in the caller's metadata is kept. An invalid one is reported and sent as it is, and does not
 * make the call safe to retry. The second part learns from the answers whether the server honours keys.
 */
export function idempotencyKeyParts(
  environment: Environment,
  policy: ResolvedIdempotencyKeyOptions,
): IdempotencyKeyParts {
  const keys = new Keys(policy, environment);
  const attempt = policy.honoured === undefined ? learningPart(keys) : undefined;
  return { call: keyPart(environment, policy, keys), attempt };
}

function keyPart(
  environment: Environment,
  policy: ResolvedIdempotencyKeyOptions,
  keys: Keys,
): CallPart | Layer {
  if (policy.source !== "uuid") {
    const segment = segmentOf(environment);
    return (options, nextCall) => new KeyedByRequestCall(options, nextCall, segment, policy, keys);
  }
  return {
    at: "call",
    begin(call) {
      const { record, metadata } = call;
      if (keys.given(record, metadata)) return undefined;
      const key = keys.random();
      keys.note(record, key);
      call.writableMetadata().set(idempotencyKeyName, key);
      return undefined;
    },
  };
}

/** Learns from each answer to a call with a key, before it is decided about a retry. */
function learningPart(keys: Keys): AttemptPart {
  return {
    at: "attempt",
    begin({ record }) {
      if (record.idempotencyKey === undefined) return undefined;
      return {
        ended(status, failure) {
          keys.learn(record, status, failure);
          return undefined;
        },
      };
    },
  };
}

/** The refusals of servers that honour keys. */
const refusalsOfHonouring: ReadonlySet<Reason> = new Set<Reason>([
  "IDEMPOTENCY_IN_PROGRESS",
  "IDEMPOTENCY_ANSWER_NOT_STORED",
]);

/** Whether an answer says that the key is honoured, or that it is not; `undefined` where it says nothing. */
function saidBy(status: StatusObject, failure: Failure | undefined): boolean | undefined {
  const mark = status.metadata.get(keyMarkName)[0];
  if (failure === undefined) return mark === "honoured";
  // Only what the server itself has said: a proxy does not set the mark, and a status of this process has none.
  if (failure.origin !== "remote") return undefined;
  if (mark !== undefined) return mark === "honoured";
  const { rejection } = failure;
  const honours = rejection?.hops === 0 && refusalsOfHonouring.has(rejection.reason);
  return honours ? true : undefined;
}

/** The name of this policy in reports of errors. */
const where = "idempotencyKey";

/** Makes keys, and notes them. */
class Keys {
  readonly #policy: ResolvedIdempotencyKeyOptions;
  readonly #random: Random;
  readonly #honoured: HonouredKeys;
  readonly report: ReportError;

  constructor(policy: ResolvedIdempotencyKeyOptions, { clock, report, random }: Environment) {
    this.#policy = policy;
    this.#random = random;
    this.#honoured = new HonouredKeys(clock);
    this.report = report;
  }

  /** Whether the caller has given a key. An invalid one is reported. */
  given(record: CallRecord, metadata: Metadata): boolean {
    const given = readIdempotencyKey(metadata);
    if (given.kind === "absent") return false;
    if (given.kind === "key") this.note(record, given.key);
    else {
      const error = new TypeError(`The call's own ${idempotencyKeyName} is not ${keyRule}`);
      reportSafely(this.report, error, where);
    }
    return true;
  }

  note(record: CallRecord, key: string): void {
    record.idempotencyKey = key;
    record.keyHonoured = this.#policy.honoured ?? this.#honoured.honours(record.target);
  }

  /** An attempt has ended: what its status says counts for the next attempt of the call, too. */
  learn(record: CallRecord, status: StatusObject, failure: Failure | undefined): void {
    const said = saidBy(status, failure);
    if (said === undefined) return;
    this.#honoured.note(record.target, said);
    record.keyHonoured = this.#honoured.honours(record.target);
  }

  random(): string {
    const { uuid } = this.#policy;
    const key = uuid && ask(() => uuid(), uuidKey, undefined, this.report, where);
    return key ?? uuidOf(this.#random);
  }
}

/** A call whose key is made of its request, so that it starts when the request is there. */
class KeyedByRequestCall extends PipelineCall {
  readonly #policy: ResolvedIdempotencyKeyOptions;
  readonly #keys: Keys;
  /** Set while the call waits for its request, to make the key of it. */
  #stopWaiting: (() => void) | undefined;

  constructor(
    options: OptionsWithRecord,
    nextCall: NextCall,
    segment: Segment,
    policy: ResolvedIdempotencyKeyOptions,
    keys: Keys,
  ) {
    super(options, nextCall, segment);
    this.#policy = policy;
    this.#keys = keys;
  }

  protected override begin(): void {
    if (this.#keys.given(this.record, this.metadata)) super.begin();
    else if (this.options.method_definition.requestStream) this.#refuse(this.#policy.source);
    else this.#await();
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    if (this.#stopWaiting === undefined) {
      super.sendMessageWithContext(context, message);
      return;
    }
    // The bytes that are hashed are also the ones that are sent.
    const hashed = this.#policy.source === "request-hash";
    const { method_definition: definition } = this.options;
    const sent = hashed ? keepRequest(definition, message, this) : message;
    // The attempt is launched first, so that the message is sent in the usual way.
    this.#launchWith(this.#keyOf(sent));
    super.sendMessageWithContext(context, sent);
    if (sent instanceof KeptRequest && sent !== message) sent.settle(this);
  }

  override halfClose(): void {
    // There is no request to make a key of. The call goes on without one, and the server answers it.
    if (this.#stopWaiting !== undefined) this.#launchWith(undefined);
    super.halfClose();
  }

  protected override released(): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
  }

  /**
   * Delays the attempt until the request is there. grpc-js sends the request in the same tick; an interceptor above may
   * take longer. If the call is cancelled or runs out of time meanwhile, it goes on without a key, to the layer of
   * deadlines, which ends it.
   */
  #await(): void {
    // The caller may use its own object again.
    this.writableMetadata();
    const { clock, inbound } = this.record;
    const giveUp = () => this.#launchWith(undefined);
    const cancelled = follows(this.options, propagate.CANCELLATION);
    const unfollow = cancelled ? inbound?.onCancelled(giveUp) : undefined;
    // A deadline that is no time is ignored here. The layer of deadlines refuses it.
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

  #launchWith(key: string | undefined): void {
    this.released();
    if (key !== undefined) {
      this.#keys.note(this.record, key);
      this.writableMetadata().set(idempotencyKeyName, key);
    }
    super.begin();
  }

  #refuse(source: ResolvedIdempotencyKeyOptions["source"]): void {
    const name = source === "request-hash" ? '"request-hash"' : "a function";
    this.finish({
      code: Status.INTERNAL,
      details:
        `idempotencyKey.source: ${name} needs the request before the call starts, and ${this.record.method} ` +
        `streams its requests. Use "uuid", or set ${idempotencyKeyName} in the metadata of the call`,
      metadata: new Metadata(),
    });
  }

  /** If the key cannot be made, that is reported, and the call gets a random key. */
  #keyOf(message: unknown): string | undefined {
    const { source } = this.#policy;
    const { metadata } = this;
    const { method } = this.record;
    const question = () =>
      typeof source === "function"
        ? source(readable(message), { method, metadata })
        : this.#hash(message);
    const otherwise = Symbol();
    const key = ask(question, keyOrNone, otherwise, this.#keys.report, where);
    return key === otherwise ? this.#keys.random() : key;
  }

  #hash(message: unknown): string {
    const { bytes } = keepRequest(this.options.method_definition, message, this);
    // A NUL, which no path contains, separates path and request.
    const hash = createHash("sha256").update(this.options.method_definition.path).update("\0");
    return hash.update(bytes).digest("hex");
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

/** A UUID of version 4. With the random source of the system it cannot be guessed. */
function uuidOf(random: Random): string {
  if (random === systemRandom) return randomUUID();
  const bytes = Buffer.from(Array.from({ length: 16 }, () => Math.floor(random() * 256)));
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

const keyRule = `one value of 1 to ${maxIdempotencyKeyLength} printable ASCII characters`;

/**
 * Idempotency keys as an interceptor of their own, with the same options for all methods. Put it above `deadline` and `retry`.
 * It stands above the attempts, so it learns from the last answer to each call.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export function idempotencyKey(
  options: IdempotencyKeyOptions & StandaloneOptions = {},
): Interceptor {
  const policy = resolveIdempotencyKeyOptions(options, where, environmentOptionNames);
  const environment = environmentOf(options, where);
  const { call, attempt } = idempotencyKeyParts(environment, policy);
  return interceptorOf(environment, call, attempt);
}
