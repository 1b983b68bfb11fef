import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError, maxDurationMs } from "../../src/core/options.js";
import { policiesFromServiceConfig, protoDurationMs } from "../../src/pipeline/service-config.js";
import { serviceConfigConflicts } from "../../src/pipeline/service-config-conflicts.js";
import { methodRegistry } from "../../src/policies/idempotency/client-registry.js";
import { createWeir } from "../../src/weir.js";
import { failing, handlers, kinds, path, scene } from "../scene.js";

const retryPolicy = {
  maxAttempts: 4,
  initialBackoff: "0.1s",
  maxBackoff: "1s",
  backoffMultiplier: 2,
  retryableStatusCodes: ["UNAVAILABLE"],
};
const retry = {
  maxAttempts: 4,
  codes: [Status.UNAVAILABLE],
  backoff: { baseMs: 100, maxMs: 1_000, multiplier: 2, jitter: "proportional" },
};

/** A config with one entry, for one method. */
function oneEntry(entry: object): { methodConfig: object[] } {
  return { methodConfig: [{ name: [{ service: "a.B", method: "C" }], ...entry }] };
}

const withoutBudget =
  "serviceConfig.retryThrottling is absent: extra attempts have the default budget, in gRPC none";

/** What an entry for one method becomes, and what is said about it, beside that there is no budget in the config. */
function imported(entry: object) {
  const { policy, warnings } = policiesFromServiceConfig(oneEntry(entry));
  return {
    ...policy.methods["a.B/C"],
    warnings: warnings.filter((warning) => warning !== withoutBudget),
  };
}

describe("the policies of a service config", () => {
  it("are those of a client policy", () => {
    const { policy, warnings } = policiesFromServiceConfig({
      methodConfig: [
        { name: [{}], timeout: "10s" },
        { name: [{ service: "a.B" }], timeout: "1.5s", retryPolicy },
        {
          name: [
            { service: "a.B", method: "C" },
            { service: "a.D", method: "E" },
          ],
          timeout: { seconds: 2, nanos: 500_000_000 },
          hedgingPolicy: {
            maxAttempts: 3,
            hedgingDelay: "0.08s",
            nonFatalStatusCodes: ["unavailable", "ABORTED", 2],
          },
        },
      ],
      retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
    });
    const hedge = {
      maxAttempts: 3,
      delayMs: 80,
      nonFatalCodes: [Status.UNAVAILABLE, Status.ABORTED, Status.UNKNOWN],
    };
    // Hedges draw on the budget of retries.
    const paid = { maxAttempts: 1, budget: { maxTokens: 10, tokenRatio: 0.1, ratio: false } };
    expect(policy).toEqual({
      deadline: { defaultMs: 10_000 },
      retry: false,
      methods: {
        "a.B": {
          deadline: { defaultMs: 1_500 },
          retry: { ...retry, budget: { maxTokens: 10, tokenRatio: 0.1, ratio: false } },
        },
        "a.B/C": { deadline: { defaultMs: 2_500 }, retry: paid, hedge },
        "a.D/E": { deadline: { defaultMs: 2_500 }, retry: paid, hedge },
      },
    });
    expect(warnings).toEqual([
      expect.stringMatching(/^serviceConfig.methodConfig\[2\].hedgingPolicy is followed only for/),
    ]);
    expect(createWeir().client(policy).interceptors).not.toHaveLength(0);
  });

  it("come without a warning where all means the same", () => {
    const { warnings } = policiesFromServiceConfig({
      ...oneEntry({ timeout: "1s", retryPolicy, waitForReady: false }),
      retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
    });
    expect(warnings).toEqual([]);
  });

  it("are read from text as from parsed JSON", () => {
    const config = oneEntry({ timeout: "3s", retryPolicy });
    expect(policiesFromServiceConfig(JSON.stringify(config))).toEqual(
      policiesFromServiceConfig(config),
    );
  });

  it("do not retry where the config has no retryPolicy, as gRPC would not", () => {
    expect(policiesFromServiceConfig({}).policy).toEqual({ retry: false, methods: {} });
    expect(imported({ timeout: "1s" }).retry).toBe(false);
  });

  it.each([
    {},
    { service: "" },
    { service: null },
    { service: "", method: "" },
    { service: null, method: null },
  ])("%j is the name of the default, and null and empty read as absent", (name) => {
    const { policy } = policiesFromServiceConfig({
      methodConfig: [{ name: [name], retryPolicy, timeout: null }],
    });
    expect(policy).toEqual({ retry, methods: {} });
  });

  it.each([{ service: "a.B" }, { service: "a.B", method: "" }, { service: "a.B", method: null }])(
    "%j is the name of a service",
    (name) => {
      const { policy } = policiesFromServiceConfig({
        methodConfig: [{ name: [name], retryPolicy }],
      });
      expect(policy).toEqual({ retry: false, methods: { "a.B": { retry } } });
    },
  );

  it("stand alone for their method: what an entry does not set is not taken from a broader one", () => {
    const hedgingPolicy = { maxAttempts: 2 };
    const { policy } = policiesFromServiceConfig({
      methodConfig: [
        { name: [{}], timeout: "9s", hedgingPolicy },
        { name: [{ service: "a.B" }], timeout: "1s", retryPolicy },
        { name: [{ service: "a.B", method: "C" }] },
        { name: [{ service: "a.D", method: "E" }], retryPolicy },
      ],
    });
    const alone = policiesFromServiceConfig({
      methodConfig: [
        { name: [{ service: "a.B" }], timeout: "1s", hedgingPolicy },
        {
          name: [
            { service: "a.B", method: "C" },
            { service: "a.D", method: "E" },
          ],
        },
      ],
    });
    const none = { deadline: { defaultMs: maxDurationMs }, hedge: false };
    expect(policy.methods).toEqual({
      "a.B": { deadline: { defaultMs: 1_000 }, retry, hedge: false },
      "a.B/C": { ...none, retry: false },
      "a.D/E": { ...none, retry },
    });
    expect(alone.policy.methods).toMatchObject({ "a.B/C": none });
    // Where nothing broader sets anything, there is nothing to take back.
    expect(alone.policy.methods["a.D/E"]).toEqual({ retry: false });
  });
});

