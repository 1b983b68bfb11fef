import { describe, expect, it } from "vitest";
import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  methodOrService,
  oneOf,
  optionalFunction,
  ratio,
  readOptions,
  shown,
  wholeNumber,
} from "../../src/core/options.js";
import { resolveRetryOptions } from "../../src/policies/retry/options.js";
import { createWeir } from "../../src/weir.js";

function refusal(build: () => unknown): InvalidOptionError {
  try {
    build();
  } catch (error) {
    if (error instanceof InvalidOptionError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

interface Options {
  readonly max?: number;
  readonly when?: () => unknown;
}
const known = ["max", "when"];

describe("options", () => {
  it.each<[string, Options]>([
    ["of a plain object", { max: 3 }],
    [
      "of a class with getters",
      new (class {
        get max() {
          return 3;
        }
      })(),
    ],
    ["that are inherited", Object.create({ max: 3 })],
    [
      "that are inherited from what inherits nothing",
      Object.create(Object.assign(Object.create(null), { max: 3 })),
    ],
    ["of a frozen object", Object.freeze({ max: 3 })],
    ["of an object without a prototype", Object.assign(Object.create(null), { max: 3 })],
    ["that are not enumerable", Object.defineProperty({}, "max", { value: 3 })],
    ["of a proxy", new Proxy({ max: 3 }, {})],
  ])("are read where they are those %s", (_whose, given) => {
    expect(readOptions("it", given, known)).toEqual({ max: 3 });
    expect({ ...readOptions("it", given, known) }).toEqual({ max: 3 });
  });

  it("are all read where the caller checks the names, those of a getter that is not enumerable too", () => {
    const given = Object.defineProperty({ min: 1 }, "max", { get: () => 3 });
    expect(readOptions<object>("it", given)).toEqual({ min: 1, max: 3 });
  });

  it("are read once: what a getter says later, and what becomes of the object, changes nothing", () => {
    let reads = 0;
    const given = {
      get max() {
        reads += 1;
        return reads;
      },
    };
    const read = readOptions("it", given, known);
    expect([read.max, read.max, reads]).toEqual([1, 1, 1]);
    const mutable: { max: number } = { max: 1 };
    const kept = readOptions("it", mutable, known);
    mutable.max = 2;
    expect(kept.max).toBe(1);
    expect(Object.isFrozen(kept)).toBe(true);
  });

  it("that are methods of a class keep their this", () => {
    class Mine {
      readonly #answer = 5;
      when() {
        return this.#answer;
      }
    }
    expect(readOptions<Options>("it", new Mine(), known).when?.()).toBe(5);
  });

  it.each<[string, object]>([
    ["a plain object", { maximum: 3 }],
    [
      "a getter of a class",
      new (class {
        get maximum() {
          return 3;
        }
      })(),
    ],
    [
      "a method of a class",
      new (class {
        maximum() {
          return 3;
        }
      })(),
    ],
    ["defaults", Object.create({ maximum: 3 })],
  ])("are refused by name when nobody knows them, in %s too", (_where, given) => {
    expect(refusal(() => readOptions("it", given, known)).option).toBe("it.maximum");
  });

  it("that cannot be read are refused by name", () => {
    const given = {
      get max(): number {
        throw new Error("no");
      },
    };
    const error = refusal(() => readOptions("it", given, known));
    expect([error.option, error.message]).toEqual([
      "it.max",
      expect.stringContaining("it threw no"),
    ]);
    const bare = {
      get max(): number {
        throw "a text";
      },
    };
    expect(refusal(() => readOptions("it", bare, known)).message).toContain("it threw a text");
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    expect(refusal(() => readOptions("it", proxy, known)).option).toBe("it");
    expect(shown(proxy)).toBe("an object");
  });

  it("take no prototype from JSON", () => {
    const given = JSON.parse('{"__proto__": {"max": 3}}');
    expect(refusal(() => readOptions("it", given, known)).option).toBe("it.__proto__");
    expect(Object.keys(readOptions("it", given))).toEqual(["__proto__"]);
  });
});

const longestMs = 24 * 86_400_000;

describe("the value of an option", () => {
  it.each<[string, (value: never) => unknown, readonly unknown[], readonly unknown[]]>([
    [
      "milliseconds from 0 to 2073600000 (24 days)",
      (value) => durationMs("it", value),
      [0, 0.5, longestMs],
      [-0.1, longestMs + 1, NaN, Infinity, "1"],
    ],
    ["milliseconds from 5 to", (value) => durationMs("it", value, 5), [5], [4.9]],
    ["a whole number of at least 2", (value) => wholeNumber("it", value, 2), [2, 1e9], [1, 2.5]],
    [
      "a whole number from 2 to 9",
      (value) => wholeNumber("it", value, 2, 9),
      [2, 9],
      [1, 10, NaN, "3"],
    ],
    [
      "a number from 0.5 to 9",
      (value) => finiteNumber("it", value, 0.5, 9),
      [0.5, 9],
      [0.4, 9.1, NaN, "3"],
    ],
    ["a number from 0 to", (value) => finiteNumber("it", value, 0, Infinity), [1e300], [Infinity]],
    ["a number above 0 and up to 1", (value) => ratio("it", value), [0.001, 1], [0, 1.1, -1, "1"]],
    ["one of a, b", (value) => oneOf("it", value, ["a", "b"]), ["a", "b"], ["c", undefined]],
    ["a function", (value) => optionalFunction("it", value), [undefined, shown], [null, "f", {}]],
  ])("is %s, or is refused with these words", (rule, read, taken, refused) => {
    for (const value of taken) expect(read(value as never)).toBe(value);
    for (const value of refused) {
      const error = refusal(() => read(value as never));
      expect(error.option).toBe("it");
      expect(error.message).toContain(`it must be ${rule}`);
    }
  });

  it("may name a method or a service, with or without a slash in front", () => {
    expect(methodOrService("it", "/pkg.Service/Method")).toBe("pkg.Service/Method");
    expect(methodOrService("it", "pkg.v1.Service")).toBe("pkg.v1.Service");
    for (const name of ["", "Method", "/pkg.Service/", "pkg.Service/Method/more"]) {
      expect(refusal(() => methodOrService("it", name)).option).toBe("it");
    }
  });

  it.each([
    ["text", '"text"'],
    ["x".repeat(1_000), `"${"x".repeat(80)}"`],
    [5, "5"],
    [null, "null"],
    [undefined, "undefined"],
    [() => 1, "a function"],
    [[1], "an array"],
    [new Map(), "a Map"],
    [new Set(), "a Set"],
    [{ a: 1 }, "an object"],
    [new (class Mine {})(), "an object"],
  ])("is shown in an error: %o as %s", (value, text) => {
    expect(shown(value)).toBe(text);
  });
});

/** An object of which nothing is its own. */
const inherited = <O extends object>(options: O): O => Object.create(options);

describe("options that are inherited", () => {
  it("hold in every policy of a guard", async () => {
    const weir = createWeir(inherited({ random: () => 0.5 }));
    let attempts = 0;
    const guard = weir.guard(
      "db",
      inherited({
        bulkhead: inherited({ maxConcurrent: 1, maxQueued: 0 }),
        breaker: inherited({ consecutiveFailures: 2 }),
        retry: inherited({
          maxAttempts: 2,
          backoff: inherited({ baseMs: 0, maxMs: 0 }),
          budget: false as const,
        }),
      }),
    );
    const work = () => {
      attempts += 1;
      throw new Error("down");
    };
    await guard.run(work).catch(() => {});
    expect(attempts).toBe(2);
    await expect(guard.run(work)).rejects.toMatchObject({ reason: "BREAKER_OPEN" });
  });

  it("hold for a client, its methods and their policies, option by option", () => {
    const weir = createWeir();
    const policy = inherited({
      retry: inherited({ maxAttempts: 4 }),
      breaker: false as const,
      methods: inherited({ "pkg.S/Get": inherited({ bulkhead: inherited({ maxConcurrent: 3 }) }) }),
    });
    weir.client(policy);
    expect(weir.policy("bulkhead").snapshot()).toHaveLength(1);
    const wrong = inherited({ methods: inherited({ "pkg.S/Get": inherited({ bulkhed: {} }) }) });
    expect(refusal(() => weir.client(wrong as never)).option).toBe(
      'client.methods["pkg.S/Get"].bulkhed',
    );
  });

  it.each<[string, object]>([
    ["server.bulkhead.maxConcurrent", { bulkhead: inherited({ maxConcurrent: -1 }) }],
    [
      "server.admission.limit.max",
      { admission: inherited({ limit: inherited({ algorithm: "elastic", max: -1 }) }) },
    ],
    [
      "server.admission.pressure.sampleMs",
      { admission: { pressure: inherited({ sampleMs: -1 }) } },
    ],
    ["server.quota.burst", { quota: inherited({ ratePerSecond: 5, burst: -1 }) }],
    [
      "server.deadlineGuard.learned.mode",
      { deadlineGuard: { learned: inherited({ mode: "on" }) } },
    ],
    [
      "server.brownout.optional.a.mark",
      { brownout: { pressure: () => 0, optional: inherited({ a: inherited({ mark: 1 }) }) } },
    ],
    ["server.faults.status.code", { faults: { status: inherited({ code: 99 }) } }],
    ["server.priority.default", { priority: inherited({ default: "x" }) }],
  ])("are looked at like any: %s", (option, policy) => {
    expect(refusal(() => createWeir().server(policy as never)).option).toBe(option);
  });

  it("are those of the moment of building", () => {
    const options = { maxAttempts: 3, codes: [14] };
    const resolved = resolveRetryOptions(options);
    options.maxAttempts = 50;
    expect(resolved.maxAttempts).toBe(3);
  });
});
