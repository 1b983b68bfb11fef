import { describe, expect, it } from "vitest";
import { JsonFields } from "../../src/core/json-fields.js";
import { InvalidOptionError } from "../../src/core/options.js";

const config = new JsonFields("config", {
  name: "a",
  none: null,
  zero: 0,
  retry: { max: 3 },
  methods: [{ name: "m" }, { name: "n" }],
  mixed: [{}, 5],
});

describe("the fields of a JSON object", () => {
  it("are those that are set: null counts as absent, and 0 does not", () => {
    expect(config.names).toEqual(["name", "zero", "retry", "methods", "mixed"]);
    expect(["name", "zero", "none", "other"].map((name) => config.has(name))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect([config.get("name"), config.get("zero"), config.get("none")]).toEqual([
      "a",
      0,
      undefined,
    ]);
  });

  it("are its own, and not those of every object", () => {
    expect([config.has("toString"), config.get("toString")]).toEqual([false, undefined]);
    expect(config.object("constructor")).toBeUndefined();
  });

  it("that hold objects and lists of them know their path", () => {
    const { path } = config.object("retry") ?? { path: "none" };
    expect([path, config.object("retry")?.get("max")]).toEqual(["config.retry", 3]);
    const methods = config.objects("methods").map((each) => [each.path, each.get("name")]);
    expect(methods).toEqual([
      ["config.methods[0]", "m"],
      ["config.methods[1]", "n"],
    ]);
    expect(config.list("mixed")).toEqual([{}, 5]);
  });

  it("that are absent hold nothing", () => {
    for (const name of ["none", "other"]) {
      expect([config.object(name), config.list(name), config.objects(name)]).toEqual([
        undefined,
        undefined,
        [],
      ]);
    }
  });

  it.each([
    ["config.name must be an object", () => config.object("name")],
    ["config.methods must be an object", () => config.object("methods")],
    ["config.name must be an array", () => config.list("name")],
    ["config.retry must be an array", () => config.objects("retry")],
    ["config.mixed[1] must be an object", () => config.objects("mixed")],
    ["all must be an object", () => new JsonFields("all", null)],
    ["all must be an object", () => new JsonFields("all", [])],
    ["all must be an object", () => new JsonFields("all", "{}")],
  ])("of the wrong kind are refused: %s", (message, read) => {
    expect(read).toThrow(InvalidOptionError);
    expect(read).toThrow(message);
  });
});
