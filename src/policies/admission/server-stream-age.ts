import type { CancelTask, Clock, Random } from "../../core/clock.js";
import type { Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { OncePermit, type Permit, refusal } from "../../core/permit.js";
import { outsideClock } from "../../grpc/context/async-context.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment } from "../../grpc/environment.js";
import { isExempt } from "../../grpc/server/policy.js";

/** Up to this share of its age a stream ends sooner, or all that were opened together would come back together. */
const spread = 0.1;

/**
 * Ends streams that have become old, so that a long one does not stay for ever with the server that it was opened on:
 * UNAVAILABLE (reason `STREAM_AGED`). The handler is told as when its caller leaves, and the caller opens the stream anew.
 * Unary calls pass, and so do health, reflection, channelz and ORCA: the end of a health watch says that the server is gone.
 *
 * The mode is asked when a stream has become old: `enforce` ends it, `observe` notes that once, and `off` does nothing.
 * A stream that stays open is looked at again when it has become as old once more.
 */
export class StreamAge implements Gate<InboundCall> {
  readonly policy = "admission";
  readonly #admission: { readonly mode: Mode };
  readonly #maxAgeMs: number;
  readonly #clock: Clock;
  readonly #random: Random;

  /** @param admission Whose mode holds; it may change while streams are open. */
  constructor(
    admission: { readonly mode: Mode },
    maxAgeMs: number,
    { clock, random }: Environment,
  ) {
    this.#admission = admission;
    this.#maxAgeMs = maxAgeMs;
    this.#clock = outsideClock(clock);
    this.#random = random;
  }

  modeFor({ kind, method }: InboundCall): Mode {
    return kind === "unary" || isExempt(method) ? "off" : "enforce";
  }

  enter(inbound: InboundCall): Permit {
    return new OpenStream(this, inbound, this.#clock);
  }

  get mode(): Mode {
    return this.#admission.mode;
  }

  /** After how many milliseconds a stream is old. */
  drawAgeMs(): number {
    return this.#maxAgeMs * (1 - spread * this.#random());
  }
}

/** A stream that becomes old, until it has ended or was answered. */
class OpenStream extends OncePermit {
  readonly #age: StreamAge;
  readonly #inbound: InboundCall;
  readonly #clock: Clock;
  readonly #openedMs: number;
  #stopTimer: CancelTask;
  #noted = false;

  constructor(age: StreamAge, inbound: InboundCall, clock: Clock) {
    super();
    this.#age = age;
    this.#inbound = inbound;
    this.#clock = clock;
    this.#openedMs = clock.now();
    this.#stopTimer = this.#wait();
  }

  #wait(): CancelTask {
    return this.#clock.schedule(this.#age.drawAgeMs(), () => this.#old());
  }

  #old(): void {
    const { mode, policy } = this.#age;
    if (mode !== "enforce") this.#stopTimer = this.#wait();
    if (mode === "off" || (mode === "observe" && this.#noted)) return;
    this.#noted = true;
    const ageMs = Math.round(this.#clock.now() - this.#openedMs);
    const detail = `the stream has been open for ${ageMs} ms; open it anew`;
    this.#inbound.row?.stop(refusal("STREAM_AGED", detail), policy, mode === "enforce");
  }

  protected onSettle(): void {
    this.#stopTimer();
  }
}