describe("the policies of a service config, at work", () => {
  const [service = ""] = path.unary.slice(1).split("/");

  it("retry a method as its entry says, and others not", async () => {
    const { policy } = policiesFromServiceConfig({
      methodConfig: [{ name: [{ service, method: "Unary" }], retryPolicy }],
    });
    const server = failing(99);
    const { call } = await scene({ handlers: server.handlers, client: policy });
    await call("unary");
    expect(server.calls()).toBe(4);
    await call("serverStream");
    expect(server.calls()).toBe(5);
  });

  it("hedge a method that is known to be idempotent", async () => {
    const { policy } = policiesFromServiceConfig({
      methodConfig: [{ name: [{}], hedgingPolicy: { maxAttempts: 2, hedgingDelay: "0.08s" } }],
      retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
    });
    let seen = 0;
    const { call, clock } = await scene({
      client: { ...policy, idempotency: methodRegistry({ [path.unary]: "idempotent" }) },
      handlers: handlers((_call, answer) => {
        seen += 1;
        if (seen === 2) answer();
      }),
    });
    const beganMs = clock.now();
    expect((await call("unary")).code).toBe(Status.OK);
    expect(clock.now() - beganMs).toBe(80);
  });

  it("give the most specific entry's timeout, in its full length", async () => {
    const { policy } = policiesFromServiceConfig({
      methodConfig: [
        { name: [{}], timeout: "5s" },
        { name: [{ service }], timeout: "0.05s" },
        { name: [{ service, method: "Unary" }] },
      ],
    });
    const { call, start, link, clock } = await scene({
      client: policy,
      // Never answers.
      handlers: handlers(() => {}),
    });
    const beganMs = clock.now();
    expect((await call("bidiStream")).code).toBe(Status.DEADLINE_EXCEEDED);
    expect(clock.now() - beganMs).toBe(50);
    const running = start("unary");
    await link.pass(3_600_000);
    // Counted on both sides: it runs on, without the service's 50 ms or the default's 5 s.
    expect(link.inFlight()).toBe(2);
    running.cancel();
    expect((await link.until(running.ended)).code).toBe(Status.CANCELLED);
  });
});

