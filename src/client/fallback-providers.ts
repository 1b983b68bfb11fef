import type { Client, ServiceError } from "@grpc/grpc-js";
import type { Known } from "../core/answer-cache.js";
import { FallbackPlace } from "../core/fallback.js";
import { InvalidOptionError, readOptions } from "../core/options.js";
import { given } from "../core/user-code.js";
import {
  type AskedCall,
  type FallbackContext,
  FallbackProvider,
  type FallbackProviderOptions,
  type FallbackSource,
  type ProvidedAnswer,
  providerKeys,
  type TimedProviderOptions,
  timedProviderKeys,
} from "./fallback-provider.js";

/** What a function may answer: the message of a single response, or the messages of a streamed one. */
export type FallbackResponse<Response> = Response | AsyncIterable<Response> | Iterable<Response>;

/** A function that answers in place of a service. `undefined` says that it has no answer, and the next is asked. */
export type FallbackFunction<Request, Response> = (
  request: Request,
  context: FallbackContext,
) => Known<FallbackResponse<Response> | undefined>;

/** What counts as time of a provider that answers at once: the reserve must leave it some. */
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
      const response = given(() => ask(call));
      return response instanceof Promise ? response.then(provided) : provided(response);
    };
    this.#harmless = harmless;
  }

  override build(): FallbackSource {
    const place = new FallbackPlace(this.limits);
    return { place, when: this.when, harmless: this.#harmless, ask: this.#ask };
  }
}

function provided(response: unknown): ProvidedAnswer | undefined {
  return response === undefined ? undefined : { response };
}

/**
 * Asks somebody else: a function that calls another service, or the same method of another client. What it gives is
 * the answer. It may take `timeoutMs` (default 1,000).
 *
 * A streamed response may be any iterable of messages; it is read as fast as the caller reads.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
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
 * Makes an answer in this process. It may take `timeoutMs` (default 100).
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
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
 * Answers with what it was given: a message, or an array of messages where the response is streamed. All calls are given
 * the same object; who wants one for each uses `value`.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
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
 * Answers with nothing: the message in which every field has its default, or a stream without messages.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
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

/** The call of a client's method, in the way of clients that were generated or made from a definition. */
function methodOf(client: object, name: string): (call: AskedCall) => Known<unknown> {
  const method: unknown = (client as Readonly<Record<string, unknown>> | null)?.[name];
  if (typeof method !== "function") {
    throw new InvalidOptionError(`alternative("${name}")`, "a method of the client", method);
  }
  return ({ request, kind, context, watched }) => {
    const { metadata, signal } = context();
    const deadline = watched();
    const options = deadline === undefined ? {} : { deadline };
    const start = (...args: unknown[]): CancellableCall | undefined =>
      deadline === undefined
        ? method.apply(client, args)
        : deadline.make(() => method.apply(client, args));
    // A client that is a stand-in may give nothing to be cancelled.
    const abortWith = (call: CancellableCall | undefined) =>
      signal.addEventListener("abort", () => call?.cancel(), { once: true });
    if (kind === "server-stream") {
      const stream = start(request, metadata, options);
      // Who reads it is told by the iteration. An error after that would end the process.
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
