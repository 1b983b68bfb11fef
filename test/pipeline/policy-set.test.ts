import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { clientSettings } from "../../src/pipeline/policy-explanation.js";
import { layClient, layOver, layServer, type PolicySet } from "../../src/pipeline/policy-set.js";
import { PolicyUpdates } from "../../src/pipeline/policy-updates.js";

type Options = Readonly<Record<string, unknown>>;

const method = "a.B/C";
const service = "a.B";

function dataOf(client: Options, methods: Readonly<Record<string, Options>> = {}): PolicySet {
  return { client, methods, server: {}, guards: {}, placeOf: (option) => option };
}

/** What a client makes of options for a method: the service over the client, the method over both. */
function inForce({
  methods = {},
  ...client
}: {
  readonly methods?: Record<string, Options>;
}): Options {
  return [service, method].reduce(
    (laid: Options, name) => layOver(laid, methods[name] ?? methods[`/${name}`] ?? {}),
    client,
  );
}

describe("options of the code over those of data", () => {
  it.each<[string, PolicySet, Options, Options]>([
    [
      "are joined option by option",
      dataOf({ retry: { maxAttempts: 2, maxDepth: 2 } }),
      { retry: { maxAttempts: 3 } },
      { retry: { maxAttempts: 3, maxDepth: 2 } },
    ],
    ["keep what the code leaves out", dataOf({ retry: {} }), { retry: false }, { retry: false }],
    [
      "turn on what the data leaves out",
      dataOf({ breaker: false }),
      { breaker: {} },
      { breaker: {} },
    ],
    [
      "count as absent where they are undefined",
      dataOf({ retry: { maxAttempts: 2 } }),
      { retry: { maxAttempts: undefined }, breaker: undefined },
      { retry: { maxAttempts: 2 } },
    ],
    [
      "win for all methods",
      dataOf({}, { [method]: { retry: { maxAttempts: 2, maxDepth: 2 } } }),
      { retry: { maxAttempts: 3 } },
      { retry: { maxAttempts: 3, maxDepth: 2 } },
    ],
    [
      "win for the methods of a service",
      dataOf({}, { [method]: { retry: false } }),
      { methods: { [service]: { retry: {} } } },
      { retry: {} },
    ],
    [
      "win under a name with a slash in front",
      dataOf({}, { [method]: { throttle: { k: 2 } } }),
      { methods: { [`/${method}`]: { throttle: { k: 3 } } } },
      { throttle: { k: 3 } },
    ],
  ])("%s", (_what, data, code, expected) => {
    expect(inForce(layClient(data, code))).toEqual(expected);
  });

  it("may be inherited from a class", () => {
    class Retry {
      get maxAttempts() {
        return 3;
      }
    }
    const laid = layClient(dataOf({ retry: { maxDepth: 2 } }), { retry: new Retry() });

    expect(laid).toEqual({ retry: { maxAttempts: 3, maxDepth: 2 } });
  });

  it("are what an explanation says, wherever they stand", () => {
    const its = fc.option(
      fc.oneof(
        fc.constant(false),
        fc.record({ maxAttempts: fc.nat(9), maxDepth: fc.nat(9) }, { requiredKeys: [] }),
      ),
      { nil: undefined },
    );
    const entry = its.map((retry): Options => (retry === undefined ? {} : { retry }));
    fc.assert(
      fc.property(fc.array(entry, { minLength: 8, maxLength: 8 }), (all) => {
        const [ofClient = {}, ofService = {}, ofMethod = {}, client, ...more] = all;
        const [inService = {}, inMethod = {}, schemaService = {}, schemaMethod = {}] = more;
        const schema = dataOf({}, { [service]: schemaService, [method]: schemaMethod });
        const data = dataOf(ofClient, { [service]: ofService, [method]: ofMethod });
        const code = { ...client, methods: { [service]: inService, [method]: inMethod } };
        const { retry = {} } = inForce(layClient(schema, layClient(data, code)));
        const around = { data, schema, updates: PolicyUpdates.none, modes: undefined };
        const told = clientSettings(method, code, around, false).filter(({ option }) =>
          option.startsWith("retry"),
        );
        const byOption = Object.fromEntries(told.map(({ option, value }) => [option, value]));

        if (retry === false) expect(byOption).toEqual({ retry: false });
        else {
          const named = Object.entries(retry as Options).map(([name, value]) => [
            `retry.${name}`,
            value,
          ]);
          expect(byOption).toEqual(
            named.length === 0 ? { retry: "on" } : Object.fromEntries(named),
          );
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("what a schema says to a server", () => {
  const schema: PolicySet = {
    ...dataOf({}),
    server: {
      priority: { methodDefaults: { [method]: "high", [service]: "low" } },
      idempotency: { methods: { [method]: { key: "optional" } } },
    },
  };

  it("is added to what the server has, which wins", () => {
    const priority = { key: "tier", methodDefaults: { [`/${method}`]: "critical" } };

    expect(layServer(schema, { priority })).toEqual({
      priority: { key: "tier", methodDefaults: { [method]: "critical", [service]: "low" } },
    });
    expect(layServer(schema, {})).toEqual({
      priority: { methodDefaults: { [method]: "high", [service]: "low" } },
    });
    expect(layServer(dataOf({}), { priority })).toEqual({ priority });
  });

  it("stands beside the priorities of admission, where those are", () => {
    const admission = { limit: 3, priority: { default: "low" } };
    const { priority } = schema.server as { priority: Options };

    expect(layServer(schema, { admission })).toEqual({
      admission: { limit: 3, priority: { default: "low", ...priority } },
    });
    expect(layServer(schema, { admission: { limit: 3 } })).toEqual({
      admission: { limit: 3 },
      priority,
    });
  });

  it("names methods with keys only to a server that has the policy", () => {
    const scope = "shared";

    expect(layServer(schema, { idempotency: false })).toMatchObject({ idempotency: false });
    expect(
      layServer(schema, {
        idempotency: { scope, methods: { "a.B/D": {}, [method]: { ttlMs: 9 } } },
      }),
    ).toMatchObject({
      idempotency: { scope, methods: { "a.B/D": {}, [method]: { key: "optional", ttlMs: 9 } } },
    });
  });
});
