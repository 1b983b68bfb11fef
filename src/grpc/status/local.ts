import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { ClientCall } from "../types.js";
import { localRejection } from "./rejection.js";

/** The message of the error that grpc-js throws for a call on a closed channel. */
const closedText = "Channel has been shut down";

/** The status of a call that could not start because its channel was closed; `undefined` for any other error. */
export function channelClosed(error: unknown): StatusObject | undefined {
  if (!(error instanceof Error) || error.message !== closedText) return undefined;
  return channelClosedStatus();
}

/** The status of a call that waits when its channel is closed, or is made later. */
export function channelClosedStatus(): StatusObject {
  return localRejection({ kind: "refusal", reason: "CLOSED", detail: closedText });
}

/** With this text grpc-js ends calls that have no connection yet when their channel is closed. */
const closedBeforeStart = "Channel closed before call started";

/** Whether grpc-js ended the call because its channel was closed, so that no other attempt is possible. */
export function endedByClosing({ code, details }: StatusObject): boolean {
  return code === Status.UNAVAILABLE && details.startsWith(closedBeforeStart);
}

/** The status of a call when an interceptor below threw. */
export function interceptorThrew(error: unknown): StatusObject {
  return threw("Call could not be started", error);
}

/** The status of a call whose request cannot be serialized, with the text of grpc-js. */
export function serializationFailed(error: unknown): StatusObject {
  return threw("Request message serialization failure", error);
}

function threw(what: string, error: unknown): StatusObject {
  const text = error instanceof Error ? error.message : String(error);
  return { code: Status.INTERNAL, details: `${what}: ${text}`, metadata: new Metadata() };
}

/**
 * Cancels a call that nobody waits for. An interceptor below may throw; that must not keep the status from the caller,
 * nor end the process from a timer.
 */
export function cancelQuietly(call: ClientCall | undefined, code: Status, details: string): void {
  try {
    call?.cancelWithStatus(code, details);
  } catch {
    // The call has ended already.
  }
}
