import type { StatusObject } from "@grpc/grpc-js";
import type { AuthContext, ClientCall, ClientListener, MessageContext } from "../types.js";

// The call below may be an object of a foreign interceptor. grpc-js accepts any object, and calls only three methods of
// a unary call. A method that is missing or throws must not keep the toolkit from ending the call.

type AnyCall = Partial<ClientCall> | undefined;

/** Throws an error with a text for the status, where an interceptor has returned no call. */
export function mustBeCall(call: AnyCall | null): void {
  if (typeof call?.start !== "function") throw new TypeError("an interceptor returned no call");
}

/** Sends a message. A call that has `sendMessage` only does not call the write callback, so this does. */
export function sendTo(call: Partial<ClientCall>, context: MessageContext, message: unknown): void {
  if (typeof call.sendMessageWithContext === "function") {
    call.sendMessageWithContext(context, message);
    return;
  }
  if (typeof call.sendMessage !== "function") throw new TypeError("a call takes no messages");
  call.sendMessage(message);
  const { callback } = context;
  if (callback !== undefined) process.nextTick(callback);
}

/** The peer of a call; `undefined` where the call does not say. */
export function peerOf(call: AnyCall): string | undefined {
  try {
    const peer: unknown = call?.getPeer?.();
    return typeof peer === "string" ? peer : undefined;
  } catch {
    return undefined;
  }
}

/** The identity of the server, as the call's connection knows it, or null. */
export function authContextOf(call: AnyCall): AuthContext | null {
  try {
    return call?.getAuthContext?.() ?? null;
  } catch {
    return null;
  }
}

/** Calls a write callback in the next tick, as grpc-js does, and without an error: errors are in the status. */
export function completeWrite(context: MessageContext): void {
  const { callback } = context;
  if (callback !== undefined) process.nextTick(callback);
}

/**
 * Passes the final status of a call to a listener.
 *
 * @param unanswered A single response did not come. Then grpc-js passes a message of null before the status.
 *   Interceptors rely on that: those in the style of gRFC L5 keep the `next` of the message and call it later.
 */
export function emitEnd(
  listener: Partial<ClientListener> | undefined,
  status: StatusObject,
  unanswered: boolean,
): void {
  try {
    if (unanswered) listener?.onReceiveMessage?.(null);
  } finally {
    // If the listener throws over the message, the call still ends.
    listener?.onReceiveStatus?.(status);
  }
}
