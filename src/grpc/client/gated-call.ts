import {
  connectivityState,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.js";
import type { ObserveReport } from "../../core/control.js";
import type { Decision, PolicyName } from "../../core/decision.js";
import { type Gate, type GateHost, GateRun } from "../../core/gate.js";
import type { Refusal } from "../../core/permit.js";
import {
  type AttemptRecord,
  attemptOf,
  type CallRecord,
  endAttempt,
  type OptionsWithOwn,
} from "../context/call-record.js";
import type { PendingCalls } from "../environment.js";
import { cancelQuietly, channelClosedStatus } from "../status/local.js";
import { echoes, isAddress, neverLeft } from "../status/origin.js";
import { localRejection } from "../status/rejection.js";
import { ForwardingCall } from "./forwarding-call.js";
import { keepMetadata } from "./kept-metadata.js";

/** What the gates of a client see of an attempt. */
export interface ClientPassage {
  readonly record: CallRecord;
  readonly attempt: AttemptRecord;
  /** The trailers that the server sent. Absent until then, and where something else ended the attempt. */
  readonly trailers: Metadata | undefined;
  /** Notes that a policy in mode `observe` would have refused the attempt. Its permit is held all the same. */
  wouldRefuse(refusal: Refusal, policy: PolicyName): void;
  /** The address of the server that the attempt went to; the target, or `unknown`, where none was chosen. */
  getPeer(): string;
}

/** A call below that was started longer ago, in milliseconds, is past the tick of its start. */
const freshMs = 50;

/** An attempt that passes a row of gates before it is sent, and settles their permits when it ends. */
export class GatedCall extends ForwardingCall<OptionsWithOwn> implements GateHost, ClientPassage {
  readonly record: CallRecord;
  readonly attempt: AttemptRecord;
  readonly clock: Clock;
  trailers: Metadata | undefined;
  readonly #run: GateRun<ClientPassage>;
  readonly #pendingCalls: PendingCalls;
  #metadata: Metadata | undefined;
  #sawHeaders = false;
  /** A streamed response has had its first message. */
  #delivered = false;
  #ownCancel: string | undefined;
  /** When the call below was started. */
  #startedMs = 0;
  /** The call below will be cancelled after this tick. */
  #callingOff = false;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    gates: readonly Gate<ClientPassage>[],
    pendingCalls: PendingCalls,
  ) {
    super(options, nextCall);
    this.record = record;
    this.attempt = attemptOf(options, record);
    this.clock = record.clock;
    this.#pendingCalls = pendingCalls;
    this.#run = new GateRun<ClientPassage>(gates, this, this);
  }

  protected override begin(metadata: Metadata): void {
    // grpc-js reopens a channel whose name is resolved after it was closed, and would answer this call.
    if (this.record.connection?.closed === true) {
      this.finish(channelClosedStatus());
      return;
    }
    // Gates keep state by target. It is unknown where a client has the interceptors without the transformer.
    if (this.record.target === "") this.#learnTarget();
    this.#metadata = metadata;
    this.record.metadata = metadata;
    this.#run.run();
    if (!this.#run.waiting) return;
    this.unmake();
    const kept = keepMetadata(metadata);
    this.#metadata = kept;
    this.record.metadata = kept;
    this.#pendingCalls.enter(this.#closed, this.record.connection);
  }

  #learnTarget(): void {
    const { record } = this;
    record.learnTarget(this.targetBelow());
    if (record.target !== "") return;
    record.warnOnce(
      "target",
      "is not known: calls to all servers share the state of each policy. Give the client all of weir.client(), or the interceptor the option target",
    );
  }

  protected override released(): void {
    this.#pendingCalls.leave(this.#closed);
    // Has no effect where `endedWith` has settled the permits already.
    this.#run.settle("ignored");
  }

  admitted(waited: boolean): void {
    const metadata = this.#metadata;
    if (metadata === undefined) return;
    if (waited) {
      this.#pendingCalls.leave(this.#closed);
      // What another call gives back when it is closed may let this one through.
      const closed = this.#pendingCalls.closing(this.record.connection);
      if (closed !== undefined) {
        this.finish(closed);
        return;
      }
    }
    this.#startedMs = this.clock.now();
    // The turn in a queue comes in the async context of the call that left it.
    if (waited) this.record.restore(() => this.forward(metadata));
    else this.forward(metadata);
  }

  readonly #closed = (status: StatusObject): void => this.finish(status);

  refused(refusal: Refusal): void {
    this.finish(localRejection(refusal, { method: this.record.method }));
  }

  wouldRefuse(refusal: Refusal, policy: PolicyName): void {
    this.#run.wouldRefuse(refusal, policy);
  }

  get observed(): ObserveReport {
    return this.record.observed;
  }

  decide(decision: Decision): void {
    this.record.decide(decision);
  }

  override cancelWithStatus(code: Status, details: string): void {
    this.#ownCancel ??= details;
    const { next } = this;
    if (next === undefined || this.ended || !this.#fresh) {
      super.cancelWithStatus(code, details);
      return;
    }
    // A call of grpc-js that is cancelled in the tick of its start gets a status, but the request is sent and the
    // handler runs until its deadline. Cancelled a turn later, it is cancelled on the server too.
    if (this.#callingOff) return;
    this.#callingOff = true;
    const cancelled = { code, details, metadata: new Metadata() };
    process.nextTick(() => this.onReceiveStatus(cancelled));
    this.clock.afterPoll(() => cancelQuietly(next, code, details));
  }

  /** Whether grpc-js may not have begun to send the call: until then, the peer is the target. */
  get #fresh(): boolean {
    if (this.#sawHeaders || this.clock.now() - this.#startedMs > freshMs) return false;
    const peer = this.getPeer();
    return peer !== "unknown" && !isAddress(peer, this.record.target);
  }

  override onReceiveMetadata(metadata: Metadata): void {
    this.#sawHeaders = true;
    super.onReceiveMetadata(metadata);
  }

  override onReceiveMessage(message: unknown): void {
    if (!this.#delivered && this.options.method_definition.responseStream) {
      this.#delivered = true;
      this.#run.delivered();
    }
    super.onReceiveMessage(message);
  }

  protected override endedWith(received: StatusObject): void {
    const { code } = received;
    if (code === Status.OK) {
      this.trailers = received.metadata;
      this.#run.settle("success");
    } else {
      const evidence = {
        sawHeaders: this.#sawHeaders,
        peer: this.getPeer(),
        target: this.record.target,
        ownCancel: echoes(received, this.#ownCancel),
        unknown: this.record.unknownTexts,
        resets: this.record.resets,
      };
      this.record.inbound?.failedBelow(received);
      const failure = endAttempt(this.attempt, received, evidence, this.clock.now());
      if (failure?.origin === "remote") this.trailers = received.metadata;
      const unsent = neverLeft(evidence);
      const seen = {
        neverLeft: unsent,
        connected: unsent && this.record.connection?.state === connectivityState.READY,
        delivered: this.#delivered,
      };
      // This process was held up and ended the attempt late: the server may have answered in time.
      const held = this.attempt.heldUp === true || this.record.heldUp;
      if (held || failure === undefined) this.#run.settle("ignored");
      else this.#run.settle(failure.outcome(seen), failure.ending(seen));
    }
    super.endedWith(received);
  }
}
