import { status as Status, type StatusObject } from "@grpc/grpc-js";
import type { CallPart } from "../../grpc/client/pipeline-call.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import { readDegradations } from "../../grpc/status/degraded.js";

/** Notes the mark of a service below in its answer, for the inbound call that the call is made for. */
export function noteAnswer({ inbound }: CallRecord, { code, metadata }: StatusObject): void {
  if (code === Status.OK) inbound?.degraded(readDegradations(metadata));
}

/** For calls of a handler without a fallback: the mark of a service below is noted, to be sent with the handler's answer. */
export const degradationsPart: CallPart = {
  at: "call",
  begin({ record }) {
    if (record.inbound === undefined) return undefined;
    return { ended: (status) => noteAnswer(record, status) };
  },
};
