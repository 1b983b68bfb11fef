import type { Metadata, status } from "@grpc/grpc-js";
import type { RefusalReason } from "../../core/decision.js";
import type { Refusal } from "../../core/permit.js";
import { localRejection, refusalText, statusOf } from "./rejection.js";

/**
 * What a guarded run rejects with when a policy refused the work or its time ran out. It has all that a handler's
 * callback takes (`callback(error)`), so that the caller gets the status of the reason, and `rejectionOf` reads it.
 *
 * It has no stack: it is made by the thousand when a dependency is down, and the stack would cost more than all else.
 */
export class GuardRejectedError extends Error {
  /** The name of the guard. */
  readonly guard: string;
  readonly reason: RefusalReason;
  /** After how many milliseconds trying again is worth it, where that is known. */
  readonly retryAfterMs: number | undefined;
  /** The gRPC status of the reason. */
  readonly code: status;
  readonly #refusal: Refusal;
  #metadata: Metadata | undefined;

  /** Made by guards. `cause` is what an earlier attempt of the same run failed with. */
  constructor(guard: string, refused: Refusal, cause?: unknown) {
    const named = { ...refused, detail: `${guard}: ${refused.detail}` };
    const kept = Error.stackTraceLimit;
    if (limitWritable) Error.stackTraceLimit = 0;
    super(refusalText(named), cause === undefined ? undefined : { cause });
    if (limitWritable) Error.stackTraceLimit = kept;
    this.guard = guard;
    this.reason = refused.reason;
    this.retryAfterMs = refused.retryAfterMs;
    this.code = statusOf(refused.reason);
    this.#refusal = named;
  }

  // On the prototype, so that the head of `stack`, which is written by the constructor of Error, has it.
  override get name(): string {
    return "GuardRejectedError";
  }

  /** The text of the status. */
  get details(): string {
    return this.message;
  }

  /** With `google.rpc.ErrorInfo`, and RetryInfo where there is something to tell. Made when it is asked for. */
  get metadata(): Metadata {
    this.#metadata ??= localRejection(this.#refusal, { guard: this.guard }).metadata;
    return this.#metadata;
  }
}

/** False where the intrinsics are frozen. */
const limitWritable = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit")?.writable === true;
