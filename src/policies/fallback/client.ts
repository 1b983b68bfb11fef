import type { Interceptor } from "@grpc/grpc-js";
import { interceptorOf, type Layer } from "../../grpc/client/layers.js";
import { type StandaloneOptions, splitOptions } from "../../grpc/client/policy.js";
import { recordKey } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import { FallbackCall } from "./client-call.js";
import { WatchedCall } from "./client-degraded.js";
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
export function fallbackLayer(environment: Environment, policy: FallbackPolicy | undefined): Layer {
  return (options, nextCall) => {
    const record = options[recordKey];
    if (policy !== undefined && policy.mode !== "off") {
      if (!options.method_definition.requestStream) {
        const Call = policy.mode === "enforce" ? FallbackCall : ObservedFallbackCall;
        return new Call(options, nextCall, record, policy, environment);
      }
      policy.reportOutOfScope(record);
    }
    if (record.inbound !== undefined) return new WatchedCall(options, nextCall, record);
    return nextCall(options);
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
 */
export function fallback(options: FallbackPolicyOptions & StandaloneOptions): Interceptor {
  const { environment } = splitOptions(options, "fallback");
  const policy = fallbackPolicy(options, environment, "fallback");
  return interceptorOf(environment, fallbackLayer(environment, policy));
}
