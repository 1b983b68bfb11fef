import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import { prioritized } from "../../src/grpc/context/ambient-priority.js";
import { methodRegistry } from "../../src/policies/idempotency/client-registry.js";
import { createWeir } from "../../src/weir.js";

function textOf(build: () => unknown): string {
  try {
    build();
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidOptionError);
    return error instanceof Error ? error.message : "";
  }
  throw new Error("it was accepted");
}

const client = (policy: object) => textOf(() => createWeir().client(policy));
const server = (policy: object) => textOf(() => createWeir().server(policy));

describe("the text about an option", () => {
  it("that is unknown lists those that there are", () => {
    expect(client({ circuit: {} })).toMatch(
      /^client\.circuit is not an option; the options are priority, deadline, waitForReady, .*, parts$/,
    );
    expect(client({ retries: {} })).toMatch(
      /^client\.retries is not an option; did you mean retry\? The options are priority, deadline, .*, parts$/,
    );
    expect(client({ retry: { attempts: 3 } })).toMatch(
      /^client\.retry\.attempts is not an option; the options are maxAttempts, /,
    );
  });

  it.each(["deadlineGuard", "requestMs", "quota", "admission", "relay", "brownout"])(
    "%s of a server, given to a client, says where it belongs",
    (name) => {
      const text = `${name} is not an option here, but one of weir.server(); the options are`;
      expect(client({ [name]: {} })).toContain(`client.${text}`);
      expect(client({ methods: { "a.B/C": { [name]: {} } } })).toContain(
        `client.methods["a.B/C"].${text}`,
      );
    },
  );

  it("says of the priority options of a server, given to a client, where they belong", () => {
    expect(client({ priority: { default: "low" } })).toContain(
      "client.priority must be one of critical, high, normal, low; how priorities are read is an option of weir.server()",
    );
  });

  it.each(["retry", "breaker", "deadline", "timeouts", "fallback", "methods", "parts", "resets"])(
    "%s of a client, given to a server, says where it belongs",
    (name) => {
      expect(server({ [name]: {} })).toContain(
        `server.${name} is not an option here, but one of weir.client(); the options are`,
      );
    },
  );

  it.each(["parts", "idempotency", "resets", "methods"])(
    "%s of a client, given to a method, says where it belongs",
    (name) => {
      expect(client({ methods: { "a.B/C": { [name]: [] } } })).toContain(
        `client.methods["a.B/C"].${name} is not an option here, but one of the whole client;`,
      );
    },
  );

  it.each<[string, string]>([
    ["client.breaker must be an object of options, or false, got true", client({ breaker: true })],
    ["client.resets must be an object of options, or false, got 5", client({ resets: 5 })],
    ["client.deadline must be an object of options, got false", client({ deadline: false })],
    [
      "client.deadline.defaultMs must be milliseconds from 1 to 2073600000 (24 days), or false, got Infinity",
      client({ deadline: { defaultMs: Number.POSITIVE_INFINITY } }),
    ],
    [
      "client.breaker.failureRate must be a number above 0 and up to 1, or false, got 0",
      client({ breaker: { failureRate: 0 } }),
    ],
    [
      "client.retry.budget must be an object of options, or false, got 0.2",
      client({ retry: { budget: 0.2 } }),
    ],
    [
      "client.retry.budget.ratio must be a number above 0 and up to 1, or false, got 2",
      client({ retry: { budget: { ratio: 2 } } }),
    ],
    [
      "server.admission must be an object of options, or false, got true",
      server({ admission: true }),
    ],
    [
      "server.admission.pressure must be an object of options, or false, got 1",
      server({ admission: { pressure: 1 } }),
    ],
    [
      "server.requestMs must be milliseconds from 1 to 2073600000 (24 days), or false, got 0",
      server({ requestMs: 0 }),
    ],
    [
      'guard("db").retry must be an object of options, or false, got 3',
      textOf(() => createWeir().guard("db", { retry: 3 as unknown as object })),
    ],
  ])("says where false is allowed: %s", (expected, text) => {
    expect(text).toBe(expected);
  });

  it("says how a status is given where it is none", () => {
    expect(client({ retry: { codes: ["ABORT"] } })).toBe(
      'client.retry.codes[0] must be the name of a status code other than OK, such as UNAVAILABLE, or its number, got "ABORT"',
    );
    expect(client({ hedge: { delayMs: 5, nonFatalCodes: ["not at all"] } })).toContain(
      "client.hedge.nonFatalCodes[0] must be the name of a status code other than OK",
    );
  });

  it("names the argument of prioritized", () => {
    expect(textOf(() => prioritized("urgent" as "low"))).toMatch(/^prioritized\.priority must be/);
  });
});

describe("the names of methods", () => {
  it("are refused where one stands there twice, with and without a slash", () => {
    expect(client({ methods: { "a.B/C": {}, "/a.B/C": {} } })).toBe(
      'client.methods["/a.B/C"] must be given once: a.B/C is /a.B/C, got an object',
    );
    expect(server({ priority: { methods: { "/a.B/C": "low", "a.B/C": "high" } } })).toContain(
      'server.priority.methods["a.B/C"] must be given once',
    );
    expect(textOf(() => methodRegistry({ "a.B/C": "idempotent", "/a.B/C": "unknown" }))).toContain(
      'methodRegistry[0]["/a.B/C"] must be given once',
    );
  });

  it.each(["/Nope", "Nope", "a.B/", "a.B/C/D", "a b/C", "a..B/C"])(
    "have the shape of one: %s",
    (name) => {
      expect(client({ methods: { [name]: {} } })).toContain(
        "must be named pkg.Service/Method or pkg.Service",
      );
    },
  );

  it("may begin with a slash, and be of a service without a package", () => {
    const methods = { "/a.B/C": { retry: false }, "Plain/Get": { retry: false } } as const;
    expect(createWeir().client({ methods }).interceptors).toHaveLength(1);
  });
});
