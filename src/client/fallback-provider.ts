import type { InterceptorOptions, Metadata, StatusObject } from "@grpc/grpc-js";
import type { Known } from "../core/answer-cache.js";
import type { FallbackPlace } from "../core/fallback.js";
import {
  type FallbackLimits,
  fallbackHelps,
  type ResolvedFallbackLimits,
  resolveFallbackLimits,
} from "../core/fallback-options.js";
import { optionalFunction } from "../core/options.js";
import type { StatusOrigin } from "../core/origin.js";
import { ask, type ReportError, yesOrNo } from "../core/user-code.js";
import type { CallDeadline } from "../grpc/deadline.js";
import type { Rejection } from "../grpc/rejection.js";
import type { Surroundings } from "../grpc/surroundings.js";
import type { CallKind } from "../grpc/types.js";

/** The failure for which another answer is looked for. */
export interface FallbackFailure extends StatusObject {
  readonly origin: StatusOrigin;
  /** Set when a policy refused the call, in this process or in a server. */
  readonly rejection: Rejection | undefined;
}

/** What a function that answers in place of a service is told of the call. */
export interface FallbackContext {
  /** `/pkg.Service/Method`. */
  readonly method: string;
  readonly kind: CallKind;
  readonly failure: FallbackFailure;
  /** What the request was sent with: a copy of its own. */
  readonly metadata: Metadata;
  /** Aborted when the answer is not waited for any more: the call was cancelled, or its time or yours is over. */
  readonly signal: AbortSignal;
  /**
   * Until when an answer counts, in milliseconds since the epoch, as `CallOptions.deadline` takes it. A streamed answer
   * must have begun by then.
   */
  readonly deadline: number;
}

/** Options that every provider has. */
export interface FallbackProviderOptions extends FallbackLimits {
  /**
   * Whether it is for this failure. A cancellation by the caller is never asked about. What throws counts as the
   * default. It is asked once, too, about a call whose time is over: only then some of a call's time is kept for it.
   * @defaultValue UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, INTERNAL, UNKNOWN and DATA_LOSS, unless
   *   this process could not send or read a message
   */
  readonly when?: (failure: FallbackFailure) => boolean;
}

/** The same, for providers that take time. */
export interface TimedProviderOptions extends FallbackProviderOptions {
  /** How long it may take, from 1 ms to 24 days; never longer than the call has left. */
  readonly timeoutMs?: number;
}

/** A failed call, as a provider is asked about it. */
export interface AskedCall {
  readonly kind: CallKind;
  /** A copy of the request as it was when the call was made. */
  readonly request: unknown;
  readonly definition: InterceptorOptions["method_definition"];
  /** The key of the call in the stale cache, where there is one. */
  readonly key: string | undefined;
  /** Made when it is asked for: most providers do without. */
  readonly context: () => FallbackContext;
  /** The deadline of the context for a call made by the toolkit, which ends it then. Absent for any time. */
  readonly watched: () => CallDeadline | undefined;
}

/** An answer, before its messages are looked at. */
export interface ProvidedAnswer {
  /** The message of a single response; what can be iterated over where the response is streamed. */
  readonly response: unknown;
  readonly ageMs?: number;
}

/** A provider at work for one policy. */
export interface FallbackSource {
  readonly place: FallbackPlace;
  readonly when: FallbackProviderOptions["when"];
  /** Asking it has no effect, so that `observe` may. It does without the request. */
  readonly harmless: boolean;
  /** May throw. `undefined`: it has no answer to this call. */
  ask(call: AskedCall): Known<ProvidedAnswer | undefined>;
}

/** One link of a fallback chain, made by `staleCache`, `alternative`, `value`, `staticValue` or `empty`. */
export abstract class FallbackProvider {
  readonly limits: ResolvedFallbackLimits;
  readonly when: FallbackProviderOptions["when"];
  /** It keeps the answers of the calls that succeed. */
  readonly stores: boolean = false;

  constructor(
    options: TimedProviderOptions,
    defaults: { readonly name: string; readonly timeoutMs: number },
    prefix: string,
  ) {
    this.limits = resolveFallbackLimits(options, defaults, prefix);
    this.when = optionalFunction(`${prefix}.when`, options.when);
  }

  /** What works for one policy: its places, its numbers, its cache. */
  abstract build(surroundings: Surroundings): FallbackSource;
}

export const providerKeys = ["name", "maxConcurrent", "when"] as const;
export const timedProviderKeys = [...providerKeys, "timeoutMs"] as const;

/** Whether a provider is for a failure. */
export function accepts(
  { when, place }: Pick<FallbackSource, "when" | "place">,
  failure: FallbackFailure,
  report: ReportError,
): boolean {
  const { code, origin, rejection } = failure;
  const helps = () => fallbackHelps({ code, origin, reason: rejection?.reason });
  if (when === undefined) return helps();
  const where = `fallback ${place.limits.name}.when`;
  return ask(() => when(failure), yesOrNo, undefined, report, where) ?? helps();
}
