import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  FlagListeners,
  type FlagSource,
  flagSource,
  staticFlags,
} from "../../../src/policies/flags/source.js";

describe("static flags", () => {
  it("have the values that they were made with, and those that are set later", () => {
    const flags = staticFlags({ "kill.a.B": true, "mode.breaker": "observe" });
    expect(flags.flag("kill.a.B")).toBe(true);
    expect(flags.flag("mode.breaker")).toBe("observe");
    expect(flags.flag("skip.pictures")).toBeUndefined();
    flags.set("skip.pictures", true);
    flags.unset("kill.a.B");
    expect(flags.flag("skip.pictures")).toBe(true);
    expect(flags.flag("kill.a.B")).toBeUndefined();
    expect([...flags.names()]).toEqual(["mode.breaker", "skip.pictures"]);
  });

  it("tell of changes, and of nothing else", () => {
    const flags = staticFlags({ kill: false });
    let told = 0;
    const stop = flags.onChange(() => {
      told += 1;
    });
    flags.set("kill", false);
    flags.unset("kill.a.B");
    expect(told).toBe(0);
    flags.set("kill", true);
    flags.unset("kill");
    expect(told).toBe(2);
    stop();
    flags.set("kill", true);
    expect(told).toBe(2);
  });

  it.each([1, null, undefined, {}, ["enforce"]])("refuse the value %j", (value) => {
    const wrong: Record<string, never> = { kill: value as never };
    expect(() => staticFlags(wrong)).toThrow(InvalidOptionError);
    const flags = staticFlags();
    expect(() => flags.set("kill", value as never)).toThrow(
      /staticFlags\.kill must be true, false or a text/,
    );
    expect(flags.flag("kill")).toBeUndefined();
  });
});

describe("the listeners of a source", () => {
  it("are all told when one of them throws, which is reported", () => {
    const errors: unknown[] = [];
    const listeners = new FlagListeners((error) => void errors.push(error));
    const told: string[] = [];
    const thrown = new Error("first");
    listeners.add(() => {
      throw thrown;
    });
    listeners.add(() => void told.push("second"));
    listeners.tell();
    expect(told).toEqual(["second"]);
    expect(errors).toEqual([thrown]);
  });

  it("are told twice when they were added twice, and removed one at a time", () => {
    const listeners = new FlagListeners();
    let told = 0;
    const listener = () => {
      told += 1;
    };
    const stop = listeners.add(listener);
    listeners.add(listener);
    listeners.tell();
    stop();
    stop();
    listeners.tell();
    expect(told).toBe(3);
  });
});

it.each<[FlagSource, string]>([
  [undefined as never, "it has no flag()"],
  [{ name: "own", flag: (): boolean => true } as never, "it has no onChange()"],
  [{ name: "", flag: (): boolean => true, onChange: () => () => {} }, "source.name must be a name"],
])("what is no source of flags is refused: %j", (given, says) => {
  expect(() => flagSource("source", given)).toThrow(says);
});
