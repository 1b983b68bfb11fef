import type { Metadata, status } from "@grpc/grpc-js";
import type { RefusalReason } from "../../core/decision.js";
import type { Refusal } from "../../core/permit.js";
import { localRejection, refusalText, statusOf } from "./rejection.js";

/**
 * A guarded run rejects with it when a policy refused the work, or when the time of the work was over. A handler can
 * give it to its callback (`callback(error)`): then the caller gets the status of the reason. `rejectionOf` reads it.
 *
 * It has no stack: while a dependency is down there are thousands of these errors, and the stack costs more than the
 * rest.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export class GuardRejectedError extends Error {
  /** The name of the guard. */
  readonly guard: string;
  readonly reason: RefusalReason;
  /** After how many milliseconds another try may succeed; `undefined` where that is not known. */
  readonly retryAfterMs: number | undefined;
  /** The gRPC status of the reason. */
  readonly code: status;
  readonly #refusal: Refusal;
  #metadata: Metadata | undefined;

  /** Made by guards. `cause` is the error of an earlier attempt of the same run. */
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

  // On the prototype: the constructor of Error writes the name into the first line of `stack`.
  override get name(): string {
    return "GuardRejectedError";
  }

  /** The text of the status. */
  get details(): string {
    return this.message;
  }

  /** Trailers with `google.rpc.ErrorInfo`, and RetryInfo where `retryAfterMs` is known. Made at the first access. */
  get metadata(): Metadata {
    this.#metadata ??= localRejection(this.#refusal, { guard: this.guard }).metadata;
    return this.#metadata;
  }
}

/** False where the built-in objects are frozen. */
const limitWritable = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit")?.writable === true;
