import type { AuthContext, ClientCall, MessageContext } from "../types.js";

// The call below an interceptor may be anybody's: grpc-js takes every object for one, and asks a unary call for three
// methods only. What is missing in it, or throws, must not keep the toolkit from ending the call.

type AnyCall = Partial<ClientCall> | undefined;

/** Throws, with a text for the status, where an interceptor has returned no call. */
export function mustBeCall(call: AnyCall | null): void {
  if (typeof call?.start !== "function") throw new TypeError("an interceptor returned no call");
}

/** Sends a message. A call that takes messages alone has nobody to call the write back. */
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

/** The peer of a call that tells it. */
export function peerOf(call: AnyCall): string | undefined {
  try {
    const peer: unknown = call?.getPeer?.();
    return typeof peer === "string" ? peer : undefined;
  } catch {
    return undefined;
  }
}

/** What a call tells of its connection, or null. */
export function authContextOf(call: AnyCall): AuthContext | null {
  try {
    return call?.getAuthContext?.() ?? null;
  } catch {
    return null;
  }
}
