import {
  type CallOptions,
  type ClientOptions,
  type ServerOptions,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import type { ServerCall } from "./messages.js";
import type { Way } from "./ways.js";

/** What a process gives to its gRPC servers, clients and calls. The services themselves are the same in all ways. */
export interface Hop {
  server(): ServerOptions;
  client(): ClientOptions;
  /** Options of a call that a handler makes for the call that it serves. */
  callFor(served: ServerCall): CallOptions;
  /** Whether a policy refused the call, early and on purpose. */
  wasShed(error: ServiceError): boolean;
}

/**
 * Retries as a service config gives them to grpc-js: as many attempts, the same waits and the same code as the
 * toolkit's. The throttling is the example of gRFC A6.
 */
const serviceConfig = {
  loadBalancingConfig: [],
  methodConfig: [
    {
      name: [{}],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.1s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
  retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
};

export async function hopOf(way: Way): Promise<Hop> {
  switch (way) {
    case "toolkit":
      return await withToolkit();
    case "retryPolicy":
      return withGrpcJs({ "grpc.service_config": JSON.stringify(serviceConfig) });
    case "bare":
      return withGrpcJs({});
  }
}

/** The policies of the README, for every client and every server. */
async function withToolkit(): Promise<Hop> {
  const { rejectionOf } = await import("grpc-weir");
  const { clientPolicy, weir } = await import("../quickstart/client.js");
  const { serverPolicy } = await import("../quickstart/server.js");
  return {
    server: () => weir.server(serverPolicy),
    client: () => weir.client(clientPolicy),
    // Nothing to say: deadline, priority and cancellation follow the call that is served.
    callFor: () => ({}),
    wasShed: (error) =>
      error.code === status.RESOURCE_EXHAUSTED && rejectionOf(error) !== undefined,
  };
}

/** What grpc-js can do by itself: deadlines and cancellation go on to the services behind. */
function withGrpcJs(options: ClientOptions): Hop {
  return {
    server: () => ({}),
    client: () => options,
    callFor: (served) => ({ parent: served }),
    wasShed: () => false,
  };
}
