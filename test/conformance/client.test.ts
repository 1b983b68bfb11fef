import * as client from "../../src/client.js";
import { createWeir } from "../../src/weir.js";
import { register } from "./register.js";

// Each client interceptor alone. Those without a factory of their own stand alone in a pipeline.
register({
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
  "client breaker": { client: (env) => [client.breaker(env)] },
  "client bulkhead": { client: (env) => [client.bulkhead(env)] },
});
