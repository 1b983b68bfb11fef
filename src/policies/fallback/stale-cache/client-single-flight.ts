import {
  type InterceptorOptions,
  type Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { authContextOf, peerOf } from "../../../grpc/client/foreign-call.js";
import { asKept, copyMetadata } from "../../../grpc/client/kept-metadata.js";
import { handOn, startOn } from "../../../grpc/client/kept-request.js";
import { CallRecord, type OptionsWithOwn, recordKey } from "../../../grpc/context/call-record.js";
import { CallDeadline, callBelow } from "../../../grpc/deadline.js";
import type { Environment } from "../../../grpc/environment.js";
import { cohortKey, previousAttemptsKey } from "../../../grpc/metadata.js";
import { receivedMetadata, receivedStatus } from "../../../grpc/status/foreign-status.js";
import { callOff, channelClosed, interceptorThrew } from "../../../grpc/status/local.js";
import { originOf } from "../../../grpc/status/origin.js";
import { decodeStatusDetails, rejectionOf } from "../../../grpc/status/rejection.js";
import type { AuthContext, ClientCall, ClientListener } from "../../../grpc/types.js";
import { type AnswerRecording, freshMessage, responseBytes } from "./client-recording.js";

/** How a shared call ended, for one of those who wait for it. */
export interface SharedResult {
  readonly metadata: Metadata | undefined;
  /** A message of its own for each; `undefined` where there was none. */
  readonly message: unknown;
  /** A failure is one object for all: its identity tells where it came from. */
  readonly status: StatusObject;
}

/** A call that waits for a shared one. */
export interface Waiter {
  /** Told once, in a turn of its own, unless it has left. */
  landed(sharedResult: SharedResult): void;
}

/** What a shared call is made of. */
export interface SharedCall {
  /** The record of the shared call, and of nobody who waits for it. */
  readonly record: CallRecord;
  /** Until when it may last, on the monotonic clock. Nobody who would wait longer is taken along. */
  readonly deadlineMs: number;
  /** How many services above its first caller are retrying. Nobody is taken along above whom there are fewer. */
  readonly retryDepth: number;
  readonly definition: InterceptorOptions["method_definition"];
  /** Kept as they were given: it may leave later. */
  readonly metadata: Metadata;
  readonly request: unknown;
  /** Makes the call below. May throw. */
  open(): ClientCall;
  /** A message like the one that was received, for another one who waits. */
  another(message: unknown): unknown;
  /** It ended well. */
  succeeded(message: unknown, status: StatusObject): void;
}

/** Calls on the wire that are shared by all who ask the same at the same time. */
export class SingleFlight {
  readonly #flights = new Map<string, Flight>();
  #shared = 0;

  /** Calls that waited for another one's. Only grows. */
  get shared(): number {
    return this.#shared;
  }

  /** Calls on the wire. */
  get size(): number {
    return this.#flights.size;
  }

  /**
   * Joins the call under way for the key, if it serves the passenger as well as one of its own: it lasts as long, and is
   * retried as often. Otherwise starts one.
   *
   * @param untilMs How long the passenger would wait, on the monotonic clock.
   */
  join(
    key: string,
    { untilMs, retryDepth }: { readonly untilMs: number; readonly retryDepth: number },
    waiter: Waiter,
    sharedCall: () => SharedCall,
  ): Flight {
    const present = this.#flights.get(key);
    if (
      present !== undefined &&
      untilMs <= present.deadlineMs &&
      retryDepth >= present.retryDepth
    ) {
      this.#shared += 1;
      present.board(waiter);
      return present;
    }
    const flight = new Flight(sharedCall(), () => {
      // Another one may have taken its place, for those who wait longer.
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    });
    this.#flights.set(key, flight);
    flight.board(waiter);
    flight.start();
    return flight;
  }
}

/**
 * One call on the wire and those who wait for it. Each leaves when it likes, and none ends the call for the others: it is
 * called off when the last has left.
 */
export class Flight implements ClientListener {
  readonly #sharedCall: SharedCall;
  readonly #onEnd: () => void;
  readonly #waiters = new Set<Waiter>();
  #opener: Waiter | undefined;
  #call: ClientCall | undefined;
  #metadata: Metadata | undefined;
  #message: unknown;
  #over = false;

  constructor(sharedCall: SharedCall, onEnd: () => void) {
    this.#sharedCall = sharedCall;
    this.#onEnd = onEnd;
  }

  get deadlineMs(): number {
    return this.#sharedCall.deadlineMs;
  }

  get retryDepth(): number {
    return this.#sharedCall.retryDepth;
  }

  get record(): CallRecord {
    return this.#sharedCall.record;
  }

  get call(): ClientCall | undefined {
    return this.#call;
  }

  get peer(): string | undefined {
    return peerOf(this.#call);
  }

  get authContext(): AuthContext | null {
    return authContextOf(this.#call);
  }

  /** Who started it. */
  get opener(): Waiter | undefined {
    return this.#opener;
  }

  board(waiter: Waiter): void {
    this.#opener ??= waiter;
    this.#waiters.add(waiter);
  }

  start(): void {
    const { definition, metadata, request } = this.#sharedCall;
    try {
      const call = this.#sharedCall.open();
      this.#call = call;
      startOn(call, definition, metadata, this);
      handOn(call, definition, {}, request);
      call.halfClose();
    } catch (error) {
      const failed = channelClosed(error) ?? interceptorThrew(error);
      callOff(this.#call, failed.code, failed.details);
      this.onReceiveStatus(failed);
    }
  }

  /** The passenger waits no longer. The last one to go calls the call off, with its own words. */
  leave(waiter: Waiter, code: Status, details: string): void {
    if (!this.#waiters.delete(waiter) || this.#waiters.size > 0 || this.#over) return;
    this.#end();
    callOff(this.#call, code === Status.OK ? Status.CANCELLED : code, details);
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.#metadata = receivedMetadata(metadata);
  }

  onReceiveMessage(message: unknown): void {
    // A failure announces itself with null.
    if (message !== null) this.#message ??= message;
  }

  onReceiveStatus(received: StatusObject): void {
    if (this.#over) return;
    const status = receivedStatus(received);
    this.#end();
    const message = this.#message;
    if (status.code === Status.OK && message !== undefined) {
      this.#sharedCall.succeeded(message, status);
    }
    let first = true;
    for (const waiter of this.#waiters) {
      const sharedResult = first
        ? { metadata: this.#metadata, message, status }
        : this.#copy(status);
      first = false;
      // One whose listener throws must not keep the answer from the others.
      process.nextTick(() => {
        if (this.#waiters.delete(waiter)) waiter.landed(sharedResult);
      });
    }
  }

  #copy(status: StatusObject): SharedResult {
    const message = this.#message;
    return {
      metadata: this.#metadata?.clone(),
      message: message === undefined ? undefined : this.#sharedCall.another(message),
      status: status.code === Status.OK ? { ...status, metadata: status.metadata.clone() } : status,
    };
  }

  #end(): void {
    this.#over = true;
    this.#onEnd();
  }
}

/** The call that opens a shared one. */
interface Opener {
  readonly record: CallRecord;
  readonly metadata: Metadata;
  readonly request: unknown;
  /** Until when it waits itself, on the monotonic clock. */
  readonly untilMs: number;
  readonly retryDepth: number;
  readonly recording: AnswerRecording;
}

/**
 * The call that those who ask the same share. It has a record of its own, because it may outlive the call that opened it,
 * and twice that one's time: so it serves all who join while the opener waits and would wait as long themselves.
 * Nobody waits longer than they would, and the server is told when the last has gone.
 */
export function sharedCall(
  nextCall: NextCall,
  options: OptionsWithOwn,
  environment: Environment,
  { record, metadata, request, untilMs, retryDepth, recording }: Opener,
): SharedCall {
  const { method_definition: definition } = options;
  const { requestStream, responseStream } = definition;
  const { clock } = record;
  const shared = new CallRecord(
    environment,
    { path: record.method, requestStream, responseStream },
    record.connection,
  );
  shared.learnTarget(record.target || "unknown");
  shared.priority = record.priority;
  const deadlineMs = untilMs + Math.max(0, untilMs - clock.now());
  shared.deadlineMs = deadlineMs;
  return {
    record: shared,
    deadlineMs,
    definition,
    retryDepth,
    metadata: sharedMetadata(metadata),
    request,
    open() {
      const own: OptionsWithOwn = { [recordKey]: shared, ...options };
      own[recordKey] = shared;
      if (deadlineMs !== Number.POSITIVE_INFINITY) {
        // Whoever waits for it watches a deadline that is no later, and the last to leave calls it off.
        const leftMs = deadlineMs - clock.now();
        own.deadline = new CallDeadline(deadlineMs, leftMs, clock, record.connection !== undefined);
      }
      return callBelow(nextCall, own);
    },
    another(message) {
      const bytes = responseBytes(message);
      // Without its bytes there is one object for all; the recording tells of it.
      return bytes === undefined ? message : freshMessage(definition, bytes);
    },
    succeeded(message, status) {
      recording.message(message);
      recording.ended(status);
    },
  };
}

/** What a caller says of itself that may be worse than what others would say who share the call. */
const ofOneCaller = [cohortKey, previousAttemptsKey];

/** The metadata of a call that belongs to nobody in particular. */
function sharedMetadata(metadata: Metadata): Metadata {
  if (ofOneCaller.every((key) => metadata.get(key).length === 0)) return metadata;
  const shared = copyMetadata(metadata);
  for (const key of ofOneCaller) shared.remove(key);
  return asKept(shared);
}

/**
 * Whether a shared call has failed for a reason that may be its first caller's: who that is, what it may ask for, or a
 * policy of this process whose state goes by the caller.
 */
export function failedForOpener(status: StatusObject): boolean {
  const { code } = status;
  if (code === Status.UNAUTHENTICATED || code === Status.PERMISSION_DENIED) return true;
  const rejection = rejectionOf(status);
  if (rejection?.local === true) {
    const seen = { sawHeaders: false, peer: "", target: "" };
    return rejection.reason !== "CLOSED" && originOf(status, seen, rejection) === "local-policy";
  }
  return (
    rejection?.reason === "RATE_LIMIT_EXCEEDED" ||
    decodeStatusDetails(status.metadata).quotaViolations !== undefined
  );
}
