import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { problemText } from "../../src/config/document.js";
import { findingsIn } from "../../src/config/findings.js";
import { type LintRule, type LintSurroundings, lintRules } from "../../src/config/lints.js";
import { methodRegistry } from "../../src/policies/idempotency/client-registry.js";

const registry = methodRegistry({
  fullName: "a.B",
  methods: {
    get: { name: "Get", options: { idempotencyLevel: "IDEMPOTENT" } },
    put: { name: "Put", options: {} },
  },
});

const serviceConfig = {
  methodConfig: [{ name: [{ service: "a.B" }], retryPolicy: { maxAttempts: 4 } }],
};

/** The rules and lines of what is found. */
function found(text: string, around: LintSurroundings = {}): string[] {
  return findingsIn(text, "p.yaml", around).map(
    ({ severity, rule = "", line, path }) => `${severity} ${rule} ${line} ${path}`,
  );
}

interface Case {
  readonly rule: LintRule;
  readonly unwise: string;
  readonly at: string;
  readonly wise: string;
  readonly around?: LintSurroundings;
}

const cases: readonly Case[] = [
  {
    rule: "backoff-exceeds-deadline",
    unwise:
      "client:\n  deadline: { default: 1s }\n  retry:\n    maxAttempts: 4\n    backoff: { base: 0.2s }",
    at: "5 client.retry.backoff",
    wise: "client:\n  deadline: { default: 2s }\n  retry:\n    maxAttempts: 4\n    backoff: { base: 0.2s }",
  },
  {
    rule: "attempts-exceed-deadline",
    unwise:
      "client: { deadline: { default: 2s } }\nmethods:\n  - name: a.B/Get\n    timeouts: { attempt: 0.8s }",
    at: "4 methods[0].timeouts.attempt",
    wise: "client: { deadline: { default: 2s } }\nmethods:\n  - name: a.B/Get\n    timeouts: { attempt: 0.6s }",
  },
  {
    rule: "breaker-outlasts-deadline",
    unwise: "client:\n  deadline: { default: 2s }\n  breaker: { open: 1s }",
    at: "3 client.breaker.open",
    wise: "client:\n  deadline: { default: 2s }\n  breaker: { open: 1s, maxOpen: 2s }",
  },
  {
    rule: "idempotent-for-all",
    unwise: "client:\n  retry: { idempotent: true }",
    at: "2 client.retry.idempotent",
    wise: "methods:\n  - name: a.B/*\n    retry: { idempotent: true }",
  },
  {
    rule: "idempotent-against-schema",
    unwise: "methods:\n  - name: a.B/Put\n    retry: { idempotent: true }",
    at: "3 methods[0].retry.idempotent",
    wise: "methods:\n  - name: a.B/Get\n    retry: { idempotent: true }",
    around: { registry },
  },
  {
    rule: "hedge-never-made",
    unwise:
      "methods:\n  - name: a.B/*\n    hedge: { delay: 0.1s }\n  - name: a.B/Put\n    retry: { idempotent: false }",
    at: "3 methods[0].hedge",
    wise: "methods:\n  - name: a.B/*\n    hedge: { delay: 0.1s }\n  - name: a.B/Put\n    hedgeOff: true\n    retry: { idempotent: false }",
  },
  {
    rule: "retry-without-idempotency",
    unwise: "methods:\n  - name: a.B/Put\n    retry: { codes: [UNAVAILABLE, INTERNAL] }",
    at: "3 methods[0].retry.codes",
    wise: "methods:\n  - name: a.B/Get\n    retry: { codes: [UNAVAILABLE, INTERNAL] }\n  - name: a.B/Put\n    retry: { codes: [INTERNAL] }\n    idempotencyKey: {}",
    around: { registry },
  },
  {
    rule: "attempts-multiply",
    unwise: "client:\n  retry: { maxAttempts: 4, maxDepth: 2 }",
    at: "2 client.retry.maxDepth",
    wise: "client:\n  retry: { maxAttempts: 4, maxDepth: 1 }",
  },
  {
    rule: "timeout-exceeds-parent",
    unwise: "client:\n  deadline: { default: 1s }\n  bulkhead: { maxWait: 1s }",
    at: "3 client.bulkhead.maxWait",
    wise: "client:\n  deadline: { default: 1s }\n  bulkhead: { maxWait: 0.3s }",
  },
  {
    rule: "threshold-never-acts",
    unwise: "client:\n  timeouts: { attempt: 0.5s }\n  breaker: { slow: 0.5s }",
    at: "3 client.breaker.slow",
    wise: "client:\n  timeouts: { attempt: 0.5s }\n  breaker: { slow: 0.3s }",
  },
  {
    rule: "service-config-retries",
    unwise:
      "methods:\n  - name: a.B/Get\n    retry: { maxAttempts: 3 }\nclient: { retryOff: true }",
    at: "3 methods[0].retry.maxAttempts",
    wise: "methods:\n  - name: a.C/Get\n    retry: { maxAttempts: 3 }\nclient: { retryOff: true }",
    around: { serviceConfig },
  },
  {
    rule: "unknown-method",
    unwise: "methods:\n  - name: a.B/Gett\n    retryOff: true",
    at: "2 methods[0]",
    wise: "methods:\n  - name: a.B/Get\n    retryOff: true\n  - name: other.Service/Get\n    retryOff: true",
    around: { registry },
  },
];