describe("a warning is given", () => {
  const at = "serviceConfig.methodConfig[0]";

  it.each([
    [
      "more than 5 attempts",
      { maxAttempts: 9 },
      { maxAttempts: 5 },
      ".maxAttempts is 9, taken as 5",
    ],
    [
      "a first wait above the longest, which gRPC cuts",
      { initialBackoff: "3s", maxBackoff: "2s" },
      { backoff: { ...retry.backoff, baseMs: 2_000, maxMs: 2_000 } },
      ".initialBackoff is above maxBackoff, taken as 2000 ms",
    ],
    [
      "waits that shrink",
      { backoffMultiplier: 0.5 },
      { backoff: { ...retry.backoff, multiplier: 1 } },
      ".backoffMultiplier is 0.5, taken as 1",
    ],
    [
      "waits that explode",
      { backoffMultiplier: 1_000 },
      { backoff: { ...retry.backoff, multiplier: 100 } },
      ".backoffMultiplier is 1000, taken as 100",
    ],
    [
      "a wait of a month",
      { maxBackoff: "2592000s" },
      { backoff: { ...retry.backoff, maxMs: maxDurationMs } },
      `.maxBackoff is 2592000000 ms, taken as ${maxDurationMs} ms`,
    ],
    [
      "codes that say nothing of what ran",
      { retryableStatusCodes: ["Aborted", 14] },
      { codes: [10, 14] },
      ".retryableStatusCodes other codes than UNAVAILABLE are retried only for methods known to be idempotent",
    ],
    [
      "a field that is not known",
      { perAttemptRecvTimeout: "1s" },
      {},
      ".perAttemptRecvTimeout is not known, and ignored",
    ],
  ])("for %s in a retryPolicy", (_what, given, expected, warning) => {
    const { retry: made, warnings } = imported({ retryPolicy: { ...retryPolicy, ...given } });
    expect(made).toEqual({ ...retry, ...expected });
    expect(warnings).toEqual([expect.stringContaining(`${at}.retryPolicy${warning}`)]);
  });

  it.each([
    ["0s", 1, "0 ms"],
    ["0.0005s", 1, "0.5 ms"],
    ["31536000s", maxDurationMs, "31536000000 ms"],
  ])("for the timeout %s", (timeout, defaultMs, wanted) => {
    const { deadline, warnings } = imported({ timeout });
    expect(deadline).toEqual({ defaultMs });
    expect(warnings).toEqual([`${at}.timeout is ${wanted}, taken as ${defaultMs} ms`]);
  });

  it.each([
    ["maxRequestMessageBytes", 100, "grpc.max_send_message_length"],
    ["maxResponseMessageBytes", "100", "grpc.max_receive_message_length"],
    ["tiemout", "1s", "is not known, and ignored"],
  ])("for %s, which no policy has", (field, value, text) => {
    const { warnings } = imported({ [field]: value });
    expect(warnings).toEqual([expect.stringMatching(new RegExp(`\\.${field} `))]);
    expect(warnings[0]).toContain(text);
  });

  it("for RESOURCE_EXHAUSTED, which is retried where the server says when", () => {
    const codes = { retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"] };
    const { warnings } = imported({ retryPolicy: { ...retryPolicy, ...codes } });
    expect(warnings).toEqual([
      expect.stringContaining("other codes than UNAVAILABLE are retried only for methods"),
      `${at}.retryPolicy.retryableStatusCodes RESOURCE_EXHAUSTED is retried only where the server says when, by pushback or RetryInfo`,
    ]);
  });

  it.each([
    ["retries", { retryPolicy }],
    ["hedges", { hedgingPolicy: { maxAttempts: 2 } }],
  ])("for %s without throttling, which have the default budget", (_, entry) => {
    expect(policiesFromServiceConfig(oneEntry(entry)).warnings).toContain(withoutBudget);
    expect(policiesFromServiceConfig(oneEntry({ timeout: "1s" })).warnings).toEqual([]);
    const retryThrottling = { maxTokens: 10, tokenRatio: 0.1 };
    const bounded = policiesFromServiceConfig({ ...oneEntry(entry), retryThrottling });
    expect(bounded.warnings).not.toContain(withoutBudget);
  });

  it("for none of waitForReady and null", () => {
    expect(imported({ waitForReady: true, maxRequestMessageBytes: null }).warnings).toEqual([]);
  });

  it("for what is the channel's, what is not known, and an entry for no method", () => {
    const { policy, warnings } = policiesFromServiceConfig({
      loadBalancingConfig: [{ round_robin: {} }],
      healthCheckConfig: {},
      methodConfigs: [],
      methodConfig: [{ name: [] }, { name: [{ service: "a.B", verb: "get" }] }],
    });
    expect(policy).toEqual({ retry: false, methods: { "a.B": { retry: false } } });
    expect(warnings).toEqual([
      "serviceConfig.methodConfigs is not known, and ignored",
      expect.stringContaining("serviceConfig.loadBalancingConfig is the channel's"),
      expect.stringContaining("serviceConfig.healthCheckConfig is the channel's"),
      expect.stringContaining("serviceConfig.methodConfig[0].name is empty"),
      "serviceConfig.methodConfig[1].name[0].verb is not known, and ignored",
    ]);
  });

  it("for a hedge of too many attempts, whose delay is none where none is given", () => {
    const { hedge, warnings } = imported({ hedgingPolicy: { maxAttempts: 8 } });
    expect(hedge).toEqual({ maxAttempts: 5, delayMs: 0, nonFatalCodes: [] });
    expect(warnings).toEqual([
      expect.stringContaining(
        `${at}.hedgingPolicy is followed only for methods known to be idempotent`,
      ),
      `${at}.hedgingPolicy.maxAttempts is 8, taken as 5`,
    ]);
  });

  it("for tokens finer than thousandths", () => {
    const { policy, warnings } = policiesFromServiceConfig({
      ...oneEntry({ retryPolicy }),
      retryThrottling: { maxTokens: 10, tokenRatio: 0.0004 },
    });
    expect(policy.methods["a.B/C"]?.retry).toMatchObject({
      budget: { maxTokens: 10, tokenRatio: 0.001, ratio: false },
    });
    expect(warnings).toEqual([
      "serviceConfig.retryThrottling.tokenRatio is 0.0004, taken as 0.001",
    ]);
  });
});

describe("what is wrong is refused by its path", () => {
  const entry = "methodConfig[0]";

  it.each([
    ["{", ""],
    ["[]", ""],
    [7, ""],
    [{ methodConfig: {} }, ".methodConfig"],
    [{ methodConfig: ["a"] }, `.${entry}`],
    [{ methodConfig: [{ timeout: "1s" }] }, `.${entry}.name`],
    [{ methodConfig: [{ name: [{ service: 1 }] }] }, `.${entry}.name[0].service`],
    [{ methodConfig: [{ name: [{ service: "a/B" }] }] }, `.${entry}.name[0].service`],
    [{ methodConfig: [{ name: [{ service: "a.B", method: "C/D" }] }] }, `.${entry}.name[0].method`],
    [{ methodConfig: [{ name: [{ method: "C" }] }] }, `.${entry}.name[0].service`],
    [{ methodConfig: [{ name: [{}, { service: "" }] }] }, `.${entry}.name[1]`],
    [
      { methodConfig: [{ name: [{ service: "a.B" }] }, { name: [{ service: "a.B" }] }] },
      ".methodConfig[1].name[0]",
    ],
    [oneEntry({ timeout: "5" }), `.${entry}.timeout`],
    [oneEntry({ timeout: "-1s" }), `.${entry}.timeout`],
    [oneEntry({ timeout: 5 }), `.${entry}.timeout`],
    [oneEntry({ retryPolicy, hedgingPolicy: { maxAttempts: 2 } }), `.${entry}.hedgingPolicy`],
    [oneEntry({ hedgingPolicy: { maxAttempts: 1 } }), `.${entry}.hedgingPolicy.maxAttempts`],
    [
      oneEntry({ hedgingPolicy: { maxAttempts: 2, hedgingDelay: "soon" } }),
      `.${entry}.hedgingPolicy.hedgingDelay`,
    ],
    [
      oneEntry({ hedgingPolicy: { maxAttempts: 2, nonFatalStatusCodes: [{}] } }),
      `.${entry}.hedgingPolicy.nonFatalStatusCodes[0]`,
    ],
    [{ retryThrottling: { maxTokens: 1_001, tokenRatio: 1 } }, ".retryThrottling.maxTokens"],
    [{ retryThrottling: { maxTokens: 0, tokenRatio: 1 } }, ".retryThrottling.maxTokens"],
    [{ retryThrottling: { maxTokens: 10 } }, ".retryThrottling.tokenRatio"],
    [{ retryThrottling: { maxTokens: 10, tokenRatio: -1 } }, ".retryThrottling.tokenRatio"],
  ])("%j", (config, at) => {
    const read = () => policiesFromServiceConfig(config);
    expect(read).toThrow(InvalidOptionError);
    expect(read).toThrow(`serviceConfig${at} must be `);
  });

  it.each([
    [{ maxAttempts: 1 }, "maxAttempts"],
    [{ maxAttempts: 2.5 }, "maxAttempts"],
    [{ maxAttempts: "4" }, "maxAttempts"],
    [{ initialBackoff: "0s" }, "initialBackoff"],
    [{ initialBackoff: undefined }, "initialBackoff"],
    [{ maxBackoff: "0.000s" }, "maxBackoff"],
    [{ backoffMultiplier: 0 }, "backoffMultiplier"],
    [{ backoffMultiplier: "2" }, "backoffMultiplier"],
    [{ retryableStatusCodes: [] }, "retryableStatusCodes"],
    [{ retryableStatusCodes: undefined }, "retryableStatusCodes"],
    [{ retryableStatusCodes: ["UNAVAILABLE", "OK"] }, "retryableStatusCodes[1]"],
    [{ retryableStatusCodes: [0] }, "retryableStatusCodes[0]"],
    [{ retryableStatusCodes: [17] }, "retryableStatusCodes[0]"],
    [{ retryableStatusCodes: ["TEAPOT"] }, "retryableStatusCodes[0]"],
    [{ retryableStatusCodes: ["14"] }, "retryableStatusCodes[0]"],
  ])("a retryPolicy with %j", (given, at) => {
    const read = () => imported({ retryPolicy: { ...retryPolicy, ...given } });
    expect(read).toThrow(`serviceConfig.${entry}.retryPolicy.${at} must be `);
  });
});

describe("a protobuf duration", () => {
  it.each([
    ["0s", 0],
    ["1s", 1_000],
    ["0.05s", 50],
    ["0.5s", 500],
    ["1.000001s", 1_000.001],
    ["0.050000000s", 50],
    [{ seconds: 1, nanos: 5_000_000 }, 1_005],
    [{ seconds: "2" }, 2_000],
    [{ nanos: 1 }, 0.000_001],
    [{}, 0],
  ])("%j is so many milliseconds: %d", (value, ms) => {
    expect(protoDurationMs("d", value)).toBeCloseTo(ms, 9);
  });

  it.each([
    "",
    "s",
    "1",
    ".5s",
    "1.s",
    "-1s",
    "1e3s",
    " 1s",
    "1.0000000001s",
    "315576000001s",
    "1ms",
    { seconds: -1 },
    { seconds: 0.5 },
    { nanos: -1 },
    { nanos: 1_000_000_000 },
    { seconds: "x" },
    5,
    null,
    [],
    undefined,
  ])("is not %j", (value) => {
    expect(() => protoDurationMs("d", value)).toThrow(/^d must be a duration/);
  });
});

describe("a service config in the channel options", () => {
  const channel = (entry: object) => ({ "grpc.service_config": JSON.stringify(oneEntry(entry)) });
  const hedgingPolicy = { maxAttempts: 2 };

  it.each([
    ["retries beside the defaults", { retryPolicy }, {}],
    ["hedges beside the defaults", { hedgingPolicy }, {}],
    [
      "retries what the method's own policy retries",
      { retryPolicy },
      { retry: false, methods: { "/a.B/C": { retry: {} } } },
    ],
    [
      "retries what the service's own policy hedges",
      { retryPolicy },
      { retry: false, methods: { "a.B": { hedge: { delayMs: 5 } } } },
    ],
    [
      "retries a service of which one method is retried",
      { name: [{ service: "a.B" }], retryPolicy },
      { retry: false, methods: { "a.B/D": { retry: {} } } },
    ],
    [
      "retries all, of which one method is hedged",
      { name: [{}], retryPolicy },
      { retry: false, methods: { "a.B/D": { hedge: {} } } },
    ],
  ] as const)("is in conflict when it %s", (_what, entry, policy) => {
    const conflicts = serviceConfigConflicts(channel(entry), policy);
    const kind = "retryPolicy" in entry ? "retryPolicy" : "hedgingPolicy";
    expect(conflicts).toEqual([
      expect.stringContaining(`grpc.service_config has methodConfig[0].${kind}`),
    ]);
  });

  it.each([
    ["retries what nobody else does", { retryPolicy }, { retry: false }],
    [
      "retries what is left out by name",
      { retryPolicy },
      { methods: { "a.B/C": { retry: false } } },
    ],
    [
      "retries what is left out with its service",
      { retryPolicy },
      { methods: { "a.B": { retry: false } } },
    ],
    ["retries what is tried once", { retryPolicy }, { retry: { maxAttempts: 1 } }],
    [
      "retries a service whose neighbour is retried",
      { name: [{ service: "a.B" }], retryPolicy },
      { retry: false, methods: { "a.BB/C": { retry: {} } } },
    ],
    ["only has a timeout", { timeout: "1s" }, {}],
    ["is for no method", { name: [], retryPolicy }, {}],
  ] as const)("is in no conflict when it %s", (_what, entry, policy) => {
    expect(serviceConfigConflicts(channel(entry), policy)).toEqual([]);
  });

  it.each([
    undefined,
    "{",
    "7",
    "null",
    '{"methodConfig":7}',
    '{"methodConfig":[null,{"name":7,"retryPolicy":{}}]}',
  ])("is left to grpc-js when it is %j", (text) => {
    const options = text === undefined ? {} : { "grpc.service_config": text };
    expect(serviceConfigConflicts(options)).toEqual([]);
  });

  it("retries nothing where enable_retries is 0, which is a conflict of its own", () => {
    const options = { ...channel({ retryPolicy }), "grpc.enable_retries": 0 };
    expect(serviceConfigConflicts(options)).toEqual([
      expect.stringContaining("transparent retries"),
    ]);
    expect(serviceConfigConflicts({ "grpc.enable_retries": 1 })).toEqual([]);
  });
});

describe("waitForReady", () => {
  const name = [{ service: "weir.v1.ConformanceService" }];

  it("makes calls wait for a connection, and a more specific entry takes it back", () => {
    const { policy } = policiesFromServiceConfig({
      methodConfig: [
        { name, waitForReady: true },
        { name: [{ service: "weir.v1.ConformanceService", method: "Unary" }] },
      ],
    });
    expect(policy.methods).toMatchObject({
      "weir.v1.ConformanceService": { waitForReady: true },
      "weir.v1.ConformanceService/Unary": { waitForReady: false },
    });
  });

  it.each(kinds)("lets a %s go through once the server is there", async (method) => {
    const { policy } = policiesFromServiceConfig({ methodConfig: [{ name, waitForReady: true }] });
    const { start, link, transport } = await scene({ client: policy });
    transport.server.crash();
    const metadata = new Metadata();
    const running = start(method, {}, metadata);
    await link.pass(50);
    transport.server.start();
    expect((await link.until(running.ended, 60_000)).code).toBe(Status.OK);
    expect(metadata.getOptions()).toEqual({});
  });

  it("is refused where it is neither true nor false", () => {
    const config = { methodConfig: [{ name, waitForReady: "yes" }] };
    expect(() => policiesFromServiceConfig(config)).toThrow(
      "serviceConfig.methodConfig[0].waitForReady must be true or false",
    );
  });
});
