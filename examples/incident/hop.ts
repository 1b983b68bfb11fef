import type { CallOptions, ClientOptions, ServerOptions } from "@grpc/grpc-js";
import { type ClientPolicy, createWeir, type ServerPolicy } from "grpc-weir";
import type { Script } from "./script.js";

/** What a process gives to its gRPC servers, clients and calls: with the toolkit, or what grpc-js offers alone. */
export interface Hop {
  readonly script: Script;
  server(policy: ServerPolicy): ServerOptions;
  client(policy: ClientPolicy): ClientOptions;
  call(): CallOptions;
}

/** Both ways alike: a lost connection is tried again soon, not after the second that grpc-js waits. */
const channel: ClientOptions = {
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 200,
};

export function withToolkit(script: Script): Hop {
  const weir = createWeir();
  return {
    script,
    server: (policy) => weir.server(policy),
    client: (policy) => weir.client(policy, channel),
    // Nothing to say: deadline, priority and cancellation follow the inbound call.
    call: () => ({}),
  };
}

export function withoutToolkit(script: Script): Hop {
  return {
    script,
    server: () => ({}),
    client: () => channel,
    call: () => ({ deadline: Date.now() + script.deadlineMs }),
  };
}
