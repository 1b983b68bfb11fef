import type { Interceptor } from "@grpc/grpc-js";
import { readOptions } from "../../core/options.js";
import type { Priority } from "../../core/priority.js";
import {
  type Environment,
  type EnvironmentOptions,
  environmentOf,
  environmentOptionNames,
} from "../environment.js";
import { cohortKey, priorityKey, readPriority, retryDepthKey } from "../metadata.js";
import { interceptorOf } from "./parts.js";
import type { CallPart, PipelineCall } from "./pipeline-call.js";

/**
 * The outermost part of the client pipeline. The caller's callbacks run in the caller's async context. The priority, the
 * cohort and the retry depth of the inbound call are passed on. After `weir.close()`, calls are refused.
 *
 * @param priority That of calls to which nobody gave one.
 */
export function contextPart(
  { pendingCalls }: Environment,
  waitForReady = false,
  priority?: Priority,
): CallPart {
  return {
    at: "call",
    restores: true,
    begin(call) {
      // A closed channel is noticed below, inside the call's span.
      const closed = pendingCalls.closing();
      if (closed === undefined) addContext(call, waitForReady, priority);
      else call.finish(closed);
      return undefined;
    },
  };
}

function addContext(call: PipelineCall, waitForReady: boolean, usual: Priority | undefined): void {
  const { record, metadata } = call;
  const { inbound } = record;
  const marked = readPriority(metadata);
  if (marked !== "absent" && marked !== "invalid") record.priority = marked;
  const priority = record.priority ?? (inbound?.priorityMarked === true ? inbound.priority : usual);
  if (priority !== undefined && marked === "absent") {
    call.writableMetadata().set(priorityKey, priority);
    record.priority = priority;
  }
  if (inbound !== undefined) {
    if (inbound.cohortMarked && metadata.get(cohortKey).length === 0) {
      call.writableMetadata().set(cohortKey, String(inbound.cohort));
    }
    // Passed on even if this call is not retried itself.
    if (inbound.retryDepth > 0 && metadata.get(retryDepthKey).length === 0) {
      call.writableMetadata().set(retryDepthKey, String(inbound.retryDepth));
    }
  }
  if (waitForReady && metadata.getOptions().waitForReady === undefined) {
    call.writableMetadata().setOptions({ ...metadata.getOptions(), waitForReady: true });
  }
}

/**
 * The context part as an interceptor of its own, for pipelines that are put together without a weir. Put it first.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export function context(given: EnvironmentOptions = {}): Interceptor {
  const options = readOptions("context", given, environmentOptionNames);
  const environment = environmentOf(options, "context");
  return interceptorOf(environment, contextPart(environment));
}
