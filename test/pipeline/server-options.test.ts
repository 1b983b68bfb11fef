import { describe, expect, it } from "vitest";
import { InvalidOptionError, readOptions } from "../../src/core/options.js";
import type { ServerPolicy } from "../../src/pipeline/server.js";
import { admission, context, deadlineGuard, quota } from "../../src/server.js";
import { createWeir } from "../../src/weir.js";

/** What only a caller without types can give. */
const server = (policy: unknown) => createWeir().server(policy as ServerPolicy);

function refusal(build: () => unknown): InvalidOptionError {
  try {
    build();
  } catch (error) {
    if (error instanceof InvalidOptionError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("an option of a server that is null", () => {
  it.each<[string, unknown]>([
    ["server.relay", { relay: null }],
    ["server.deadlineGuard", { deadlineGuard: null }],
    ["server.deadlineGuard.mode", { deadlineGuard: { mode: null } }],
    ["server.deadlineGuard.minRemainingMs", { deadlineGuard: { minRemainingMs: null } }],
    ["server.deadlineGuard.learned", { deadlineGuard: { learned: null } }],
    ["server.deadlineGuard.learned.mode", { deadlineGuard: { learned: { mode: null } } }],
    ["server.deadlineGuard.learned.share", { deadlineGuard: { learned: { share: null } } }],
    ["server.quota", { quota: null }],
    ["server.quota[0]", { quota: [null] }],
    ["server.quota.mode", { quota: { ratePerSecond: 5, mode: null } }],
    ["server.quota.key", { quota: { ratePerSecond: 5, key: null } }],
    ["server.quota.cost", { quota: { ratePerSecond: 5, cost: null } }],
    ["server.bulkhead.mode", { bulkhead: { mode: null } }],
    ["server.admission.mode", { admission: { mode: null } }],
    ["server.admission.priority", { admission: { priority: null } }],
    ["server.admission.limit.max", { admission: { limit: { algorithm: "elastic", max: null } } }],
    ["server.admission.maxWaitMs", { admission: { maxWaitMs: null } }],
    ["server.admission.streams", { admission: { streams: null } }],
    ["server.admission.pressure", { admission: { pressure: null } }],
    ["server.priority", { priority: null }],
    ["server.quota.burst", { quota: { ratePerSecond: 5, burst: null } }],
    ["server.quota.onStoreError", { quota: { ratePerSecond: 5, onStoreError: null } }],
    ["server.brownout.mode", { brownout: { optional: {}, mode: null } }],
    [
      "server.brownout.optional.a.skipAbovePressure",
      { brownout: { optional: { a: { skipAbovePressure: null } } } },
    ],
  ])("is no default: %s", (option, policy) => {
    const error = refusal(() => server(policy));
    expect(error.option).toBe(option);
    expect(error.message).toMatch(/^\S+ must be .+, got null$/);
  });

  it.each<[string, () => unknown]>([
    ["context", () => context(null as never)],
    ["context.relay", () => context({ relay: null as never })],
    ["context.priority", () => context({ priority: null as never })],
    ["admission.priority", () => admission({ priority: null as never })],
    ["quota.priority", () => quota({ ratePerSecond: 5, priority: null as never })],
    ["deadlineGuard.minRemainingMs", () => deadlineGuard({ minRemainingMs: null as never })],
  ])("is none of an interceptor of its own either: %s", (option, build) => {
    const error = refusal(build);
    expect(error.option).toBe(option);
    expect(error.message).toMatch(/, got null$/);
  });
});

describe("an option that is misspelt", () => {
  it("is answered by all that context takes", () => {
    const prio = { prio: {} } as Parameters<typeof context>[0];
    expect(refusal(() => context(prio)).message).toBe(
      "context.prio is not an option; the options are priority, relay, clock, random, onDecision, onError",
    );
  });

  it("is answered by what a deadline guard of its own takes", () => {
    const misspelt = { minRemaining: 5 } as Parameters<typeof deadlineGuard>[0];
    expect(refusal(() => deadlineGuard(misspelt)).message).toMatch(
      / minRemainingMs, mode, priority,/,
    );
  });
});

describe("an object of options", () => {
  it.each<[string, unknown]>([
    ["an array", []],
    ["a Map", new Map([["a", 1]])],
    ["a Set", new Set(["a"])],
  ])("is never %s, whose options nobody would read", (shown, given) => {
    expect(() => readOptions("server", given as object, ["a"])).toThrow(
      `server must be an object of options, got ${shown}`,
    );
  });
});
