import {
  type Interceptor,
  type Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { readOptions } from "../../core/options.js";
import { type CallRecord, type OptionsWithRecord, recordKey } from "../context/call-record.js";
import {
  type Environment,
  type EnvironmentOptions,
  environmentOf,
  environmentOptionNames,
  type PendingCalls,
} from "../environment.js";
import { cohortKey, priorityKey, readPriority, retryDepthKey } from "../metadata.js";
import type { MessageContext } from "../types.js";
import { ForwardingCall } from "./forwarding-call.js";
import { asKept, copyMetadata } from "./kept-metadata.js";
import { interceptorOf, type Layer } from "./layers.js";

/**
 * The outermost layer of the client pipeline. It runs the caller's callbacks in the caller's async context, and passes
 * on the priority, the cohort and the retry depth of the inbound call.
 */
export function contextLayer(environment: Environment, waitForReady = false): Layer {
  return (options, nextCall) =>
    new ContextCall(options, nextCall, options[recordKey], environment.pendingCalls, waitForReady);
}

class ContextCall extends ForwardingCall<OptionsWithRecord> {
  readonly #record: CallRecord;
  readonly #pendingCalls: PendingCalls;
  readonly #waitForReady: boolean;

  constructor(
    options: OptionsWithRecord,
    nextCall: NextCall,
    record: CallRecord,
    pendingCalls: PendingCalls,
    waitForReady: boolean,
  ) {
    super(options, nextCall);
    this.#record = record;
    this.#pendingCalls = pendingCalls;
    this.#waitForReady = waitForReady;
  }

  protected override begin(metadata: Metadata): void {
    // A closed channel is noticed below, inside the call's span.
    const closed = this.#pendingCalls.closing();
    if (closed !== undefined) {
      this.finish(closed);
      return;
    }
    const { inbound } = this.#record;
    const marked = readPriority(metadata);
    if (marked !== "absent" && marked !== "invalid") this.#record.priority = marked;
    const explicit = this.#record.priority;
    const inherited = inbound?.priorityMarked === true ? inbound.priority : undefined;
    const priority = explicit ?? inherited;
    const adds = priority !== undefined && metadata.get(priorityKey).length === 0;
    const cohort = inbound?.cohortMarked === true ? inbound.cohort : undefined;
    const addsCohort = cohort !== undefined && metadata.get(cohortKey).length === 0;
    // Passed on even if this call is not retried itself.
    const depth = inbound?.retryDepth ?? 0;
    const addsDepth = depth > 0 && metadata.get(retryDepthKey).length === 0;
    const waits = this.#waitForReady && metadata.getOptions().waitForReady === undefined;
    if (!adds && !addsCohort && !addsDepth && !waits) {
      this.forward(metadata);
      return;
    }
    // The metadata are the caller's object.
    const own = asKept(copyMetadata(metadata));
    if (adds) {
      own.set(priorityKey, priority);
      this.#record.priority = priority;
    }
    if (addsCohort) own.set(cohortKey, String(cohort));
    if (addsDepth) own.set(retryDepthKey, String(depth));
    if (waits) own.setOptions({ ...metadata.getOptions(), waitForReady: true });
    this.forward(own);
  }

  override sendMessageWithContext(messageContext: MessageContext, message: unknown): void {
    const { callback } = messageContext;
    if (callback === undefined) super.sendMessageWithContext(messageContext, message);
    else {
      let called = false;
      const restored: typeof callback = (error) => {
        // A writable stream of Node that is called back twice throws an uncaught error.
        if (called) return;
        called = true;
        this.#record.restore(callback, error);
      };
      super.sendMessageWithContext({ ...messageContext, callback: restored }, message);
    }
  }

  override onReceiveMetadata(metadata: Metadata): void {
    this.#record.restore(() => super.onReceiveMetadata(metadata));
  }

  override onReceiveMessage(message: unknown): void {
    this.#record.restore(() => super.onReceiveMessage(message));
  }

  protected override endedWith(received: StatusObject): void {
    // In case the handler passes the failure on.
    if (received.code !== Status.OK) this.#record.inbound?.failedBelow(received);
    this.#record.restore(() => super.endedWith(received));
  }
}

/**
 * The context layer as an interceptor of its own, for pipelines that are put together without a weir. Put it first.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function context(given: EnvironmentOptions = {}): Interceptor {
  const options = readOptions("context", given, environmentOptionNames);
  const environment = environmentOf(options, "context");
  return interceptorOf(environment, contextLayer(environment));
}
