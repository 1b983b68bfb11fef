import { Metadata, status as Status } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isPriority, priorities } from "../../src/core/priority.js";
import { type CurrentCall, currentCall } from "../../src/grpc/context/inbound-call.js";
import {
  readAdmission,
  readCohort,
  readIdempotencyKey,
  readPreviousAttempts,
  readPriority,
  readPushback,
  readRetryDepth,
} from "../../src/grpc/metadata.js";
import { readDegradations } from "../../src/grpc/status/degraded.js";
import { failing, handlers, kinds, type Method, scene } from "../scene.js";

/** What callers send. */
const requestKeys = [
  "x-request-priority",
  "x-request-cohort",
  "x-weir-retry-depth",
  "grpc-previous-rpc-attempts",
  "idempotency-key",
  "x-weir-admission",
  "x-weir-degraded",
  "grpc-retry-pushback-ms",
] as const;

/** What servers answer with. */
const answerKeys = ["x-weir-admission", "x-weir-degraded", "grpc-retry-pushback-ms"] as const;

const hostile: readonly (readonly string[])[] = [
  [""],
  [" "],
  ["x".repeat(8_000)],
  ["9".repeat(400)],
  ["critical", "critical"],
  ["critical, high"],
  ["critical "],
  ["CRITICAL"],
  ["0", "1"],
  ["-1"],
  ["1.5"],
  ["1e3"],
  ["0x10"],
  ["128"],
  ["NaN"],
  ["Infinity"],
  ["99999999999999999999"],
  ["4294967296"],
  ["__proto__"],
  ["constructor"],
  ["%00%FF"],
  ["\\u0000\\ud800"],
  ["AAECAwQFBgcICQ=="],
  ["v=1;level=9;ttl-ms=1000"],
  ["v=1;level=3;ttl-ms=999999999999"],
  ["v=1;level=3;level=1;ttl-ms=1000"],
  ["v=2;level=3;ttl-ms=1000"],
  [";;;;===="],
  ["fallback=x;age-ms=-1", "handler=", `fallback=${"y".repeat(300)}`],
  [Array(2_000).fill("fallback=a").join(",")],
];

const printable = fc
  .array(fc.integer({ min: 0x20, max: 0x7e }), { maxLength: 60 })
  .map((codes) => String.fromCharCode(...codes));
const values = fc.oneof(
  fc.constantFrom(...hostile),
  fc.array(printable, { minLength: 1, maxLength: 3 }),
  fc.array(
    fc.oneof(
      fc.integer().map(String),
      fc.double().map(String),
      fc.constantFrom(...priorities),
      fc.tuple(printable, printable).map(([a, b]) => `v=1;level=${a};ttl-ms=${b}`),
      fc.tuple(printable, printable).map(([a, b]) => `fallback=${a};age-ms=${b}`),
    ),
    { minLength: 1, maxLength: 2 },
  ),
);

function metadataOf(sent: Readonly<Partial<Record<string, readonly string[]>>>): Metadata {
  const metadata = new Metadata();
  for (const [key, list = []] of Object.entries(sent)) {
    for (const value of list) metadata.add(key, value);
  }
  return metadata;
}

