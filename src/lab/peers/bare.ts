import { status as Status } from "@grpc/grpc-js";
import { bareCosts } from "../costs.js";
import type { Peer } from "./peer.js";

/** grpc-js without any policy. */
export const bare: Peer = {
  name: "bare",
  client: () => ({ costs: bareCosts.client }),
  server: () => ({ costs: bareCosts.server, interceptors: [] }),
};

/** The retries of grpc-js, with the numbers of the examples in gRFC A6. */
export const retryPolicy: Peer = {
  name: "retryPolicy",
  client: () => ({
    costs: bareCosts.client,
    retryPolicy: {
      maxAttempts: 4,
      initialBackoffMs: 100,
      maxBackoffMs: 1_000,
      backoffMultiplier: 2,
      retryableStatusCodes: [Status.UNAVAILABLE],
      maxTokens: 10,
      tokenRatio: 0.1,
    },
  }),
  server: bare.server,
};
