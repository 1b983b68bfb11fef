import { status as Status, type StatusObject } from "@grpc/grpc-js";
import { connecting } from "../../core/heard-events.js";
import type { Ending, Outcome } from "../../core/permit.js";
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
 * How an answer of the other side counts for breakers and limits. The failures are those that say
 * something about the server's health: UNKNOWN counts because it is what a handler that throws ends with;
 * ABORTED does not because it is the application's word for a conflict.
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

/** How an answer with this code counts, if nothing but the code is known of it. */
export function outcomeOf(code: Status): Outcome {
  return outcomes[code] ?? "failure";
}

/** What is known of the end of an attempt, besides what it failed with. */
export interface EndedEvidence {
  /** No server was chosen for it. */
  readonly neverLeft?: boolean;
  /** Its channel has a connection now. */
  readonly connected?: boolean;
  /** It is a stream that had a message from the other side. */
  readonly delivered?: boolean;
}

/**
 * How servers in several languages say that a message is too large, under the code by which they also say that they
 * have too much to do. The next message may be smaller, and it is nothing against the server.
 */
const tooLarge = /\b(larger than|exceeds)\b.*\b(max|maximum|size|limit)\b/i;

/**
 * The status that an attempt has failed with. It is read once, where it arrives; policies and spans ask this object what
 * it says.
 */
export class Failure {
  readonly status: StatusObject;
  readonly origin: StatusOrigin;
  /** What the toolkit says about the status, where it was refused here or by a server with the toolkit. */
  readonly rejection: Rejection | undefined;
  /** The code by which it counts: where a transport ended the attempt, what its text says it means. */
  readonly code: Status;

  constructor(status: StatusObject, origin: StatusOrigin, rejection: Rejection | undefined) {
    this.status = status;
    this.origin = origin;
    this.rejection = rejection;
    this.code = codeOf(status, origin);
  }

  /** Reads a status; `undefined` for OK. */
  static read(status: StatusObject, seen: AttemptEvidence): Failure | undefined {
    if (status.code === Status.OK) return undefined;
    const rejection = rejectionOf(status);
    return new Failure(status, originOf(status, seen, rejection), rejection);
  }

  /** The same failure, when more is known of where it came from. */
  of(origin: StatusOrigin): Failure {
    return new Failure(this.status, origin, this.rejection);
  }

  /** The same failure, as an interceptor has passed it on. */
  as(status: StatusObject): Failure | undefined {
    if (status === this.status) return this;
    return status.code === Status.OK ? undefined : new Failure(status, this.origin, this.rejection);
  }

  /** What the server asks of retries: a wait in milliseconds, or `stop`. */
  get pushback(): number | "stop" | undefined {
    return this.origin === "remote" ? readPushback(this.status.metadata) : undefined;
  }

  /** The wait in milliseconds that the server asks for by `google.rpc.RetryInfo`. */
  get retryInfoMs(): number | undefined {
    if (this.origin !== "remote") return undefined;
    return decodeStatusDetails(this.status.metadata).retryDelayMs;
  }

  /** A service below the one that answered has refused or failed, and the answer says so. */
  get relayed(): boolean {
    return this.origin === "remote" && dealtWithBelow(this.status.metadata, this.rejection);
  }

  /**
   * How the attempt counts: by where its status came from, then by its code.
   *
   * Nothing is held against a target that was not asked though it could have been: with a connection, an attempt that no
   * server was chosen for waited for its own credentials. A stream that delivered was served, whatever ended it later.
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
        // A server that sheds this call may serve the next, and says when to come back: that is no sign of ill health.
        if (saysNothingOfHealth(this.rejection)) return "ignored";
        // It has done its own part, and may answer other calls by itself.
        return this.relayed || delivered === true ? "success" : outcomeOf(code);
      default:
        return origin satisfies never;
    }
  }

  /** What the status says beside its outcome. Whatever this process refused itself says nothing. */
  ending(seen: EndedEvidence = {}): Ending {
    const { origin, status, pushback } = this;
    const unserved = this.#unserved(seen);
    if (origin === "transport") {
      return { unserved, connectionLost: endsConnection(status.details) };
    }
    if (origin !== "remote") return { unserved, event: this.#event(seen) };
    return { unserved, retryAfterMs: typeof pushback === "number" ? pushback : this.retryInfoMs };
  }

  /** What kept it from being sent: grpc-js repeats the error of a failed connect to all calls until the next one. */
  #event({ neverLeft }: EndedEvidence): string | undefined {
    const { origin, status, rejection } = this;
    if (origin === "never-sent") return rejection?.local === true ? connecting : status.details;
    // The call gave up before the attempt to connect had ended.
    return origin === "deadline" && neverLeft === true ? connecting : undefined;
  }

  #unserved({ neverLeft, connected, delivered }: EndedEvidence): Ending["unserved"] {
    const { origin, code, rejection } = this;
    if (origin === "local-policy" || origin === "local-limit") return undefined;
    if (origin === "local-setup" || origin === "caller") return undefined;
    // A stream was served for as long as it lasted; with a connection, what was never sent waited for something here.
    if (delivered === true || (neverLeft === true && connected === true)) return undefined;
    if (origin === "attempt-timeout") return "unavailable";
    if (handlerNotRun(rejection)) return "shed";
    // It was served for as long as the server serves a stream.
    if (saysNothingOfHealth(rejection)) return undefined;
    // A service below it has refused, and it has done its own part.
    if (this.relayed) return undefined;
    if (code === Status.RESOURCE_EXHAUSTED) {
      return tooLarge.test(this.status.details) ? undefined : "shed";
    }
    const lost = code === Status.UNAVAILABLE || code === Status.DEADLINE_EXCEEDED;
    return lost ? "unavailable" : undefined;
  }
}
