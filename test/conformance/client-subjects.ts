import type { ClientOptions } from "@grpc/grpc-js";
import * as client from "../../src/client.js";
import { staticFlags } from "../../src/policies/flags/source.js";
import type { ConformanceSubject } from "../../src/testing/conformance/conformance.js";
import { createWeir } from "../../src/weir.js";

// Asked for while the faults are built.
Object.assign(process.env, { GRPC_WEIR_FAULTS: "1" });

const noFlags = staticFlags({ kill: false });

/** Each client interceptor alone. Those without a factory of their own stand alone in a pipeline. */
export const clientSubjects: Readonly<Record<string, ConformanceSubject>> = {
  "client context": { client: (env) => [client.context(env)] },
  "client deadline": { client: (env) => [client.deadline(env)] },
  "client idempotency key": { client: (env) => [client.idempotencyKey(env)] },
  "client retry": { client: (env) => [client.retry({ ...env, idempotent: true })] },
  "client hedge": {
    client: (env) =>
      createWeir(env).client({
        breaker: false,
        retry: { idempotent: true },
        hedge: { delayMs: 60_000 },
      }),
  },
  "client timeouts": {
    client: (env) =>
      createWeir(env).client({
        breaker: false,
        retry: false,
        timeouts: {
          connectionMs: 50_000,
          attemptMs: 60_000,
          firstResponseMs: 60_000,
          idleMs: 60_000,
        },
      }),
  },
  "client kill switch": { client: (env) => [client.killSwitch({ ...env, flags: noFlags })] },
  "client throttle": { client: (env) => [client.throttle(env)] },
  "client breaker": { client: (env) => [client.breaker(env)] },
  // Each attempt waits for the word of a store.
  "client rate": {
    client: (env) => [
      client.rate({
        ...env,
        ratePerSecond: 1_000,
        store: { take: async () => ({ granted: true }) },
      }),
    ],
  },
  "client bulkhead": { client: (env) => [client.bulkhead(env)] },
  "client fallback": {
    // With providers that are for no failure: a call must end as it does without them.
    client: (env) => [
      client.fallback({
        ...env,
        onError: () => {},
        providers: [
          client.staleCache({ shared: true, singleFlight: false, when: () => false }),
          client.empty({ when: () => false }),
        ],
      }),
    ],
  },
  "client faults": {
    client: (env) => [
      client.faults({
        ...env,
        latency: { rate: 1, ms: 1 },
        status: { rate: 0 },
        drop: { rate: 0 },
        reset: { rate: 0 },
        midStream: { rate: 0 },
      }),
    ],
  },
};

/** No interceptor, but what stands below them all. It opens connections of its own, so over sockets only. */
export const partitioned: ClientOptions = {
  channelFactoryOverride: (target, credentials, channelOptions) =>
    client.partitionedChannel(target, credentials, {
      partitions: { urgent: { priorities: ["critical", "high"] }, rest: { connections: 2 } },
      channelOptions,
    }),
};
