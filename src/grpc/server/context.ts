import type { Metadata, ServerInterceptor, ServerMethodDefinition } from "@grpc/grpc-js";
import { type Due, DueList } from "../../core/due-list.js";
import { oneOf, readOptions } from "../../core/options.js";
import { outsideClock } from "../context/async-context.js";
import { currentInbound, InboundCall, runInbound } from "../context/inbound-call.js";
import { ranOutOfTime, toMonotonic } from "../deadline.js";
import {
  type Environment,
  type EnvironmentOptions,
  environmentOf,
  environmentOptionNames,
} from "../environment.js";
import { readPreviousAttempts, readRetryDepth } from "../metadata.js";
import { markedStatus } from "../status/degraded.js";
import { passedThrough, relayed } from "../status/relay.js";
import { callKind, type PartialStatus, type ServerCall } from "../types.js";
import { ForwardingServerCall } from "./forwarding-call.js";
import { type PriorityOptions, type PriorityReader, priorityReader } from "./priority.js";

/**
 * What happens to a status that a handler got from a service below and passes on. `mark`: its pushback is removed, and it is
 * marked so that callers do not retry what has been retried below. `pass`: it is passed on unchanged.
 */
export type Relay = (typeof relays)[number];

const relays = ["mark", "pass"] as const;

export function resolveRelay(relay: Relay | undefined, option: string): Relay {
  return oneOf(option, relay === undefined ? "mark" : relay, relays);
}

/**
 * The server interceptor nearest the wire. Makes the record of the inbound call (deadline, priority, cancellation), and puts
 * it in AsyncLocalStorage for the handler, for all events of the call and for everything that the handler calls.
 *
 * @param deadlines Cancels calls whose end grpc-js does not notice. One list for all calls of a server.
 */
export function contextInterceptor(
  environment: Environment,
  priority: PriorityReader,
  relay: Relay = "mark",
  deadlines: DueList = new DueList(outsideClock(environment.clock)),
): ServerInterceptor {
  return (method, call) => {
    const inbound = newInbound(method, call, environment);
    return new ContextServerCall(call, inbound, priority, relay, deadlines);
  };
}

/** The record of an inbound call before its metadata has arrived. */
function newInbound(
  method: ServerMethodDefinition<unknown, unknown>,
  call: ServerCall,
  { clock, report, onDecision, observed }: Environment,
): InboundCall {
  const startedAtMs = clock.now();
  const deadlineMs = toMonotonic(call.getDeadline(), clock, startedAtMs);
  return new InboundCall({
    method: method.path,
    kind: callKind(method),
    caller: call,
    clock,
    report,
    onDecision,
    observed,
    startedAtMs,
    deadlineMs: deadlineMs ?? Number.POSITIVE_INFINITY,
  });
}

/** Reads the metadata of the request into the record. Malformed values count as absent. */
function readRequest(
  inbound: InboundCall,
  metadata: Metadata,
  call: ServerCall,
  priority: PriorityReader,
): void {
  priority.read(inbound, metadata, call);
  inbound.previousAttempts = readPreviousAttempts(metadata);
  inbound.retryDepth = readRetryDepth(metadata);
  inbound.metadata = metadata;
}

/** The record of a call for a policy: that of the context interceptor, or a new one where the policy stands alone. */
export function inboundFor(
  method: ServerMethodDefinition<unknown, unknown>,
  call: ServerCall,
  environment: Environment,
  priority: PriorityReader,
): (metadata: Metadata) => InboundCall {
  return (metadata) => {
    const present = currentInbound();
    // In a process that calls itself, the current record may be that of the handler that is the caller.
    if (present?.metadata === metadata) return present;
    const inbound = newInbound(method, call, environment);
    readRequest(inbound, metadata, call, priority);
    return inbound;
  };
}

/** How long after the deadline the call is cancelled here, in milliseconds. grpc-js's own timer comes first where it works. */
const laterMs = 20;

class ContextServerCall extends ForwardingServerCall implements Due {
  readonly #inbound: InboundCall;
  readonly #priority: PriorityReader;
  readonly #relay: Relay;
  readonly #deadlines: DueList;
  #answered = false;

  constructor(
    below: ServerCall,
    inbound: InboundCall,
    priority: PriorityReader,
    relay: Relay,
    deadlines: DueList,
  ) {
    super(below);
    this.#inbound = inbound;
    this.#priority = priority;
    this.#relay = relay;
    this.#deadlines = deadlines;
  }

  get dueMs(): number {
    return this.#inbound.deadlineMs + laterMs;
  }

  /** The deadline has passed, and grpc-js did not notice: cancels the policies and the handler. */
  due(): void {
    this.onCancel();
  }

  // Each event runs with the record in AsyncLocalStorage: grpc-js starts handlers from different events, and what is stored
  // for one event is gone at the next.

  protected override begunWith(metadata: Metadata): void {
    const inbound = this.#inbound;
    readRequest(inbound, metadata, this.below, this.#priority);
    if (inbound.deadlineMs !== Number.POSITIVE_INFINITY) {
      this.#deadlines.add(this, inbound.startedAtMs);
    }
    runInbound(inbound, () => super.begunWith(metadata));
  }

  override onReceiveMessage(message: unknown): void {
    runInbound(this.#inbound, () => super.onReceiveMessage(message));
  }

  override onReceiveHalfClose(): void {
    runInbound(this.#inbound, () => super.onReceiveHalfClose());
  }

  override onCancel(): void {
    const inbound = this.#inbound;
    this.#deadlines.delete(this);
    const late = ranOutOfTime(inbound.clock.now(), inbound.deadlineMs);
    inbound.finish(this.#answered ? "finished" : late ? "deadline" : "cancelled");
    runInbound(inbound, () => super.onCancel());
  }

  protected override answerWith(status: PartialStatus): void {
    this.#answered = true;
    const sent = this.#relay === "mark" ? relayed(status, this.#inbound) : passedThrough(status);
    super.answerWith(markedStatus(sent, this.#inbound.degradations));
  }
}

/**
 * The context as an interceptor of its own, for servers without a weir. Put it first.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function context(
  given: EnvironmentOptions & {
    readonly priority?: PriorityOptions;
    /** @defaultValue `mark` */
    readonly relay?: Relay;
  } = {},
): ServerInterceptor {
  const options = readOptions("context", given, ["priority", "relay", ...environmentOptionNames]);
  const { priority, relay, ...environment } = options;
  const own = environmentOf(environment, "context");
  return contextInterceptor(
    own,
    priorityReader(priority, own, "context.priority"),
    resolveRelay(relay, "context.relay"),
  );
}