describe("whatever stands in metadata", () => {
  it("is read without a throw, and as something that can be, or as absent", () => {
    fc.assert(
      fc.property(values, (list) => {
        const metadata = metadataOf(
          Object.fromEntries(requestKeys.map((key) => [key, list] as const)),
        );
        const priority = readPriority(metadata);
        expect(isPriority(priority) || priority === "invalid").toBe(true);
        const cohort = readCohort(metadata) ?? 0;
        expect(Number.isInteger(cohort) && cohort >= 0 && cohort <= 127).toBe(true);
        for (const count of [readPreviousAttempts(metadata), readRetryDepth(metadata)]) {
          expect(Number.isInteger(count) && count >= 0 && count <= 9_999).toBe(true);
        }
        const pushback = readPushback(metadata);
        if (pushback !== "stop") {
          expect(Number.isInteger(pushback)).toBe(true);
          expect(pushback).toBeGreaterThanOrEqual(0);
          expect(pushback).toBeLessThan(2 ** 31);
        }
        const admission = readAdmission(metadata);
        if (admission !== undefined) {
          expect(admission.level).toBeGreaterThanOrEqual(1);
          expect(admission.level).toBeLessThanOrEqual(4);
          expect(admission.ttlMs).toBeGreaterThanOrEqual(1);
          expect(admission.ttlMs).toBeLessThanOrEqual(2_000);
        }
        const degradations = readDegradations(metadata);
        expect(degradations.length).toBeLessThanOrEqual(16);
        for (const { name, ageMs = 0 } of degradations) {
          expect(name).toMatch(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);
          expect(Number.isSafeInteger(ageMs) && ageMs >= 0).toBe(true);
        }
        readIdempotencyKey(metadata);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("a server with every policy that reads metadata", () => {
  it("answers every call, and takes hostile values for absent ones", async () => {
    const errors: unknown[] = [];
    let seen: CurrentCall | undefined;
    const { call, clock, weir } = await scene({
      client: { retry: false, breaker: false },
      server: {
        priority: { cohort: "x-tenant", trust: () => true },
        deadlineGuard: { learned: { mode: "enforce" } },
        quota: { ratePerSecond: 1e6, key: ({ metadata }) => String(metadata.get("x-tenant")) },
        bulkhead: { key: ({ metadata }) => String(metadata.get("x-tenant")), maxKeys: 10 },
        admission: { streams: "together" },
        brownout: { optional: { pictures: {} } },
      },
      onError: (error) => errors.push(error),
      handlers: handlers((_call, answer) => {
        seen = currentCall();
        answer();
      }),
    });
    const sent = fc.record(
      Object.fromEntries([...requestKeys, "x-tenant"].map((key) => [key, values])),
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom<Method>(...kinds), sent, async (method, keys) => {
        const ended = await call(method, {}, metadataOf(keys));
        expect(ended.code).toBe(Status.OK);
        const said = keys["x-request-priority"] ?? [];
        const [first] = said;
        const known = said.length === 1 && isPriority(first);
        expect(seen?.priority).toBe(known ? first : "normal");
        expect(seen?.cohort).toBeGreaterThanOrEqual(0);
        expect(seen?.cohort).toBeLessThanOrEqual(127);
        expect(seen?.previousAttempts).toBeLessThanOrEqual(9_999);
        expect(seen?.degradations).toEqual([]);
      }),
      { numRuns: 150 },
    );
    expect(errors).toEqual([]);
    expect(clock.pending.refs).toBe(0);
    const keyed = weir.policy("bulkhead").snapshot()[0];
    expect(Object.keys(keyed?.bulkheads ?? {}).length).toBeLessThanOrEqual(10);
    expect(JSON.stringify(weir.snapshot())).not.toMatch(/"(running|abandoned|queued)":[1-9]/);
  });
});

describe("a client with every policy that reads metadata", () => {
  const policies = {
    retry: { maxAttempts: 3, idempotent: true, backoff: { baseMs: 0 } },
    throttle: { minCalls: 1_000_000, collaborative: true },
    idempotencyKey: { honoured: true },
    breaker: false,
  } as const;

  it("ends every call as the server said, and sends no more attempts than it may", async () => {
    const errors: unknown[] = [];
    let handled = 0;
    let answer: Readonly<Partial<Record<string, readonly string[]>>> = {};
    const { call, clock, weir } = await scene({
      client: policies,
      onError: (error) => errors.push(error),
      handlers: handlers((inbound) => {
        handled += 1;
        inbound.fail({ code: Status.UNAVAILABLE, details: "no", metadata: metadataOf(answer) });
      }),
    });
    const said = fc.record(Object.fromEntries(answerKeys.map((key) => [key, values])), {
      requiredKeys: [],
    });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom<Method>(...kinds), said, async (method, keys) => {
        answer = keys;
        handled = 0;
        const deadline = clock.wallNow() + 60_000;
        const ended = await call(method, { deadline });
        expect(ended).toMatchObject({ code: Status.UNAVAILABLE, details: "no" });
        const wish = readPushback(metadataOf(keys));
        expect(handled).toBeLessThanOrEqual(3);
        if (wish === "stop") expect(handled).toBe(1);
      }),
      { numRuns: 100 },
    );
    expect(errors).toEqual([]);
    expect(clock.pending.refs).toBe(0);
    expect(weir.snapshot().waiting).toBe(0);
  });

  it.each(["x-request-priority", "x-request-cohort", "x-weir-retry-depth"])(
    "sends on what its caller put into %s, whatever it is, and fails no call for it",
    async (key) => {
      for (const list of hostile) {
        const made = failing(1);
        const { call } = await scene({
          client: { ...policies, idempotencyKey: false },
          handlers: made.handlers,
        });
        const ended = await call("unary", {}, metadataOf({ [key]: list }));
        expect(ended.code).toBe(Status.OK);
        expect(made.calls()).toBe(2);
      }
    },
  );
});
