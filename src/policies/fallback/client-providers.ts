import {
  type Client,
  type InterceptorOptions,
  Metadata,
  type ServiceError,
  type StatusObject,
} from "@grpc/grpc-js";
import { InvalidOptionError, optionalFunction, readOptions } from "../../core/options.js";
import type { StatusOrigin } from "../../core/status.js";
import {
  answerOf,
  ask,
  type ReportError,
  reportSafely,
  whenKnown,
  yesOrNo,
} from "../../core/user-code.js";
import { copyMetadata } from "../../grpc/client/kept-metadata.js";
import type { MessageCopy } from "../../grpc/client/kept-request.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import { CallDeadline, toEpoch } from "../../grpc/deadline.js";
import type { Environment } from "../../grpc/environment.js";
import { Failure } from "../../grpc/status/outcome.js";
import type { Rejection } from "../../grpc/status/rejection.js";
import type { CallKind } from "../../grpc/types.js";
import {
  type FallbackLimits,
  type FallbackReply,
  fallbackHelps,
  ProviderLoad,
  type ResolvedFallbackLimits,
  resolveFallbackLimits,
} from "./chain.js";
import type { Known } from "./stale-cache/answer-cache.js";

/**
 * The failure of a call, for which a fallback looks for another answer.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface FallbackFailure extends StatusObject {
  readonly origin: StatusOrigin;
  /** Set when a policy refused the call, in this process or in a server. */
  readonly rejection: Rejection | undefined;
}

/**
 * The failed call, for a function that answers it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface FallbackContext {
  /** `/pkg.Service/Method`. */
  readonly method: string;
  readonly kind: CallKind;
  readonly failure: FallbackFailure;
  /** A copy of the metadata that the request was sent with. */
  readonly metadata: Metadata;
  /** Aborted when the answer is no longer needed: the call was cancelled, or its time or that of the provider is over. */
  readonly signal: AbortSignal;
  /**
   * Until when an answer counts, in milliseconds since the epoch, as in `CallOptions.deadline`. A streamed answer must have
   * begun by then.
   */
  readonly deadline: number;
}

/**
 * Options of every provider.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface FallbackProviderOptions extends FallbackLimits {
  /**
   * Whether the provider answers this failure. It is not asked about calls that their caller cancelled. If it throws,
   * the default decides. It is also asked once about a DEADLINE_EXCEEDED: only if it returns true then, some of a call's
   * time is kept for the provider.
   * @defaultValue UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, INTERNAL, UNKNOWN and DATA_LOSS, unless
   *   this process could not send or read a message
   */
  readonly when?: (failure: FallbackFailure) => boolean;
}

/**
 * Options of providers that take time.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface TimedProviderOptions extends FallbackProviderOptions {
  /** How long it may take, 1 ms to 24 days; never longer than the call has left. @defaultValue see each provider */
  readonly timeoutMs?: number;
}

/** The failed call, for a provider. */
export interface AskedCall {
  readonly kind: CallKind;
  /** A copy of the request as it was when the call was made. */
  readonly request: unknown;
  readonly definition: InterceptorOptions["method_definition"];
  /** The key of the call in the stale cache, where there is one. */
  readonly key: string | undefined;
  /** Made only for providers that need it. */
  readonly context: () => FallbackContext;
  /** The deadline for a call that the toolkit makes itself, and ends by it. */
  readonly watched: () => CallDeadline;
}

/** The answer of a provider, before it is checked. */
export interface ProvidedAnswer {
  /** The message of a single response; an iterable of messages for a streamed one. */
  readonly response: unknown;
  readonly ageMs?: number;
}

/** A provider as part of one policy, with its state there. */
export interface FallbackSource {
  readonly load: ProviderLoad;
  readonly when: FallbackProviderOptions["when"];
  /** It calls no function of the user's, so that it is asked in `observe` too. It does not need the request. */
  readonly harmless: boolean;
  /** Its answers are in a store that it cannot reach now. */
  readonly storeAway?: boolean;
  /** `undefined`: it has no answer to this call. May throw. */
  ask(call: AskedCall): Known<ProvidedAnswer | undefined>;
}

