import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { ClientCall } from "../types.js";
import { localRejection } from "./rejection.js";

/** The text that grpc-js throws from a channel that was closed. */
const closedText = "Channel has been shut down";

/** The status of a call whose channel was closed before it could start, if that is what happened. */
export function channelClosed(error: unknown): StatusObject | undefined {
  if (!(error instanceof Error) || error.message !== closedText) return undefined;
  return channelClosedStatus();
}

/** The status of a call that waits, or is made, when its channel is closed. */
export function channelClosedStatus(): StatusObject {
  return localRejection({ kind: "refusal", reason: "CLOSED", detail: closedText });
}

/** What grpc-js ends the calls with that have no connection yet when their channel is closed. */
const closedBeforeStart = "Channel closed before call started";

/** Whether grpc-js ended the call because its channel was closed: no other attempt can be made. */
export function endedByClosing({ code, details }: StatusObject): boolean {
  return code === Status.UNAVAILABLE && details.startsWith(closedBeforeStart);
}

/** The status of a call that something below threw out of. */
export function interceptorThrew(error: unknown): StatusObject {
  const text = error instanceof Error ? error.message : String(error);
  return {
    code: Status.INTERNAL,
    details: `Call could not be started: ${text}`,
    metadata: new Metadata(),
  };
}

/** The status of a call whose request cannot be serialized, in the words of grpc-js. */
export function serializationFailed(error: unknown): StatusObject {
  const text = error instanceof Error ? error.message : String(error);
  return {
    code: Status.INTERNAL,
    details: `Request message serialization failure: ${text}`,
    metadata: new Metadata(),
  };
}

/**
 * Calls off a call that nobody waits for any more. An interceptor below that throws over it must not keep the
 * status from those who do wait, nor end the process from a timer.
 */
export function callOff(call: ClientCall | undefined, code: Status, details: string): void {
  try {
    call?.cancelWithStatus(code, details);
  } catch {
    // The call has its end already, and this is no part of it.
  }
}
