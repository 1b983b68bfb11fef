import { systemClock } from "../../src/core/clock.js";
import { staticFlags } from "../../src/policies/flags/source.js";
import { MemoryIdempotencyStore } from "../../src/policies/idempotency/memory-store.js";
import * as server from "../../src/server.js";
import type { ConformanceSubject } from "../../src/testing/conformance/conformance.js";
import { createWeir } from "../../src/weir.js";

// Asked for while the faults are built.
Object.assign(process.env, { GRPC_WEIR_FAULTS: "1" });

/** Each call has a key of its own: none is a duplicate, and all that holds for calls without a key holds for them. */
function everyCallKeyed() {
  let calls = 0;
  const key = () => {
    calls += 1;
    return `call ${calls}`;
  };
  return { scope: "shared", methods: { "weir.v1.ConformanceService/Unary": { key } } } as const;
}

/** The memory store, as one that is asked over a network. */
function distantStore() {
  const store = new MemoryIdempotencyStore(systemClock, { maxEntries: 1e5, maxBytes: 1e9 });
  return {
    claim: async (...args: Parameters<typeof store.claim>) => store.claim(...args),
    renew: async (...args: Parameters<typeof store.renew>) => store.renew(...args),
    complete: async (...args: Parameters<typeof store.complete>) => store.complete(...args),
    release: async (...args: Parameters<typeof store.release>) => store.release(...args),
  };
}

const noFlags = staticFlags({ kill: false });

/** Each server interceptor alone. */
export const serverSubjects: Readonly<Record<string, ConformanceSubject>> = {
  "server context": { server: (env) => [server.context(env)] },
  "server kill switch": {
    server: (env) => [server.context(env), server.killSwitch({ ...env, flags: noFlags })],
  },
  "server deadline guard": { server: (env) => [server.deadlineGuard(env)] },
  // Each call waits for the word of a store.
  "server quota": {
    server: (env) => [
      server.quota({
        ...env,
        ratePerSecond: 1_000,
        store: { take: async () => ({ granted: true }) },
      }),
    ],
  },
  "server idempotency that observes": {
    server: (env) => [
      server.idempotency({ ...env, ...everyCallKeyed(), store: distantStore(), mode: "observe" }),
    ],
  },
  "server bulkhead": {
    server: (env) => [server.bulkhead({ ...env, maxConcurrent: 2, maxWaitMs: 60_000 })],
  },
  // Learns from all, and refuses none. It has no factory of its own, so it stands in a pipeline.
  "server admission with streams together, and a limit and a guard that learn": {
    server: (env) =>
      createWeir(env).server({
        deadlineGuard: { learned: { mode: "enforce", minCalls: 1, share: 0.01 } },
        admission: { streams: "together", limit: "adaptive" },
      }),
  },
  "server brownout": {
    server: (env) => [
      server.context(env),
      server.brownout({ ...env, pressure: () => 1, optional: { pictures: {} } }),
    ],
  },
  "server admission": { server: (env) => [server.admission(env)] },
  "server faults": {
    server: (env) => [
      server.faults({
        ...env,
        latency: { rate: 1, ms: 1 },
        status: { rate: 0 },
        drop: { rate: 0 },
        midStream: { rate: 0 },
        headers: true,
      }),
    ],
  },
};

/** Server interceptors whose handlers are not told that their caller has left. */
export const keptSubjects: Readonly<Record<string, ConformanceSubject>> = {
  "server idempotency": {
    server: (env) => [server.idempotency({ ...env, ...everyCallKeyed() })],
  },
  "server idempotency with a store of its own, before admission": {
    server: (env) =>
      createWeir(env).server({
        idempotency: { ...everyCallKeyed(), store: distantStore() },
        admission: {},
      }),
  },
};
