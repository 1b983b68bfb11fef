import { type Metadata, type NextCall, status as Status, type StatusObject } from "@grpc/grpc-js";
import { authContextOf, peerOf } from "../../../grpc/client/foreign-call.js";
import { asKept, copyMetadata } from "../../../grpc/client/kept-metadata.js";
import { handOn, startOn } from "../../../grpc/client/kept-request.js";
import { CallRecord, type OptionsWithOwn, recordKey } from "../../../grpc/context/call-record.js";
import { CallDeadline, callBelow } from "../../../grpc/deadline.js";
import type { Environment } from "../../../grpc/environment.js";
import { cohortKey, previousAttemptsKey } from "../../../grpc/metadata.js";
import { receivedMetadata, receivedStatus } from "../../../grpc/status/foreign-status.js";
import { cancelQuietly, channelClosed, interceptorThrew } from "../../../grpc/status/local.js";
import { originOf } from "../../../grpc/status/origin.js";
import { decodeStatusDetails, rejectionOf } from "../../../grpc/status/rejection.js";
import type { AuthContext, ClientCall, ClientListener } from "../../../grpc/types.js";
import { type AnswerRecording, freshMessage, responseBytes } from "./client-recording.js";

/** The end of a shared call, for one of the calls that wait for it. */
export interface SharedResult {
  readonly metadata: Metadata | undefined;
  /** Each waiting call gets a message of its own; `undefined` where there was none. */
  readonly message: unknown;
  /** A failure is the same object for all: where it came from is known by its identity. */
  readonly status: StatusObject;
}

/** A call that waits for a shared one. */
export interface Waiter {
  /** Called once, in a tick of its own, unless the call has left before. */
  onSharedResult(result: SharedResult, call: SharedCall): void;
}

/** What a call asks of a shared call. */
interface Demands {
  /** Until when it would wait, in monotonic milliseconds. */
  readonly untilMs: number;
  /** How many services above it are retrying. */
  readonly retryDepth: number;
}

/** The call that makes a shared one. */
interface Opener extends Demands {
  readonly record: CallRecord;
  readonly metadata: Metadata;
  readonly request: unknown;
  readonly recording: AnswerRecording;
}

/** Calls on the wire that equal calls at the same time share. */
export class SingleFlight {
  readonly #calls = new Map<string, SharedCall>();
  #shared = 0;

  /** Calls that waited for the call of another. Only grows. */
  get shared(): number {
    return this.#shared;
  }

  /** Calls on the wire that may be shared now. */
  get size(): number {
    return this.#calls.size;
  }

  /**
   * Joins the shared call of the key, if it serves the waiting call as well as a call of its own: it may last as long, and
   * is retried as often. Otherwise makes one.
   */
  join(
    key: string,
    demands: Demands,
    waiter: Waiter,
    make: (onEnd: () => void) => SharedCall,
  ): SharedCall {
    const present = this.#calls.get(key);
    if (present?.serves(demands) === true) {
      this.#shared += 1;
      present.add(waiter);
      return present;
    }
    const call = make(() => {
      // Another one may have taken its place, for calls that wait longer.
      if (this.#calls.get(key) === call) this.#calls.delete(key);
    });
    this.#calls.set(key, call);
    call.add(waiter);
    call.start();
    return call;
  }
}

/**
 * One call on the wire, and the calls that wait for it. Each of them may leave at any time without ending the call for the
 * others; the last one to leave cancels it.
 *
 * It has a record of its own, and twice the time of the call that made it, so that it serves all that join while that
 * call waits and would wait as long themselves.
 */
export class SharedCall implements ClientListener {
  readonly record: CallRecord;
  readonly #nextCall: NextCall;
  readonly #options: OptionsWithOwn;
  readonly #opener: Opener;
  /** Until when it may last, in monotonic milliseconds. */
  readonly #deadlineMs: number;
  readonly #onEnd: () => void;
  readonly #waiters = new Set<Waiter>();
  #first: Waiter | undefined;
  #call: ClientCall | undefined;
  #metadata: Metadata | undefined;
  #message: unknown;
  #over = false;

