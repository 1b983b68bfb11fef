import { status as Status, type StatusObject } from "@grpc/grpc-js";
import { ForwardingCall } from "../../grpc/client/forwarding-call.js";
import type { CallRecord, OptionsWithOwn } from "../../grpc/context/call-record.js";
import { readDegradations } from "../../grpc/status/degraded.js";

/** Notes the mark of a service below in its answer, for the inbound call that the call is made for. */
export function noteAnswer({ inbound }: CallRecord, { code, metadata }: StatusObject): void {
  if (code === Status.OK) inbound?.degraded(readDegradations(metadata));
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
    noteAnswer(this.#record, received);
    super.endedWith(received);
  }
}
