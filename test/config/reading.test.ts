import { fromJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { messageNamed } from "../../src/config/schema.js";
import { documentOf } from "../../src/config/text.js";
import { problemsOf, read } from "./documents.js";

const all = `
client:
  deadline: { default: 2s, margin: 0.010s }
  waitForReady: true
  timeouts: { attempt: 0.5s }
  retry:
    maxAttempts: 4
    codes: [UNAVAILABLE, 10]
    backoff: { base: 0.05s, jitter: equal }
    budgetOff: true
  breaker: { open: 0.25s, failureRateOff: true, key: method }
  bulkhead:
    maxConcurrent: 64
    partitions: { reads: { share: 0.5 } }
    streamsTogether: true
  fallback: { reserve: 0.1s }
  faults:
    latency: { rate: 0.5, from: 0.1s, to: 0.2s }
    status: { code: ABORTED, pushbackStop: true }
    drop: {}
methods:
  - name: shop.v1.Stock/*
    hedge: { delay: 0.08s, nonFatalCodes: [] }
  - name: shop.v1.Stock/Reserve
    retryOff: true
server:
  priority: { default: low, methods: { shop.v1.Stock: high } }
  requestOff: true
  quota: [{ ratePerSecond: 5, key: peer }]
  idempotency:
    scope: shared
    methods: { shop.v1.Stock/Reserve: { ttl: 3600s, stores: [OK] } }
    maxBytes: "67108864"
  admission:
    limitElastic: { min: 4, ceilingOff: true }
    pressure: { loopDelay: { from: 0.050s, to: 0.250s }, cpuOff: true }
    streams: { limit: 10, maxAge: 60s }
  brownout: { optional: { picks: { skipAbovePressure: 0.4 } } }
guards:
  - name: db
    timeouts: { total: 1s }
    breaker: { consecutiveFailures: 3 }
    fallback: { timeout: 0.2s }
`;

describe("a document", () => {
  it("gives the options of the code", () => {
    const { client, methods, server, guards } = read(all);

    expect(client).toEqual({
      deadline: { defaultMs: 2_000, marginMs: 10 },
      waitForReady: true,
      timeouts: { attemptMs: 500 },
      retry: {
        maxAttempts: 4,
        codes: [14, 10],
        backoff: { baseMs: 50, jitter: "equal" },
        budget: false,
      },
      breaker: { openMs: 250, failureRate: false, key: "method" },
      bulkhead: { maxConcurrent: 64, partitions: { reads: { share: 0.5 } }, streams: "together" },
      fallback: { reserveMs: 100 },
      faults: {
        latency: { rate: 0.5, ms: [100, 200] },
        status: { code: 10, pushbackMs: "stop" },
        drop: {},
      },
    });
    expect(methods).toEqual({
      "shop.v1.Stock": { hedge: { delayMs: 80, nonFatalCodes: [] } },
      "shop.v1.Stock/Reserve": { retry: false },
    });
    expect(server).toEqual({
      priority: { default: "low", methods: { "shop.v1.Stock": "high" } },
      requestMs: false,
      quota: [{ ratePerSecond: 5, key: "peer" }],
      idempotency: {
        scope: "shared",
        methods: { "shop.v1.Stock/Reserve": { ttlMs: 3_600_000, stores: [0] } },
        maxBytes: 67_108_864,
      },
      admission: {
        limit: { algorithm: "elastic", min: 4, ceilingMs: false },
        pressure: { loopDelayMs: { from: 50, to: 250 }, cpu: false },
        streams: { limit: 10, maxAgeMs: 60_000 },
      },
      brownout: { optional: { picks: { skipAbovePressure: 0.4 } } },
    });
    expect(guards).toEqual({
      db: {
        timeouts: { totalMs: 1_000 },
        breaker: { consecutiveFailures: 3 },
        fallback: { timeoutMs: 200 },
      },
    });
  });

  it("is the JSON form of a message of the schema, for protobuf too", () => {
    const { value } = documentOf(all, "policies.yaml");
    const message = fromJson(messageNamed("Policies"), value as never);

    expect(message).toMatchObject({ client: { waitForReady: true }, methods: [{}, {}] });
  });

  it("says the same as JSON", () => {
    const { value } = documentOf(all, "policies.yaml");
    const { client, methods } = read(JSON.stringify(value, undefined, "\t"), "policies.json");

    expect({ client, methods }).toEqual({
      client: read(all).client,
      methods: read(all).methods,
    });
  });

  it.each(["", "# nothing yet\n", "{}", "client:\nmethods: []\n"])("may be empty: %j", (text) => {
    expect(read(text)).toMatchObject({ client: {}, methods: {}, server: {}, guards: {} });
  });

  it("knows where each option is written", () => {
    const policies = read(all);

    expect(policies.placeOf("client.retry.maxAttempts")).toBe("policies.yaml:7");
    expect(policies.placeOf('client.methods["shop.v1.Stock"].hedge.delayMs')).toBe(
      "policies.yaml:23",
    );
    expect(policies.placeOf('guard("db").breaker')).toBe("policies.yaml:42");
    expect(policies.placeOf("telemetry")).toBeUndefined();
  });
});

describe("an error about a document", () => {
  it.each([
    [
      "client: { retri: {} }",
      "policies.yaml:1:11 client.retri is not a field; the fields are",
      "retry",
    ],
    [
      "client:\n  breaker:\n    openMs: 5",
      "policies.yaml:3:5 client.breaker.openMs is not a field",
      "open",
    ],
    [
      "client: { retry: { codes: [UNAVAILABEL] } }",
      "client.retry.codes[0] must be the name of a status",
      "UNAVAILABLE",
    ],
  ])("has line, path and what was probably meant: %s", (text, problem, meant) => {
    const [found = ""] = problemsOf(text);

    expect(found).toContain(problem);
    expect(found).toContain(`(did you mean ${meant}?)`);
  });

  it.each([
    ["client: 5", "client must be an object, got 5"],
    [
      "client: { retry: { maxAttempts: many } }",
      'client.retry.maxAttempts must be a number, got "many"',
    ],
    ["client: { waitForReady: 1 }", "client.waitForReady must be true or false, got 1"],
    [
      "client: { breaker: { open: 250 } }",
      'client.breaker.open must be a duration such as "1.5s", not below zero, got 250',
    ],
    ["client: { retry: { codes: UNAVAILABLE } }", "client.retry.codes must be an array"],
    ["client: { retryOff: false }", "client.retryOff must be true or absent, got false"],
    [
      "client: { retry: {}, retryOff: true }",
      "client.retryOff must be absent where retry is given",
    ],
    [
      "client: { faults: { latency: { to: 1s } } }",
      "client.faults.latency must have a duration `from`",
    ],
    [
      "client: { bulkhead: { partitions: [] } }",
      "client.bulkhead.partitions must be an object, got an array",
    ],
    ["methods: {}", "methods must be an array, got an object"],
    [
      "methods: [{ retryOff: true }]",
      "methods[0] name must be pkg.Service/Method or pkg.Service/*, got undefined",
    ],
    [
      "methods: [{ name: shop.v1.Stock }]",
      "methods[0].name must be pkg.Service/Method or pkg.Service/*",
    ],
    ["methods: [{ name: a.B/C }, { name: /a.B/C }]", "methods[1].name is given twice: a.B/C"],
    ["guards: [{ name: '' }]", 'guards[0].name must be a name, got ""'],
  ])("names what is of the wrong kind: %s", (text, problem) => {
    expect(problemsOf(text).join("\n")).toContain(problem);
  });

  it("has the rules of the policies, with the place in the document", () => {
    const text = `
client:
  breaker:
    open: 1s
    maxOpen: 0.5s
methods:
  - name: a.B/*
    retry: { maxAttempts: 0 }
  - name: a.B/C
    hedge: { maxAttempts: 2 }
  - name: a.D/E
    timeouts: { total: 0.05s }
server:
  admission:
    queue: { order: lifo }
guards:
  - name: db
    retry: { backoff: { base: 2s, max: 1s } }
`;
    const found = problemsOf(text);

    expect(found[0]).toContain(
      "policies.yaml:5:5 client.breaker.maxOpen must be a duration from 1s to 24 days, got ",
    );
    expect(found[1]).toContain(
      "policies.yaml:15:14 server.admission.queue.order must be one of priority",
    );
    expect(found[2]).toContain(
      "policies.yaml:18:35 guards[0].retry.backoff.max must be a duration from 2s to 24 days, got 1s",
    );
    expect(problemsOf(text.replace("maxOpen: 0.5s", "maxOpen: 5s")).slice(0, 2)).toEqual([
      expect.stringContaining(
        "policies.yaml:8:14 methods[0].retry.maxAttempts must be a whole number from 1",
      ),
      expect.stringContaining(
        "policies.yaml:12:17 methods[2].timeouts.total must be above the backoff",
      ),
    ]);
  });

  it("tells all that the schema does not know at once", () => {
    expect(problemsOf("client: { a: 1, b: 2 }\nserver: { c: 3 }")).toHaveLength(3);
  });

  it("says where a text is neither YAML nor JSON", () => {
    expect(problemsOf("client: {\n  retry: ]").join("\n")).toMatch(/^policies\.yaml:2:\d+ /);
    expect(problemsOf('{ "client": {', "p.json").join("\n")).toMatch(/^p\.json:1:/);
    expect(problemsOf("client: {}\nclient: {}").join("\n")).toContain("policies.yaml:2:1 ");
  });
});