  constructor(
    nextCall: NextCall,
    options: OptionsWithOwn,
    environment: Environment,
    opener: Opener,
    onEnd: () => void,
  ) {
    this.#nextCall = nextCall;
    this.#options = options;
    this.#opener = opener;
    this.#onEnd = onEnd;
    const { record, untilMs } = opener;
    const { requestStream, responseStream } = options.method_definition;
    this.#deadlineMs = untilMs + (untilMs - record.clock.now());
    this.record = new CallRecord(
      environment,
      { path: record.method, requestStream, responseStream },
      record.connection,
    );
    this.record.learnTarget(record.target || "unknown");
    this.record.priority = record.priority;
    this.record.trace = record.trace;
    this.record.deadlineMs = this.#deadlineMs;
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

  /** Whether it does for a call what one of its own would: last as long, and be retried as often. */
  serves({ untilMs, retryDepth }: Demands): boolean {
    return untilMs <= this.#deadlineMs && retryDepth >= this.#opener.retryDepth;
  }

  /** Whether this call has made it. */
  isOpenedBy(waiter: Waiter): boolean {
    return this.#first === waiter;
  }

  add(waiter: Waiter): void {
    this.#first ??= waiter;
    this.#waiters.add(waiter);
  }

  start(): void {
    const { method_definition: definition } = this.#options;
    const { metadata, request } = this.#opener;
    try {
      const call = callBelow(this.#nextCall, this.#ownOptions());
      this.#call = call;
      startOn(call, definition, sharedMetadata(metadata), this);
      handOn(call, definition, {}, request);
      call.halfClose();
    } catch (error) {
      const failed = channelClosed(error) ?? interceptorThrew(error);
      cancelQuietly(this.#call, failed.code, failed.details);
      this.onReceiveStatus(failed);
    }
  }

  /** The waiting call leaves. If it is the last one, the shared call is cancelled with its code and details. */
  leave(waiter: Waiter, code: Status, details: string): void {
    if (!this.#waiters.delete(waiter) || this.#waiters.size > 0 || this.#over) return;
    this.#end();
    cancelQuietly(this.#call, code === Status.OK ? Status.CANCELLED : code, details);
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.#metadata = receivedMetadata(metadata);
  }

  onReceiveMessage(message: unknown): void {
    // grpc-js announces a failure by a message of null.
    if (message !== null) this.#message = message;
  }

  onReceiveStatus(received: StatusObject): void {
    if (this.#over) return;
    const status = receivedStatus(received);
    this.#end();
    const message = this.#message;
    if (status.code === Status.OK && message !== undefined) {
      const { recording } = this.#opener;
      recording.message(message);
      recording.ended(status);
    }
    let first = true;
    for (const waiter of this.#waiters) {
      const result = first ? { metadata: this.#metadata, message, status } : this.#copy(status);
      first = false;
      // In a tick each, so that a listener that throws does not keep the answer from the others.
      process.nextTick(() => {
        if (this.#waiters.delete(waiter)) waiter.onSharedResult(result, this);
      });
    }
  }

  #ownOptions(): OptionsWithOwn {
    const own: OptionsWithOwn = { [recordKey]: this.record, ...this.#options };
    own[recordKey] = this.record;
    const deadlineMs = this.#deadlineMs;
    if (deadlineMs !== Number.POSITIVE_INFINITY) {
      // Nothing below has to watch it: each waiting call has an earlier deadline, and the last one to leave cancels this.
      const { clock, connection } = this.record;
      const leftMs = deadlineMs - clock.now();
      own.deadline = new CallDeadline(deadlineMs, leftMs, clock, connection !== undefined);
    }
    return own;
  }

  #copy(status: StatusObject): SharedResult {
    return {
      metadata: this.#metadata?.clone(),
      message: this.#copyOf(this.#message),
      status: status.code === Status.OK ? { ...status, metadata: status.metadata.clone() } : status,
    };
  }

  #copyOf(message: unknown): unknown {
    const bytes = responseBytes(message);
    // Without its bytes there is one object for all. The recording reports that.
    return bytes === undefined ? message : freshMessage(this.#options.method_definition, bytes);
  }

  #end(): void {
    this.#over = true;
    this.#onEnd();
  }
}

/** Metadata about the caller, by which a server might refuse the call although it would serve the others. */
const ofOneCaller = [cohortKey, previousAttemptsKey];

/** The metadata of a shared call, without what is about its first caller. */
function sharedMetadata(metadata: Metadata): Metadata {
  if (ofOneCaller.every((key) => metadata.get(key).length === 0)) return metadata;
  const shared = copyMetadata(metadata);
  for (const key of ofOneCaller) shared.remove(key);
  return asKept(shared);
}

/**
 * Whether a shared call may have failed for a reason that concerns only the caller that made it: its identity, its
 * permissions or its quota, or a policy of this process that tells callers apart.
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