/**
 * One link of a fallback chain, made by `staleCache`, `alternative`, `value`, `staticValue` or `empty`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export abstract class FallbackProvider {
  readonly limits: ResolvedFallbackLimits;
  readonly when: FallbackProviderOptions["when"];
  /** It stores the answers of calls that succeed. */
  readonly stores: boolean = false;

  constructor(
    options: TimedProviderOptions,
    defaults: { readonly name: string; readonly timeoutMs: number },
    prefix: string,
  ) {
    this.limits = resolveFallbackLimits(options, defaults, prefix);
    this.when = optionalFunction(`${prefix}.when`, options.when);
  }

  /** Makes the state of the provider in one policy. */
  abstract build(environment: Environment): FallbackSource;
}

const providerKeys = ["name", "maxConcurrent", "when"] as const;
export const timedProviderKeys = [...providerKeys, "timeoutMs"] as const;

/** Whether a provider answers a failure. */
export function accepts(
  { when, load }: Pick<FallbackSource, "when" | "load">,
  failure: FallbackFailure,
  report: ReportError,
): boolean {
  const { code, origin, rejection } = failure;
  const helps = () => fallbackHelps({ code, origin, reason: rejection?.reason });
  if (when === undefined) return helps();
  const where = `fallback ${load.limits.name}.when`;
  return ask(() => when(failure), yesOrNo, undefined, report, where) ?? helps();
}

/**
 * The result of a function: the message of a single response, or the messages of a streamed one.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export type FallbackResponse<Response> = Response | AsyncIterable<Response> | Iterable<Response>;

/**
 * A function that answers in place of a service. With `undefined`, the next provider is asked.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export type FallbackFunction<Request, Response> = (
  request: Request,
  context: FallbackContext,
) => Known<FallbackResponse<Response> | undefined>;

/** The share of a provider that answers at once in the reserve. */
const atOnceMs = 10;

class FunctionProvider extends FallbackProvider {
  readonly #ask: FallbackSource["ask"];
  readonly #harmless: boolean;

  constructor(
    options: TimedProviderOptions,
    defaults: { readonly name: string; readonly timeoutMs: number },
    prefix: string,
    ask: (call: AskedCall) => Known<unknown>,
    harmless: boolean,
  ) {
    super(options, defaults, prefix);
    this.#ask = (call) => {
      const response = answerOf(() => ask(call));
      return response instanceof Promise ? response.then(provided) : provided(response);
    };
    this.#harmless = harmless;
  }

  override build(): FallbackSource {
    const load = new ProviderLoad(this.limits);
    return { load, when: this.when, harmless: this.#harmless, ask: this.#ask };
  }
}

function provided(response: unknown): ProvidedAnswer | undefined {
  return response === undefined ? undefined : { response };
}

