import {
  type CallOptions,
  type InterceptorOptions,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import type { DecisionEvent } from "../../../src/core/decision.js";
import { ConformanceServiceService } from "../../../src/gen/weir/v1/conformance.js";
import type { CallKind } from "../../../src/grpc/types.js";
import { fallback } from "../../../src/policies/fallback/client.js";
import type { FallbackPolicyOptions } from "../../../src/policies/fallback/client-policy.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { type FakeCall, fakeBelow } from "../../grpc/client/fake-call.js";
import { payload } from "../../scene.js";
import { message } from "./client-scene.js";

/** A fallback above calls that the test plays. */
export function below(options: FallbackPolicyOptions) {
  const errors: unknown[] = [];
  const clock = new VirtualClock();
  const decisions: DecisionEvent[] = [];
  const { calls, nextCall } = fakeBelow();
  /** When grpc-js would end the calls: it asks for their deadlines as it makes them. */
  const timers: (number | undefined)[] = [];
  const made: NextCall = (own) => {
    timers.push(own.deadline instanceof Date ? own.deadline.getTime() : undefined);
    return nextCall(own);
  };
  const interceptor = fallback({
    ...options,
    clock,
    onError: (error) => errors.push(error),
    onDecision: (decision) => decisions.push(decision),
  });
  /** Makes a call, and sends its request unless told otherwise. */
  const start = (
    kind: Extract<CallKind, "unary" | "server-stream"> = "unary",
    {
      metadata = new Metadata(),
      request = message(1),
      send = true,
      own = {},
      ...more
    }: CallOptions & StartOptions = {},
  ) => {
    const { unary, serverStream } = ConformanceServiceService;
    const definition = kind === "unary" ? unary : serverStream;
    const call = interceptor({ ...more, method_definition: { ...definition, ...own } }, made);
    const heard: string[] = [];
    const statuses: StatusObject[] = [];
    call.start(metadata, {
      onReceiveMetadata: (headers) => heard.push(`headers ${headers.get("from").join()}`),
      onReceiveMessage: (one) => heard.push(`message ${one === null ? "null" : one.sequence}`),
      onReceiveStatus: (status) => {
        statuses.push(status);
        heard.push(`${Status[status.code]} ${status.details}`);
      },
    });
    if (send) {
      call.sendMessage(request);
      call.halfClose();
    }
    return { call, heard, statuses };
  };
  const within = (ms: number) => ({ deadline: clock.wallNow() + ms });
  return { clock, calls, timers, decisions, errors, start, within };
}

interface StartOptions {
  readonly metadata?: Metadata;
  readonly request?: object;
  readonly send?: boolean;
  /** What differs in the definition of the method. */
  readonly own?: Partial<InterceptorOptions["method_definition"]>;
}

export function from(name: string): Metadata {
  const metadata = new Metadata();
  metadata.set("from", name);
  return metadata;
}

/** Answers as a channel does: with a message that was read from its bytes. */
export function answer(call: FakeCall, sequence: number): void {
  const { responseSerialize } = ConformanceServiceService.unary;
  call.message(
    call.options.method_definition.responseDeserialize(responseSerialize({ payload, sequence })),
  );
}
