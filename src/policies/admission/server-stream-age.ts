import type { CancelTask, Clock, Random } from "../../core/clock.js";
import type { Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { OncePermit, type Permit, refusal } from "../../core/permit.js";
import { outsideClock } from "../../grpc/context/async-context.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment } from "../../grpc/environment.js";
import { isExempt } from "../../grpc/server/policy.js";

/** By up to this share of its age a stream ends sooner, so that streams opened together are not all opened anew together. */
const spread = 0.1;

/**
 * Ends old streams with UNAVAILABLE (reason `STREAM_AGED`), so that a long stream does not stay for ever with the server
 * that it was opened on: its caller opens it anew, and load balancing can move it. The handler is cancelled. Unary calls are
 * not concerned, nor are health, reflection, channelz and ORCA: to a caller, the end of a health watch means that the server
 * is gone.
 *
 * The mode of admission counts when the stream is old: `enforce` ends it, `observe` records once that it would end, `off` does
 * nothing. A stream that stays open is looked at again after the same time.
 */
export class StreamAge implements Gate<InboundCall> {
  readonly policy = "admission";
  readonly neverQueues = true;
  readonly #admission: { readonly mode: Mode };
  readonly #maxAgeMs: number;
  readonly #clock: Clock;
  readonly #random: Random;

  /**
   * @param admission Its mode counts, and may change while streams are open.
   * @param maxAgeMs The age at which a stream is old, in milliseconds.
   */
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

  /** The age at which one stream is old, in milliseconds. */
  drawAgeMs(): number {
    return this.#maxAgeMs * (1 - spread * this.#random());
  }
}

/** Watches the age of one stream until it has been answered or has ended. */
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