/**
 * Answers with the result of a function that calls another service, or of the same method of another client. It may take
 * `timeoutMs` (default 1,000).
 *
 * A streamed response may be any iterable of messages. It is read as fast as the caller reads.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export function alternative<Request, Response>(
  ask: FallbackFunction<Request, Response>,
  options?: TimedProviderOptions,
): FallbackProvider;
export function alternative<C extends Client>(
  client: C,
  method: Extract<keyof C, string>,
  options?: TimedProviderOptions,
): FallbackProvider;
export function alternative(
  source: FallbackFunction<never, unknown> | object,
  second: TimedProviderOptions | string = {},
  third: TimedProviderOptions = {},
): FallbackProvider {
  const given = typeof second === "string" ? third : second;
  const options = readOptions("alternative", given, timedProviderKeys);
  const ask = typeof second === "string" ? methodOf(source, second) : functionOf(source);
  return new FunctionProvider(
    options,
    { name: "alternative", timeoutMs: 1_000 },
    "alternative",
    ask,
    false,
  );
}

/**
 * Answers with the result of a function that needs no other service. It may take `timeoutMs` (default 100).
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export function value<Request, Response>(
  make: FallbackFunction<Request, Response>,
  given: TimedProviderOptions = {},
): FallbackProvider {
  const options = readOptions("value", given, timedProviderKeys);
  return new FunctionProvider(
    options,
    { name: "value", timeoutMs: 100 },
    "value",
    functionOf(make, "value"),
    false,
  );
}

/**
 * Answers with a constant: a message, or an array of messages for a streamed response. All calls get the same object; use
 * `value` to make one for each call.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export function staticValue(
  response: unknown,
  given: FallbackProviderOptions = {},
): FallbackProvider {
  const options = readOptions("staticValue", given, providerKeys);
  if (response === undefined || response === null) {
    throw new InvalidOptionError("staticValue", "a response", response);
  }
  return new FunctionProvider(
    options,
    { name: "static", timeoutMs: atOnceMs },
    "staticValue",
    ({ kind }) => (kind === "unary" || Array.isArray(response) ? response : [response]),
    true,
  );
}

/**
 * Answers with the message in which every field has its default, or with a stream without messages.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export function empty(given: FallbackProviderOptions = {}): FallbackProvider {
  const options = readOptions("empty", given, providerKeys);
  return new FunctionProvider(
    options,
    { name: "empty", timeoutMs: atOnceMs },
    "empty",
    ({ kind, definition }) =>
      kind === "unary" ? definition.responseDeserialize(Buffer.alloc(0)) : [],
    true,
  );
}

function functionOf(source: unknown, prefix = "alternative"): (call: AskedCall) => Known<unknown> {
  if (typeof source !== "function") throw new InvalidOptionError(prefix, "a function", source);
  return ({ request, context }) => source(request, context()) as unknown;
}

/** Calls a method of a client that was generated or made from a definition. */
function methodOf(client: object, name: string): (call: AskedCall) => Known<unknown> {
  const method: unknown = (client as Readonly<Record<string, unknown>> | null)?.[name];
  if (typeof method !== "function") {
    throw new InvalidOptionError(`alternative("${name}")`, "a method of the client", method);
  }
  return ({ request, kind, context, watched }) => {
    const { metadata, signal } = context();
    const deadline = watched();
    const options = { deadline };
    const start = (...args: unknown[]): CancellableCall | undefined =>
      deadline.make(() => method.apply(client, args));
    // A client that is a test double may return nothing.
    const abortWith = (call: CancellableCall | undefined) =>
      signal.addEventListener("abort", () => call?.cancel(), { once: true });
    if (kind === "server-stream") {
      const stream = start(request, metadata, options);
      // The iteration throws the error. Without a listener, one that comes later would end the process.
      stream?.on("error", () => {});
      abortWith(stream);
      return stream;
    }
    return new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, response: unknown) =>
        error === null ? resolve(response) : reject(error);
      abortWith(start(request, metadata, options, done));
    });
  };
}

interface CancellableCall {
  cancel(): void;
  on(event: "error", listener: () => void): unknown;
}

/** The failure of a call. Where it came from is taken from the attempt that ended with it, if there is one. */
export function failureOf(
  status: StatusObject,
  { attempts, target }: CallRecord,
  sawHeaders: boolean,
  peer: string,
): FallbackFailure {
  const attempt = attempts.findLast((one) => one.failure?.status.metadata === status.metadata);
  const failure = attempt?.failure ?? Failure.read(status, { sawHeaders, peer, target });
  return { ...status, origin: failure?.origin ?? "remote", rejection: failure?.rejection };
}

/**
 * Reports what a provider threw. The status of a gRPC call that it made is left out: that services fail is normal, and the
 * numbers and the decision show it.
 */
export function reportFailure(error: unknown, provider: string, report: ReportError): void {
  const isStatus =
    error instanceof Error && "metadata" in error && error.metadata instanceof Metadata;
  if (!isStatus) reportSafely(report, error, `fallback ${provider}`);
}

/** The failed call, for all providers of the chain. */
export interface FallbackQuestion {
  readonly record: CallRecord;
  readonly metadata: Metadata;
  /** The request as it was when the call was made. Absent if no function of the user's is called. */
  readonly request: MessageCopy | undefined;
  readonly definition: InterceptorOptions["method_definition"];
  readonly key: string | undefined;
  readonly failure: FallbackFailure;
}

/**
 * Asks one provider, in the async context of the caller.
 *
 * @returns A function that cancels the question.
 */
