import { describe, it } from "vitest";
import * as client from "../../src/client.js";
import * as server from "../../src/server.js";
import { type ConformanceSubject, conformance } from "../../src/testing/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory.js";
import { loopbackTransport } from "../../src/testing/loopback.js";
import { createWeir } from "../../src/weir.js";

/** Each interceptor alone, and all of them as a weir stacks them. */
const subjects: Readonly<Record<string, ConformanceSubject>> = {
  "client context": { client: (env) => [client.context(env)] },
  "client deadline": { client: (env) => [client.deadline(env)] },
  "client retry": { client: (env) => [client.retry({ ...env, idempotent: true })] },
  "client breaker": { client: (env) => [client.breaker(env)] },
  "client bulkhead": { client: (env) => [client.bulkhead(env)] },
  "server context": { server: (env) => [server.context(env)] },
  "server deadline guard": { server: (env) => [server.deadlineGuard(env)] },
  "server admission": { server: (env) => [server.admission(env)] },
  "the whole pipeline": {
    client: (env) => createWeir(env).client({ bulkhead: {} }),
    server: (env) => createWeir(env).server({ admission: {} }),
  },
};

describe.each([
  ["over loopback", loopbackTransport],
  ["in memory", inMemoryTransport],
] as const)("%s", (_way, makeTransport) => {
  describe.each(Object.entries(subjects))("%s", (_name, subject) => {
    for (const each of conformance(subject, makeTransport)) it(each.name, () => each.run());
  });
});
