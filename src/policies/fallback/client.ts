import type { Interceptor } from "@grpc/grpc-js";
import { interceptorOf, type Layer, layerOf, segmentOf } from "../../grpc/client/parts.js";
import type { CallPart } from "../../grpc/client/pipeline-call.js";
import { type StandaloneOptions, splitOptions } from "../../grpc/client/policy.js";
import { recordKey } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import { FallbackCall } from "./client-call.js";
import { degradationsPart } from "./client-degraded.js";
import { ObservedFallbackCall } from "./client-observed-call.js";
import {
  type FallbackPolicy,
  type FallbackPolicyOptions,
  fallbackPolicy,
} from "./client-policy.js";

/**
 * Answers failed calls from the providers of a fallback. It stands above the retries, so that it sees a call when these have
 * given up, and below the deadline, of which it keeps a part. A call without a fallback is only watched, if a handler
 * has made it: the mark of a degraded answer is passed on to the handler's own.
 */
export function fallbackPart(
  environment: Environment,
  policy: FallbackPolicy | undefined,
): CallPart | Layer {
  if (policy === undefined) return degradationsPart;
  const watching = layerOf(environment, degradationsPart);
  const segment = segmentOf(environment);
  return (options, nextCall) => {
    const record = options[recordKey];
    if (policy.mode !== "off") {
      if (!options.method_definition.requestStream) {
        const Call = policy.mode === "enforce" ? FallbackCall : ObservedFallbackCall;
        return new Call(options, nextCall, segment, policy, environment);
      }
      policy.reportOutOfScope(record);
    }
    return record.inbound === undefined ? nextCall(options) : watching(options, nextCall);
  };
}

/**
 * A fallback chain as an interceptor of its own, with the same providers for all methods. Put it above `retry`
 * and below `deadline`.
 *
 * If a provider answers, the call ends with OK and a mark in its headers and trailers (`degradationOf`). Otherwise it ends
 * with its own failure. Methods that stream their request have no fallback, which is reported once for each.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export function fallback(options: FallbackPolicyOptions & StandaloneOptions): Interceptor {
  const { environment } = splitOptions(options, "fallback");
  const policy = fallbackPolicy(options, environment, "fallback");
  return interceptorOf(environment, fallbackPart(environment, policy));
}