export function askProvider(
  source: FallbackSource,
  question: FallbackQuestion,
  dueMs: number,
  onAnswer: (reply: FallbackReply<FallbackAnswer>) => void,
): () => void {
  const { record, definition, key } = question;
  const request = source.harmless ? undefined : question.request?.make();
  let abort: AbortController | undefined;
  const context = (): FallbackContext => {
    abort = new AbortController();
    return {
      method: record.method,
      kind: record.kind,
      failure: question.failure,
      metadata: copyMetadata(question.metadata),
      signal: abort.signal,
      deadline: toEpoch(dueMs, record.clock),
    };
  };
  const watched = () => new CallDeadline(dueMs, dueMs - record.clock.now(), record.clock, false);
  const call: AskedCall = { kind: record.kind, request, definition, key, context, watched };
  const stop = record.restore(() =>
    askForAnswer(
      record.kind,
      () => source.ask(call),
      (answer) => onAnswer(answer === undefined ? { kind: "none" } : { kind: "answer", answer }),
      (error) => onAnswer({ kind: "error", error }),
    ),
  );
  return () => {
    abort?.abort();
    stop();
  };
}

/** A checked answer. A streamed one has begun: its first message, or its end, is there. */
export type FallbackAnswer = { readonly ageMs: number | undefined } & (
  | { readonly kind: "one"; readonly message: unknown }
  | {
      readonly kind: "stream";
      readonly iterator: AnyIterator;
      readonly first: IteratorResult<unknown, unknown>;
    }
);

export type AnyIterator = AsyncIterator<unknown> | Iterator<unknown>;

/**
 * Asks for an answer and checks it. Calls one of the two functions once, at once or later. Later it is in a tick of its own,
 * so that what a listener throws is not taken for an error of the provider.
 *
 * @returns A function that cancels: a stream that has begun, or begins later, is closed.
 */
export function askForAnswer(
  kind: CallKind,
  ask: () => Known<ProvidedAnswer | undefined>,
  onAnswer: (answer: FallbackAnswer | undefined) => void,
  failed: (error: unknown) => void,
): () => void {
  let cancelled = false;
  let begun: AnyIterator | undefined;
  const begin = (response: unknown, ageMs: number | undefined) =>
    whenKnown(
      () => {
        const iterator = iteratorOf(response);
        begun = iterator;
        if (cancelled) closeIterator(iterator);
        return iterator.next();
      },
      (first) => {
        if (begun === undefined) return;
        const fault = faultOf(first);
        if (fault === undefined) onAnswer({ kind: "stream", iterator: begun, first, ageMs });
        else {
          closeIterator(begun);
          failed(fault);
        }
      },
      failed,
    );
  whenKnown(
    ask,
    (provided) => {
      if (provided === undefined) onAnswer(undefined);
      else if (kind === "unary") {
        const { response, ageMs } = provided;
        if (isMessage(response)) onAnswer({ kind: "one", message: response, ageMs });
        else failed(new TypeError("the answer to a call with a single response is no message"));
      } else begin(provided.response, provided.ageMs);
    },
    failed,
  );
  return () => {
    cancelled = true;
    closeIterator(begun);
  };
}

/** Lets a generator run its `finally`. The result is not waited for. */
function closeIterator(iterator: AnyIterator | undefined): void {
  whenKnown(
    () => iterator?.return?.(),
    () => {},
    () => {},
  );
}

/** Codecs of protobuf make objects, others may make anything but null. A stream is no message. */
function isMessage(response: unknown): boolean {
  if (response === null) return false;
  return typeof response !== "object" || !(Symbol.asyncIterator in response);
}

function iteratorOf(response: unknown): AnyIterator {
  if (typeof response === "object" && response !== null) {
    if (Symbol.asyncIterator in response) {
      return (response as AsyncIterable<unknown>)[Symbol.asyncIterator]();
    }
    if (Symbol.iterator in response) return (response as Iterable<unknown>)[Symbol.iterator]();
  }
  throw new TypeError("the answer to a call with a streamed response cannot be iterated over");
}

/**
 * The error in the result of an iterator, if there is one. Passed on as a message, null or undefined would end the caller's
 * stream without a status.
 */
export function faultOf(result: IteratorResult<unknown, unknown>): TypeError | undefined {
  if (typeof result !== "object" || result === null) {
    return new TypeError("an iterator of a streamed answer gave no result");
  }
  if (result.done === true || (result.value !== null && result.value !== undefined))
    return undefined;
  return new TypeError(`a message of a streamed answer is ${String(result.value)}`);
}