describe("a lint", () => {
  it.each(cases)("finds $rule, where it is written", ({ rule, unwise, at, around }) => {
    const severity = rule === "unknown-method" ? "error" : "warning";
    expect(found(unwise, around)).toEqual([`${severity} ${rule} ${at}`]);
  });

  it.each(cases)("finds no $rule where there is none", ({ wise, around }) => {
    expect(found(wise, around)).toEqual([]);
  });

  it.each(lintRules)(
    "is found in the first example of its section, and not in the second: %s",
    (rule) => {
      const page = readFileSync(new URL("../../docs/lints.md", import.meta.url), "utf8");
      const [, section = ""] = page.split(`## ${rule}\n`);
      const [ofRule = ""] = section.split("\n## ");
      const [bad = "", good = ""] = [...ofRule.matchAll(/```yaml\n([^`]+)```/g)].map(
        ([, code]) => code,
      );
      const shop = methodRegistry({
        fullName: "shop.v1.Stock",
        methods: {
          get: { name: "Get", options: { idempotencyLevel: "NO_SIDE_EFFECTS" } },
          reserve: { name: "Reserve", options: {} },
        },
      });
      const inService = [{ name: [{ service: "shop.v1.Stock" }], retryPolicy: { maxAttempts: 4 } }];
      const around = {
        registry: shop,
        ...(rule === "service-config-retries"
          ? { serviceConfig: { methodConfig: inService } }
          : {}),
      };
      const rulesIn = (text: string) =>
        findingsIn(text, "p.yaml", around).map(({ rule: found = "" }) => found);
      expect(rulesIn(bad)).toEqual([rule]);
      expect([good.trim() === "", rulesIn(good)]).toEqual([false, []]);
    },
  );

  it.each(lintRules)("is tested, and has a section in the documentation: %s", (rule) => {
    const page = readFileSync(new URL("../../docs/lints.md", import.meta.url), "utf8");

    expect(cases.map((each) => each.rule)).toContain(rule);
    expect(page).toContain(`## ${rule}\n`);
  });

  it.each([
    [
      "guards:\n  - name: db\n    timeouts: { total: 1s }\n    bulkhead: { maxWait: 2s }",
      "timeout-exceeds-parent 4 guards[0].bulkhead.maxWait",
    ],
    [
      "guards:\n  - name: db\n    timeouts: { attempt: 1s }\n    breaker: { inFlight: 1s }",
      "threshold-never-acts 4 guards[0].breaker.inFlight",
    ],
    [
      "guards:\n  - name: db\n    retry: { maxDepth: 3 }",
      "attempts-multiply 3 guards[0].retry.maxDepth",
    ],
    [
      "client:\n  retryOff: true\n  timeouts: { attempt: 2s }\n  deadline: { default: 1s }",
      "timeout-exceeds-parent 3 client.timeouts.attempt",
    ],
    [
      "client:\n  deadline: { default: 5s }\n  fallback: { staleCache: { shared: true, timeout: 5s } }",
      "timeout-exceeds-parent 3 client.fallback.staleCache.timeout",
    ],
    [
      "server:\n  admission: { limit: 3, maxQueued: 0, thresholds: { low: 0.7, normal: 1, high: 1 } }",
      "threshold-never-acts 2 server.admission.thresholds.low",
    ],
    [
      "client:\n  deadline: { default: 1s }\nmethods:\n  - name: a.B/Get\n    hedge: { delay: 1s }",
      "timeout-exceeds-parent 5 methods[0].hedge.delay",
    ],
    [
      "client:\n  deadline: { default: 1s }\n  bulkhead: { streams: { maxWait: 1s } }",
      "timeout-exceeds-parent 3 client.bulkhead.streams.maxWait",
    ],
    [
      "server:\n  admission: { queue: { maxAge: 0.1s } }",
      "threshold-never-acts 2 server.admission.queue.maxAge",
    ],
    [
      "server:\n  admission: { queue: { order: fifo, target: 0.1s } }",
      "threshold-never-acts 2 server.admission.queue.target",
    ],
    [
      "server:\n  brownout: { optional: { pictures: { skipAbovePressure: 1 } } }",
      "threshold-never-acts 2 server.brownout.optional.pictures.skipAbovePressure",
    ],
    [
      "client:\n  retry: { idempotent: false, codes: [ABORTED] }",
      "retry-without-idempotency 2 client.retry.codes",
    ],
  ])("reaches guards, servers and what is nested: %j", (text, at) => {
    expect(found(text)).toEqual([`warning ${at}`]);
  });

  it.each([
    "guards:\n  - name: db\n    timeouts: { total: 1s }\n    bulkhead: { maxWait: 0.5s }\n    breaker: { slow: 0.9s }",
    "server:\n  admission: { limit: 4, maxQueued: 0, thresholds: { low: 0.7, normal: 0.75, high: 1 } }",
    "server:\n  admission: { thresholds: { low: 0.99, normal: 0.99, high: 1 } }",
    "client:\n  breaker: { slow: 60s }\n  bulkhead: { maxWait: 60s }",
    "client:\n  retry: { codes: [UNAVAILABLE, RESOURCE_EXHAUSTED, INTERNAL] }",
    "client:\n  retry: { maxAttempts: 1, maxDepth: 2 }",
    "client:\n  deadline: { default: 1s }\nmethods:\n  - name: a.B/Get\n    hedge: { delay: 0.1s }",
    "server:\n  admission: { queue: { overflow: age-out, maxAge: 0.1s } }",
    "server:\n  admission: { queue: { order: adaptive-lifo, target: 0.01s } }",
  ])("finds nothing in what may act: %j", (text) => {
    expect(found(text)).toEqual([]);
  });

  it("multiplies hedges by the attempts of the service config, and no single attempt", () => {
    const hedged =
      "client: { retryOff: true }\nmethods:\n  - name: a.B/Get\n    hedge: { delay: 0.1s, maxAttempts: 3 }";
    const single = "client: { retry: { maxAttempts: 1 } }";

    expect(findingsIn(hedged, "p.yaml", { serviceConfig }).map(problemText)).toEqual([
      "p.yaml:4:27 methods[0].hedge.maxAttempts a.B/Get: the service config makes up to 4 attempts of a.B, and the policy 3: together 12",
    ]);
    expect(found(single, { serviceConfig })).toEqual([]);
  });

  it("finds a hedge that no schema and no key allows, and none that one allows", () => {
    const hedged = (method: string, more = "") =>
      `methods:\n  - name: a.B/${method}\n    hedge: { delay: 0.1s }${more}`;
    expect(found(hedged("Put"), { registry })).toEqual([
      "warning hedge-never-made 3 methods[0].hedge",
    ]);
    expect(found(hedged("Put"))).toEqual([]);
    expect(found(hedged("Get"), { registry })).toEqual([]);
    expect(found(hedged("Put", "\n    idempotencyKey: {}"), { registry })).toEqual([]);
  });

  it("takes a client for one that retries in vain only where every known method runs once", () => {
    const text = "client: { retry: { codes: [INTERNAL] } }";
    const puts = methodRegistry({
      fullName: "a.C",
      methods: { put: { name: "Put", options: {} } },
    });
    expect(found(text, { registry })).toEqual([]);
    expect(found(text, { registry: puts })).toEqual([
      "warning retry-without-idempotency 1 client.retry.codes",
    ]);
  });

  it("says which method or service was probably meant, of clients and of servers", () => {
    const text = `methods:
  - name: a.B/Puut
    retryOff: true
  - name: a.Bee/*
    retryOff: true
server:
  priority:
    methodDefaults: { a.B/Gte: low }`;

    expect(findingsIn(text, "p.yaml", { registry }).map(problemText)).toEqual([
      "p.yaml:2:5 methods[0] a.B/Puut: no such method; a.B has Get, Put (did you mean Put?)",
      "p.yaml:4:5 methods[1] a.Bee: the schemas have no such service (did you mean a.B?)",
      'p.yaml:8:23 server.priority.methodDefaults["a.B/Gte"] a.B/Gte: no such method; a.B has Get, Put (did you mean Get?)',
    ]);
  });

  it.each(readdirSync(new URL("../../examples/configuration/", import.meta.url)))(
    "finds nothing in the documents of the examples: %s",
    (name) => {
      if (!name.endsWith(".yaml")) return expect(name).toMatch(/\.(ts|md)$/);
      const file = new URL(`../../examples/configuration/${name}`, import.meta.url);
      return expect(found(readFileSync(file, "utf8"))).toEqual([]);
    },
  );

  it("finds nothing in the documents of the other pages", () => {
    const docs = new URL("../../docs/", import.meta.url);
    const documents = readdirSync(docs)
      .filter((name) => name.endsWith(".md") && name !== "lints.md")
      .flatMap((name) =>
        [...readFileSync(new URL(name, docs), "utf8").matchAll(/```yaml\n([^`]+)```/g)].map(
          ([, text = ""]) => ({ name, text }),
        ),
      )
      .filter(({ text }) => /^(client|methods|server|guards):/m.test(text));

    expect(documents.map(({ name }) => name)).toContain("configuration.md");
    expect(documents.flatMap(({ text }) => found(text))).toEqual([]);
  });

  it.each(cases)(
    "of $rule is taken away by a comment behind its line",
    ({ rule, unwise, at, around }) => {
      const lines = unwise.split("\n");
      const line = Number(at.split(" ")[0]) - 1;
      lines[line] += ` # weir-ignore: ${rule} it is meant to be so`;

      expect(found(lines.join("\n"), around)).toEqual([]);
    },
  );

  it("is told once for all methods that inherit it", () => {
    const text =
      "client:\n  deadline: { default: 2s }\n  breaker: { open: 1s }\nmethods:\n  - name: a.B/*\n    throttle: {}";

    expect(found(text)).toEqual(["warning breaker-outlasts-deadline 3 client.breaker.open"]);
  });

  it("is not looked for where a document is refused", () => {
    expect(found("client:\n  retry: { idempotent: true, maxAttempts: 0 }")).toEqual([
      "error  2 client.retry.maxAttempts",
    ]);
  });
});

describe("a comment that takes a warning away", () => {
  const text = (above: string, behind: string) =>
    `client:\n${above}  retry: { idempotent: true }${behind}`;

  it("stands behind the line, or alone above it, with a reason", () => {
    expect(found(text("", " # weir-ignore: idempotent-for-all all methods only read"))).toEqual([]);
    expect(found(text("  # weir-ignore: idempotent-for-all all only read\n", ""))).toEqual([]);
  });

  it("is wrong without a reason, and for a rule that does not exist", () => {
    expect(found(text("", " # weir-ignore: idempotent-for-all"))).toEqual([
      "warning idempotent-for-all 2 client.retry.idempotent",
      "error weir-ignore 2 ",
    ]);
    const [, wrong] = findingsIn(
      text("", " # weir-ignore: idempotent-for-al they read"),
      "p.yaml",
      {},
    );
    expect(wrong).toMatchObject({ severity: "error", suggestion: "idempotent-for-all" });
  });

  it("is told of where it takes nothing away", () => {
    expect(found("client: {} # weir-ignore: idempotent-for-all they read")).toEqual([
      "warning weir-ignore 1 ",
    ]);
  });
});
