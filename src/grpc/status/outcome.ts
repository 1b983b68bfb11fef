import { status as Status, type StatusObject } from "@grpc/grpc-js";
import type { Ending, Outcome } from "../../core/permit.js";
import { connecting } from "../../core/seen-events.js";
import type { StatusOrigin } from "../../core/status.js";
import { readPushback } from "../metadata.js";
import { type AttemptEvidence, codeOf, endsConnection, originOf } from "./origin.js";
import {
  dealtWithBelow,
  decodeStatusDetails,
  handlerNotRun,
  type Rejection,
  rejectionOf,
  saysNothingOfHealth,
} from "./rejection.js";

/**
 * How the answer of a server counts for circuit breakers and limits. A failure is a code that says something about the
 * server's health. UNKNOWN is one, because a handler that throws ends with it. ABORTED is none, because applications
 * use it for conflicts.
 */
const outcomes = {
  [Status.OK]: "success",
  [Status.CANCELLED]: "ignored",
  [Status.UNKNOWN]: "failure",
  [Status.INVALID_ARGUMENT]: "success",
  [Status.DEADLINE_EXCEEDED]: "failure",
  [Status.NOT_FOUND]: "success",
  [Status.ALREADY_EXISTS]: "success",
  [Status.PERMISSION_DENIED]: "success",
  [Status.RESOURCE_EXHAUSTED]: "failure",
  [Status.FAILED_PRECONDITION]: "success",
  [Status.ABORTED]: "success",
  [Status.OUT_OF_RANGE]: "success",
  [Status.UNIMPLEMENTED]: "success",
  [Status.INTERNAL]: "failure",
  [Status.UNAVAILABLE]: "failure",
  [Status.DATA_LOSS]: "failure",
  [Status.UNAUTHENTICATED]: "success",
} as const satisfies Record<Status, Outcome>;

/** How an answer with this code counts, where only the code is known. */
export function outcomeOf(code: Status): Outcome {
  return outcomes[code] ?? "failure";
}

/** What is known of the end of an attempt, besides its failure. */
export interface EndedEvidence {
  /** No server was chosen for the attempt. */
  readonly neverLeft?: boolean;
  /** The channel has a connection now. */
  readonly connected?: boolean;
  /** The attempt is a stream that received a message. */
  readonly delivered?: boolean;
}

/**
 * Servers in several languages end a call with RESOURCE_EXHAUSTED and such a text when a message is too large. That is
 * no overload: the next message may be smaller.
 */
const tooLarge = /\b(larger than|exceeds)\b.*\b(max|maximum|size|limit)\b/i;

/**
 * The failure of an attempt: its status, read once where it arrives. Policies and spans read this object instead of the
 * status.
 */
export class Failure {
  readonly status: StatusObject;
  readonly origin: StatusOrigin;
  /** Set where a policy refused the attempt, in this process or in a server that runs the toolkit. */
  readonly rejection: Rejection | undefined;
  /** The code by which the failure counts. It differs from the status's code where a transport ended the attempt. */
  readonly code: Status;

  constructor(status: StatusObject, origin: StatusOrigin, rejection: Rejection | undefined) {
    this.status = status;
    this.origin = origin;
    this.rejection = rejection;
    this.code = codeOf(status, origin);
  }

  /** The failure of a status; `undefined` for OK. */
  static read(status: StatusObject, seen: AttemptEvidence): Failure | undefined {
    if (status.code === Status.OK) return undefined;
    const rejection = rejectionOf(status);
    return new Failure(status, originOf(status, seen, rejection), rejection);
  }

  /** The same failure with another origin. */
  withOrigin(origin: StatusOrigin): Failure {
    return new Failure(this.status, origin, this.rejection);
  }

  /** The same failure with the status that an interceptor above has passed on. */
  withStatus(status: StatusObject): Failure | undefined {
    if (status.code === Status.OK) return undefined;
    // Also when the interceptor changed the status in place.
    const unchanged = status === this.status && codeOf(status, this.origin) === this.code;
    return unchanged ? this : new Failure(status, this.origin, this.rejection);
  }

  /** The server's pushback: a wait in milliseconds, or `stop`. Only the server that was called is believed. */
  get pushback(): number | "stop" | undefined {
    return this.origin === "remote" ? readPushback(this.status.metadata) : undefined;
  }

  /** The wait in milliseconds in the server's `google.rpc.RetryInfo`. */
  get retryInfoMs(): number | undefined {
    if (this.origin !== "remote") return undefined;
    return decodeStatusDetails(this.status.metadata).retryDelayMs;
  }

  /** Whether the server passed on the failure of a service below it. */
  get relayed(): boolean {
    return this.origin === "remote" && dealtWithBelow(this.status.metadata, this.rejection);
  }

  /**
   * How the attempt counts, by the origin of its status and then by its code.
   *
   * - An attempt that no server was chosen for, although there was a connection, waited for its own credentials. It is
   *   no evidence about the target.
   * - A stream that received a message was served, whatever ended it later.
   */
  outcome({ neverLeft, connected, delivered }: EndedEvidence = {}): Outcome {
    const { origin, code } = this;
    switch (origin) {
      case "local-policy":
      case "local-limit":
      case "local-setup":
      case "caller":
        return "ignored";
      case "attempt-timeout":
        return delivered === true ? "success" : "failure";
      case "deadline":
      case "never-sent":
      case "refused":
      case "transport":
        if (neverLeft === true && connected === true) return "ignored";
        return delivered === true ? "success" : outcomeOf(code);
      case "remote":
        if (saysNothingOfHealth(this.rejection)) return "ignored";
        // A server that passes on a failure from below works itself.
        return this.relayed || delivered === true ? "success" : outcomeOf(code);
      default:
        return origin satisfies never;
    }
  }

  /** What policies learn from the status besides its outcome. A status of this process teaches nothing. */
  ending(seen: EndedEvidence = {}): Ending {
    const { origin, status, pushback } = this;
    const unserved = this.#unserved(seen);
    if (origin === "transport") {
      return { unserved, connectionLost: endsConnection(status.details) };
    }
    if (origin !== "remote") return { unserved, event: this.#event(seen) };
    return { unserved, retryAfterMs: typeof pushback === "number" ? pushback : this.retryInfoMs };
  }

  /** Names the failed connect behind the status: grpc-js ends all calls with its error until the next connect. */
  #event({ neverLeft }: EndedEvidence): string | undefined {
    const { origin, status, rejection } = this;
    if (origin === "never-sent") return rejection?.local === true ? connecting : status.details;
    // The deadline passed before the connect had ended.
    return origin === "deadline" && neverLeft === true ? connecting : undefined;
  }

  #unserved({ neverLeft, connected, delivered }: EndedEvidence): Ending["unserved"] {
    const { origin, code, rejection } = this;
    if (origin === "local-policy" || origin === "local-limit") return undefined;
    if (origin === "local-setup" || origin === "caller") return undefined;
    if (delivered === true || (neverLeft === true && connected === true)) return undefined;
    if (origin === "attempt-timeout") return "unavailable";
    if (handlerNotRun(rejection)) return "shed";
    if (saysNothingOfHealth(rejection)) return undefined;
    if (this.relayed) return undefined;
    if (code === Status.RESOURCE_EXHAUSTED) {
      return tooLarge.test(this.status.details) ? undefined : "shed";
    }
    const lost = code === Status.UNAVAILABLE || code === Status.DEADLINE_EXCEEDED;
    return lost ? "unavailable" : undefined;
  }
}
