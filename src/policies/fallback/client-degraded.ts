import { status as Status, type StatusObject } from "@grpc/grpc-js";
import { ForwardingCall } from "../../grpc/client/forwarding-call.js";
import type { CallRecord, OptionsWithOwn } from "../../grpc/context/call-record.js";
import { type Degradation, readDegradations } from "../../grpc/status/degraded.js";

/** Notes how an answer is degraded, for the call and for the inbound call that it is made for. */
export function noteDegradations(record: CallRecord, degradations: readonly Degradation[]): void {
  if (degradations.length === 0) return;
  record.degradations = degradations;
  record.inbound?.degraded(degradations);
}

/** Notes the mark of a service below in its answer. */
export function noteAnswer(record: CallRecord, { code, metadata }: StatusObject): void {
  if (code === Status.OK) noteDegradations(record, readDegradations(metadata));
}

/** A call of a handler without a fallback: the mark of a service below is noted, to be sent with the handler's answer. */
export class WatchedCall extends ForwardingCall<OptionsWithOwn> {
  readonly #record: CallRecord;

  constructor(
    options: OptionsWithOwn,
    nextCall: ConstructorParameters<typeof ForwardingCall>[1],
    record: CallRecord,
  ) {
    super(options, nextCall);
    this.#record = record;
  }

  protected override endedWith(received: StatusObject): void {
    if (!this.ended) noteAnswer(this.#record, received);
    super.endedWith(received);
  }
}
