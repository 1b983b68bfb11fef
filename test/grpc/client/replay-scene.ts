import { Metadata, status } from "@grpc/grpc-js";
import type { CallKind } from "../../../src/grpc/types.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { ended, fakeBelow, Hearer, optionsOf, Writes } from "./fake-call.js";
import { type Relaunch, type RelaunchingCall, relaunching } from "./relaunching-call.js";

export const unavailable = () => ended(status.UNAVAILABLE, "not now");
export const streamed = ["server-stream", "bidi"] as const;
export const single = ["unary", "client-stream"] as const;

/** A relaunching call over fake ones, with a listener above it. */
export function setup(kind: CallKind, given: Relaunch = {}, eager = true) {
  const below = fakeBelow(eager);
  const { interceptor, calls: made } = relaunching(new VirtualClock(), given);
  interceptor(optionsOf(kind), below.nextCall);
  const [call] = made as [RelaunchingCall];
  const above = new Hearer();
  const writes = new Writes();
  const send = (message: string) => call.sendMessageWithContext(writes.context(), message);
  const start = (metadata = new Metadata()) => call.start(metadata, above);
  return { ...below, call, above, writes, send, start };
}
